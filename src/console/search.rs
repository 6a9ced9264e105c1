//! The search playground: the ranking in force beside the one of other weights.

use std::collections::HashMap;

use axum::Extension;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};
use millrace_index::Mode;

use super::Console;
use super::error::PageError;
use super::form::{Asked, Fields};
use super::layout::{self, Page, Section, beginning, shown};
use super::session::Visitor;
use crate::api::search::{FoundDocument, SearchQuery, answer};

/// Documents of a ranking.
const K: usize = 10;
/// Characters of a title and of a passage.
const TITLE_CHARS: usize = 160;
const SNIPPET_CHARS: usize = 300;

/// The weights of a hybrid search; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weights {
    text: f32,
    vector: f32,
}

/// `GET /console/search`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let in_force = in_force(&console);
    let tried = tried(&fields, in_force)?;
    let query = fields.text("q");
    let content = html! {
        (form(&fields, tried))
        p.aloud id="ranked" aria-live="polite" {}
        div id="rankings" {
            @if let Some(query) = query { (ranked(&console, query, in_force, tried).await?) }
        }
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Search),
        "Search",
        &content,
    ))
}

/// `GET /console/search/rankings`: what the page's script puts in while a slider moves.
pub async fn rankings(
    State(console): State<Console>,
    Asked(fields): Asked,
) -> Result<Response, PageError> {
    let in_force = in_force(&console);
    let tried = tried(&fields, in_force)?;
    let query = fields
        .text("q")
        .ok_or_else(|| PageError::invalid("Say what to search for."))?;
    let found = ranked(&console, query, in_force, tried).await?;
    Ok(Html(found.into_string()).into_response())
}

fn in_force(console: &Console) -> Weights {
    let weights = console
        .recommender
        .as_ref()
        .map(|recommender| recommender.config(&console.instance).hybrid_ranking);
    weights.map_or(
        Weights {
            text: millrace_index::DEFAULT_BM25_WEIGHT,
            vector: millrace_index::DEFAULT_VECTOR_WEIGHT,
        },
        |weights| Weights {
            text: weights.bm25_weight as f32,
            vector: weights.vector_weight as f32,
        },
    )
}

/// The weights of the sliders: in proportion, so that they sum to 1 where no script keeps them so.
fn tried(fields: &Fields, in_force: Weights) -> Result<Weights, PageError> {
    let text: Option<f32> = fields.read("bm25", "Weight of the words")?;
    let vector: Option<f32> = fields.read("vector", "Weight of the meaning")?;
    let (text, vector) = match (text, vector) {
        (None, None) => return Ok(in_force),
        (Some(text), None) => (text, 1.0 - text),
        (None, Some(vector)) => (1.0 - vector, vector),
        (Some(text), Some(vector)) => (text, vector),
    };
    let sum = text + vector;
    let is_weight = |weight: f32| (0.0..=1.0).contains(&weight);
    if !is_weight(text) || !is_weight(vector) || sum <= 0.0 {
        return Err(PageError::invalid(
            "Weights lie between 0 and 1, and one of them is above 0.",
        ));
    }
    let text = text / sum;
    Ok(Weights {
        text,
        vector: 1.0 - text,
    })
}

fn form(fields: &Fields, tried: Weights) -> Markup {
    let slider = |name: &str, label: &str, weight: f32| {
        html! {
            div.field {
                label for=(name) { (label) " " output for=(name) { (format!("{weight:.2}")) } }
                input id=(name) name=(name) type="range" min="0" max="1" step="0.05" value=(format!("{weight:.2}"));
            }
        }
    };
    html! {
        form method="get" action="/console/search" data-rankings-of="/console/search/rankings" {
            div.field {
                label for="q" { "Words or a question" }
                input id="q" name="q" type="search" maxlength="2000" value=(fields.raw("q")) required;
            }
            div.fields {
                (slider("bm25", "Words (BM25)", tried.text))
                (slider("vector", "Meaning (vectors)", tried.vector))
            }
            div.buttons { button type="submit" { "Search" } }
        }
    }
}

