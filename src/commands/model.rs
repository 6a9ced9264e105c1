//! `millrace model pull|list|show`.

use std::process::ExitCode;

use millrace_models::ModelStore;
use millrace_models::store::{ModelCard, catalog};
use serde_json::json;

use crate::config::Config;
use crate::output::{Output, table};

/// Fetch and inspect sentence encoders.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Fetch a model into the user's store; nothing is fetched twice.
    Pull {
        /// Name of the model, such as `all-MiniLM-L6-v2`.
        name: String,
    },
    /// The models in the store, and those that can be pulled.
    List,
    /// A model's card: architecture, dimension, files, checksums.
    Show {
        /// Name of a model in the store.
        name: String,
    },
}

pub async fn run(args: Args, _config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let store = ModelStore::from_env()?;
    match args.action {
        Action::Pull { name } => pull(&store, &name, output).await?,
        Action::List => list(&store, output)?,
        Action::Show { name } => {
            let card = tokio::task::spawn_blocking(move || store.show(&name)).await??;
            output.result(&card, || describe(&card))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pull(store: &ModelStore, name: &str, output: Output) -> anyhow::Result<()> {
    let bar = output.byte_progress(None);
    let pulled = store
        .pull(name, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })
        .await;
    bar.finish_and_clear();
    let folder = pulled?;
    let report = json!({ "model": name, "folder": folder });
    output.result(&report, || format!("{name} is in {}", folder.display()))
}

fn list(store: &ModelStore, output: Output) -> anyhow::Result<()> {
    let models = store.list()?;
    let available: Vec<&str> = catalog()
        .iter()
        .map(|entry| entry.name)
        .filter(|name| models.iter().all(|model| model.name != *name))
        .collect();
    let report = json!({ "models": models, "available": available });
    output.result(&report, || {
        let header = ["MODEL", "DIMENSION", "MAX TOKENS", "ARCHITECTURE"].map(str::to_owned);
        let mut rows = vec![header.to_vec()];
        rows.extend(models.iter().map(|model| {
            vec![
                model.version.clone(),
                model.dimension.to_string(),
                model.max_tokens.to_string(),
                model.architecture.clone(),
            ]
        }));
        rows.extend(available.iter().map(|name| {
            vec![
                (*name).to_owned(),
                "–".into(),
                "–".into(),
                "not pulled yet".into(),
            ]
        }));
        table(&rows)
    })
}

fn describe(card: &ModelCard) -> String {
    let files: Vec<String> = card
        .files
        .iter()
        .map(|file| format!("  {}  {:>10}  {}", file.sha256, file.bytes, file.path))
        .collect();
    format!(
        "{}\n  {}\n  dimension {}, cut at {} tokens\n  {}\n{}",
        card.version,
        card.architecture,
        card.dimension,
        card.max_tokens,
        card.folder.display(),
        files.join("\n")
    )
}
