//! `millrace stats ITEM`: how users behave towards an item.

use std::process::ExitCode;

use anyhow::Context;
use millrace_schemas::DocId;

use super::status::document_uri;
use crate::api::items::ItemStatsAnswer;
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// Tell how often an item was shown and clicked, and what that means now.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Document id (32 hex digits), path or URI; a line of a corpus is `corpus.jsonl#id`.
    item: String,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let item_id = item_id(&args.item)?;
    let session = Session::attach_or_start(&config, Needs::BEHAVIOR).await?;
    let found = session.api.item_stats(&item_id).await;
    session.close().await;
    let stats = found?;
    output.result(&stats, || text(&stats))?;
    Ok(ExitCode::SUCCESS)
}

fn item_id(item: &str) -> anyhow::Result<String> {
    if item.trim().is_empty() {
        let message = "the item is empty; give a document's id, path or URI";
        return Err(UsageError(message.to_owned()).into());
    }
    if let Some(id) = DocId::parse(&item.to_ascii_lowercase())
        && !std::path::Path::new(item).exists()
    {
        return Ok(id.as_str().to_owned());
    }
    let uri = document_uri(item).with_context(|| format!("{item} is no item"))?;
    Ok(DocId::from_uri(&uri).as_str().to_owned())
}

fn text(stats: &ItemStatsAnswer) -> String {
    if !stats.known {
        return format!(
            "{}: no behavior was counted; `millrace status ITEM` tells whether there is such a document",
            stats.item_id
        );
    }
    let number = |number: Option<f64>| number.map_or("unknown".to_owned(), |n| format!("{n:.2}"));
    let mut lines = vec![
        stats.item_id.clone(),
        format!("  shown {}, clicked {}", stats.impressions, stats.clicks),
    ];
    for (kind, count) in &stats.others {
        lines.push(format!("  {kind} {count}"));
    }
    for name in ["1h", "24h", "7d"] {
        if let Some(decayed) = stats.decayed.get(name) {
            lines.push(format!(
                "  half-life {name}: shown {:.1}, clicked {:.1}, click-through rate {:.3}",
                decayed.impressions, decayed.clicks, decayed.ctr
            ));
        }
    }
    lines.push(format!(
        "  clicks over those expected at its positions {}, velocity {}",
        number(stats.coec),
        number(stats.velocity)
    ));
    lines.join("\n")
}