async fn ranked(
    console: &Console,
    query: &str,
    in_force: Weights,
    tried: Weights,
) -> Result<Markup, PageError> {
    let Some(search) = &console.search else {
        return Err(PageError::not_here(
            "This process has no index; ask the console of `millrace up` or `millrace run console`.",
        ));
    };
    let find = async |weights: Weights| {
        let query = SearchQuery {
            mode: Mode::Hybrid,
            bm25_weight: weights.text,
            vector_weight: weights.vector,
            k: K,
            ..SearchQuery::new(query)
        };
        answer(search, query).await
    };
    let now = find(in_force).await?;
    let other = find(tried).await?;
    let place = |hits: &[FoundDocument]| -> HashMap<String, usize> {
        let hits = hits.iter().enumerate();
        hits.map(|(place, hit)| (hit.doc_id.clone(), place))
            .collect()
    };
    let (places_now, places_then) = (place(&now.hits), place(&other.hits));
    let moved = other.hits.iter().enumerate();
    let moved = moved
        .filter(|(place, hit)| places_now.get(&hit.doc_id) != Some(place))
        .count();
    let told = match (now.hits.len(), moved) {
        (0, _) => "Nothing was found.".to_owned(),
        (_, 0) => "Both rankings are the same.".to_owned(),
        (_, 1) => "One document stands elsewhere.".to_owned(),
        (_, moved) => format!("{moved} documents stand elsewhere."),
    };
    let weights =
        |weights: Weights| format!("words {:.2}, meaning {:.2}", weights.text, weights.vector);
    Ok(html! {
        div data-rankings=(told) {
            p { (told) }
            div.side-by-side {
                section aria-labelledby="in-force" {
                    h2 id="in-force" { "In force" }
                    p.hint { (weights(in_force)) " · " (format!("{:.1}", now.took_ms)) " ms" }
                    ol.hits { @for hit in &now.hits {
                        (found(hit, &left(places_then.get(&hit.doc_id).copied())))
                    } }
                }
                section aria-labelledby="tried" {
                    h2 id="tried" { "With the sliders" }
                    p.hint { (weights(tried)) " · " (format!("{:.1}", other.took_ms)) " ms" }
                    ol.hits { @for (place, hit) in other.hits.iter().enumerate() {
                        (found(hit, &came(place, places_now.get(&hit.doc_id).copied())))
                    } }
                }
            }
        }
    })
}

/// A mark beside a document: its class and its text.
type Mark = Option<(&'static str, String)>;

/// Of the ranking in force: what falls out of the other one.
fn left(then: Option<usize>) -> Mark {
    then.is_none()
        .then(|| ("gone", "not among these with the sliders".to_owned()))
}

/// Of the ranking that is tried: where it comes from.
fn came(place: usize, before: Option<usize>) -> Mark {
    match before {
        None => Some(("new", "new".to_owned())),
        Some(before) if before > place => Some(("up", format!("▲ up {}", before - place))),
        Some(before) if before < place => Some(("down", format!("▼ down {}", place - before))),
        Some(_) => None,
    }
}

fn found(hit: &FoundDocument, mark: &Mark) -> Markup {
    let score = |score: Option<f32>| score.map_or("–".to_owned(), |score| format!("{score:.3}"));
    html! {
        li.moved[mark.is_some()] {
            strong { (beginning(hit.title.as_deref().unwrap_or(&hit.uri), TITLE_CHARS)) }
            @if let Some((class, text)) = mark { " " span class={ "mark " (class) } { (text) } }
            div.soft { (format!("{:.3}", hit.score)) " · BM25 " (score(hit.text_score)) " · cosine " (score(hit.vector_score)) }
            div { (beginning(&hit.snippet, SNIPPET_CHARS)) }
            div.soft { (shown(&hit.uri)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_FORCE: Weights = Weights {
        text: 0.3,
        vector: 0.7,
    };

    #[test]
    fn weights_sum_to_one() {
        let of = |query: &str| tried(&Fields::parse(query.as_bytes()).unwrap(), IN_FORCE);
        assert_eq!(of("").unwrap(), IN_FORCE);
        assert_eq!(of("bm25=0.25").unwrap().vector, 0.75);
        let both = of("bm25=1&vector=1").unwrap();
        assert_eq!((both.text, both.vector), (0.5, 0.5));
        for wrong in [
            "bm25=0&vector=0",
            "bm25=-1",
            "vector=NaN",
            "bm25=2&vector=0",
            "bm25=x",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mark_says_where_a_document_came_from() {
        let text = |mark: Mark| mark.map(|(_, text)| text);
        assert_eq!(text(came(0, Some(3))).as_deref(), Some("▲ up 3"));
        assert_eq!(text(came(3, Some(0))).as_deref(), Some("▼ down 3"));
        assert_eq!(text(came(3, None)).as_deref(), Some("new"));
        assert_eq!(text(came(3, Some(3))), None);
        assert!(left(None).is_some() && left(Some(9)).is_none());
    }
}
