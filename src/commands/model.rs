//! `millrace model pull|list|show|import|export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use indicatif::ProgressBar;
use millrace_models::ModelStore;
use millrace_models::store::{InvalidReference, ModelCard, ModelReference, catalog};
use millrace_retry::error_chain;
use serde_json::json;

use crate::cli::UsageError;
use crate::config::Config;
use crate::output::{Output, table};
use crate::shared_store::SharedStore;

/// Fetch, inspect, import and export models.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Fetch a model into the user's store; nothing is fetched twice.
    Pull {
        /// Name of the model, such as `all-MiniLM-L6-v2`, or NAME or NAME:VERSION of the store that
        /// machines share (`model.shared_store`).
        name: String,
    },
    /// The models in the store, those of the shared one, and those that can be pulled.
    List,
    /// A model's card: architecture, dimension, metrics, lineage, files, checksums.
    Show {
        /// A model in the store, NAME or NAME:VERSION.
        model: String,
    },
    /// Bring a version into the store, and into the shared one where there is one: checked, tried, and
    /// there whole or not at all.
    Import {
        /// A sentence-transformers or cross-encoder folder, or a `.mar` archive that holds one, with
        /// safetensors weights.
        source: PathBuf,
        /// Its name and version there. Default: its own, with the fingerprint as version.
        #[arg(long = "as", value_name = "NAME[:VERSION]")]
        named: Option<String>,
    },
    /// Write a stored version as a folder or as a `.mar` archive.
    Export {
        /// A model in the store, NAME or NAME:VERSION.
        model: String,
        /// Where to; a `.mar` at its end makes it an archive.
        target: PathBuf,
    },
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let store = ModelStore::from_env()?;
    match args.action {
        Action::Pull { name } => pull(&store, &config, &name, output).await?,
        Action::List => list(&store, &config, output).await?,
        Action::Show { model } => {
            let model = reference(&model)?;
            let card = tokio::task::spawn_blocking(move || store.show(&model)).await??;
            output.result(&card, || describe(&card))?;
        }
        Action::Import { source, named } => {
            let named = named.as_deref().map(reference).transpose()?;
            let bar = output.progress(None, "files");
            let shown = bar.clone();
            let import = move || store.import(&source, named.as_ref(), &mut draw(&shown));
            let imported = tokio::task::spawn_blocking(import).await?;
            bar.finish_and_clear();
            let card = imported?;
            if let Some(shared) = SharedStore::to_write(&config)? {
                shared.put(&card).await.with_context(|| {
                    format!(
                        "{} is in this machine's store, and not in the shared one; import it again to \
                         bring it there",
                        card.name
                    )
                })?;
            }
            output.result(&card, || describe(&card))?;
        }
        Action::Export { model, target } => {
            let model = reference(&model)?;
            let bar = output.progress(None, "files");
            let (shown, to) = (bar.clone(), target.clone());
            let export = move || store.export(&model, &to, &mut draw(&shown));
            let exported = tokio::task::spawn_blocking(export).await?;
            bar.finish_and_clear();
            let card = exported?;
            let report = json!({ "model": card.version, "target": target });
            output.result(&report, || {
                format!("{} is in {}", card.version, target.display())
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A text that names no model is wrong usage.
fn reference(text: &str) -> anyhow::Result<ModelReference> {
    text.parse()
        .map_err(|error: InvalidReference| UsageError(error.to_string()).into())
}

fn draw(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

async fn pull(
    store: &ModelStore,
    config: &Config,
    name: &str,
    output: Output,
) -> anyhow::Result<()> {
    let bar = output.byte_progress(None);
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let is_catalogued = catalog().iter().any(|entry| entry.name == name);
    let shared = match is_catalogued {
        true => None,
        false => SharedStore::of(config)?,
    };
    let pulled = match shared {
        Some(shared) => {
            let fetched = shared.fetch(&reference(name)?, store, &mut progress).await;
            fetched.map(|card| card.folder)
        }
        None => store.pull(name, &mut progress).await.map_err(Into::into),
    };
    bar.finish_and_clear();
    let folder = pulled?;
    let report = json!({ "model": name, "folder": folder });
    output.result(&report, || format!("{name} is in {}", folder.display()))
}

async fn list(store: &ModelStore, config: &Config, output: Output) -> anyhow::Result<()> {
    let models = store.list()?;
    let listed = async {
        match SharedStore::of(config)? {
            Some(shared) => shared.list().await,
            None => Ok(Vec::new()),
        }
    };
    // What is here is told whether the other is away or not.
    let shared = listed.await.unwrap_or_else(|error| {
        eprintln!("warning: {}", error_chain(error.as_ref()));
        Vec::new()
    });
    let elsewhere = shared
        .iter()
        .map(|release| release.reference().to_string())
        .filter(|name| models.iter().all(|model| model.name != *name));
    let elsewhere: Vec<String> = elsewhere.collect();
    let available: Vec<&str> = catalog()
        .iter()
        .map(|entry| entry.name)
        .filter(|name| models.iter().all(|model| model.name != *name))
        .collect();
    let report = json!({ "models": models, "shared": shared, "available": available });
    output.result(&report, || {
        let header =
            ["NAME", "MODEL", "DIMENSION", "MAX TOKENS", "ARCHITECTURE"].map(str::to_owned);
        let mut rows = vec![header.to_vec()];
        rows.extend(models.iter().map(|model| {
            vec![
                model.name.clone(),
                model.version.clone(),
                dimension(model),
                model.max_tokens.to_string(),
                model.architecture.clone(),
            ]
        }));
        let absent = |name: &str, why: &str| {
            vec![
                name.to_owned(),
                "–".into(),
                "–".into(),
                "–".into(),
                why.to_owned(),
            ]
        };
        let in_shared = elsewhere
            .iter()
            .map(|name| absent(name, "in the shared store"));
        rows.extend(in_shared);
        let in_catalog = available.iter().map(|name| absent(name, "not pulled yet"));
        rows.extend(in_catalog);
        table(&rows)
    })
}

/// Of its vectors; a cross-encoder has none.
fn dimension(card: &ModelCard) -> String {
    card.dimension
        .map_or_else(|| "–".to_owned(), |length| length.to_string())
}

fn describe(card: &ModelCard) -> String {
    let files: Vec<String> = card
        .files
        .iter()
        .map(|file| format!("  {}  {:>10}  {}", file.sha256, file.bytes, file.path))
        .collect();
    let release = card.release.as_ref().map_or_else(String::new, |release| {
        let told = |name: &str, values: &serde_json::Map<String, serde_json::Value>| {
            let values = values
                .iter()
                .map(|(key, value)| format!("\n  {name} {key}: {value}"));
            values.collect::<String>()
        };
        format!(
            "\n  version {}, from {}{}{}",
            release.version,
            release.source,
            told("metric", &release.metrics),
            told("lineage", &release.lineage)
        )
    });
    format!(
        "{}\n  {}\n  {}cut at {} tokens\n  {}{release}\n{}",
        card.version,
        card.architecture,
        card.dimension
            .map_or(String::new(), |length| format!("dimension {length}, ")),
        card.max_tokens,
        card.folder.display(),
        files.join("\n")
    )
}
