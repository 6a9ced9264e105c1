//! Encoders and rankers: which serve, which could, and what is known of each version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use millrace_models::ModelStore;
use millrace_models::store::ModelCard;
use millrace_retry::error_chain;

use super::Console;
use super::error::PageError;
use super::layout::{self, Page, Section, grouped, shown, table};
use super::session::Visitor;
use crate::output::{bytes, time};

/// How long what was read of the store is shown: each version's files are hashed for it.
const FRESH: Duration = Duration::from_secs(60);

/// What was read of the model store last.
#[derive(Default)]
pub struct Stored(tokio::sync::Mutex<Option<(Instant, Arc<Vec<ModelCard>>)>>);

impl Stored {
    async fn cards(&self) -> anyhow::Result<Arc<Vec<ModelCard>>> {
        let mut stored = self.0.lock().await;
        if let Some((at, cards)) = stored.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(cards));
        }
        let list = || anyhow::Ok(ModelStore::from_env()?.list()?);
        let cards = Arc::new(tokio::task::spawn_blocking(list).await??);
        *stored = Some((Instant::now(), Arc::clone(&cards)));
        Ok(cards)
    }
}

/// `GET /console/models`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Page, PageError> {
    let stored = console.models.cards().await;
    let content = html! {
        h2 { "Encoder" }
        (encoder(&console).await)
        @match &stored {
            Ok(cards) => (versions(cards, in_use(&console).await.as_deref())),
            Err(error) => p.problem { "The model store can't be read: " (shown(&error_chain(error.as_ref()))) },
        }
        h2 { "Ranker" }
        (rankers(&console))
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Models),
        "Models",
        &content,
    ))
}

async fn encoder(console: &Console) -> Markup {
    let Some(search) = &console.search else {
        return html! { p { "This process has no encoder." } };
    };
    let serving = match search.serving().await {
        Ok(serving) => serving,
        Err(error) => {
            return html! { p.problem { "Nothing serves: " (shown(error.message())) } };
        }
    };
    let encoder = &serving.encoder;
    let index = serving.index.describe().await;
    let counts = serving.index.count().await;
    html! {
        dl {
            dt { "In use" } dd { code { (shown(encoder.version())) } }
            dt { "Dimension" } dd { (encoder.dimension()) }
            dt { "Reads up to" } dd { (encoder.max_tokens()) " tokens" }
            @match &index {
                Ok(index) => {
                    dt { "Index" } dd { (shown(&index.reads)) ", " (index.adapter) " " (shown(&index.engine_version)) }
                    dt { "Its vectors are of" } dd { code { (shown(&index.model_version)) } }
                }
                Err(error) => { dt { "Index" } dd { "does not answer: " (shown(&error.to_string())) } }
            }
            @if let Ok(counts) = &counts {
                dt { "It holds" }
                dd { (grouped(counts.documents as i64)) " documents, " (grouped(counts.chunks as i64)) " chunks, " (grouped(counts.tombstones as i64)) " tombstones" }
            }
        }
    }
}

/// Version of the model that serves, where one does.
async fn in_use(console: &Console) -> Option<String> {
    let serving = console.search.as_ref()?.serving().await.ok()?;
    Some(serving.encoder.version().to_owned())
}

fn versions(cards: &[ModelCard], in_use: Option<&str>) -> Markup {
    let rows = html! {
        @for card in cards {
            @let size: u64 = card.files.iter().map(|file| file.bytes).sum();
            @let imported = card.release.as_ref().map(|release| release.imported_at_ms).filter(|at| *at > 0);
            tr {
                th scope="row" { (shown(&card.name)) }
                td { code { (shown(&card.version)) } @if in_use == Some(card.version.as_str()) { " in use" } }
                td { (shown(&card.architecture)) }
                td.n { (card.dimension.map_or_else(|| "–".to_owned(), |length| length.to_string())) }
                td.n { (bytes(size)) }
                td.n { (time(imported.and_then(|at| i64::try_from(at).ok()))) }
                td.wide { (card.release.as_ref().map_or(String::new(), |release| metrics(&release.metrics))) }
            }
        }
    };
    html! {
        h3 { "Versions in the store" }
        @if cards.is_empty() {
            p { "None. " code { "millrace model pull" } " fetches one, " code { "millrace model import" } " brings one in." }
        } @else {
            (table("Versions in the model store", &["Name", "Version", "Architecture", "Dimension", "Size", "Imported", "Measured"], &rows))
        }
    }
}

fn metrics(metrics: &serde_json::Map<String, serde_json::Value>) -> String {
    let told: Vec<String> = metrics
        .iter()
        .map(|(name, value)| format!("{} {}", shown(name), shown(&value.to_string())))
        .collect();
    told.join(", ")
}

fn rankers(console: &Console) -> Markup {
    let Some(recommender) = &console.recommender else {
        return html! { p { "This process recommends nothing." } };
    };
    let status = match recommender.deployment() {
        Ok(status) => status,
        Err(error) => {
            return html! { p.problem { "The rankers can't be read: " (shown(&error.to_string())) } };
        }
    };
    let rows = html! {
        @for name in &status.available {
            tr {
                th scope="row" { (shown(name)) }
                td {
                    @if *name == status.deployed { "serves" }
                    @else if let Some(reason) = status.unusable.get(name) { "can't serve: " (shown(reason)) }
                    @else if status.previous.as_deref() == Some(name) { "served before" }
                    @else { "could serve" }
                }
            }
        }
    };
    html! {
        dl {
            dt { "Serves" } dd { (shown(&status.deployed)) " (" code { (shown(&status.ranker_version)) } ")" }
            dt { "Before it" } dd { (status.previous.as_deref().map_or("nothing".into(), shown)) }
        }
        @if let Some(problem) = &status.problem { p.problem { (shown(problem)) } }
        @if status.available.is_empty() {
            p { "No trained ranker in the data folder. " code { "millrace train ranker" } " makes one, " code { "millrace deploy" } " has it serve." }
        } @else {
            (table("Rankers in the data folder", &["Ranker", "State"], &rows))
        }
    }
}
