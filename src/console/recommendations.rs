//! What a user should see now, why, and what is known of them.

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use millrace_recommender::{Answer, AnswerItem, Explanation, RecommendRequest};

use super::Console;
use super::error::PageError;
use super::form::{Asked, Fields};
use super::layout::{self, Page, Section, beginning, field, shown, table};
use super::session::Visitor;
use crate::api::users::{self, ProfileAnswer, ProfileQuery};
use crate::output::time;
use crate::token::random_token;

/// Characters of a title or a name.
const NAME_CHARS: usize = 200;

/// `GET /console/recommendations`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let content = html! {
        (form(&fields))
        @if let Some(user) = fields.text("user") {
            (list(&console, user, &fields).await?)
            (known(&console, user).await?)
        }
    };
    let section = Some(Section::Recommendations);
    Ok(layout::page(
        Some(&visitor),
        section,
        "Recommendations",
        &content,
    ))
}

fn form(fields: &Fields) -> Markup {
    html! {
        form method="get" action="/console/recommendations" {
            div.fields {
                (field(fields, "user", "User", "As behavior names them"))
                (field(fields, "scene", "Scene", "Empty: the default one"))
                (field(fields, "count", "How many", "Empty: the scene's"))
            }
            div.buttons { button type="submit" { "Recommend" } }
            p.hint { "Looked at here, the answer is no impression: nothing learns from it." }
        }
    }
}

async fn list(console: &Console, user: &str, fields: &Fields) -> Result<Markup, PageError> {
    let Some(recommender) = &console.recommender else {
        return Err(PageError::not_here(
            "Nothing is recommended by this process; ask the console of `millrace up`, or of `millrace run console` with state.valkey.url.",
        ));
    };
    let answer = recommender.recommend(request(console, user, fields)?).await;
    let answer = answer.map_err(|error| PageError::invalid(error.to_string()))?;
    Ok(html! {
        h2 { "For " (beginning(user, NAME_CHARS)) }
        p.soft {
            "Scene " (shown(&answer.scene)) " · pipeline " (shown(&answer.pipeline)) " · ranked by " (shown(&answer.ranker_version))
            " · " (format!("{:.1}", answer.took_ms)) " ms"
        }
        @if let Some(fallback) = &answer.fallback { p.problem { "A fall-back: " (shown(&fallback.message)) } }
        @for failed in &answer.failed_sources { p.problem { (failed.source.as_str()) ": " (shown(&failed.reason)) } }
        (items(&answer))
    })
}

fn request(console: &Console, user: &str, fields: &Fields) -> Result<RecommendRequest, PageError> {
    Ok(RecommendRequest {
        request_id: random_token()?,
        instance: console.instance.clone(),
        user_id: user.to_owned(),
        scene: fields.text("scene").map(str::to_owned),
        count: fields.read("count", "How many")?,
        explain: true,
        preview: true,
        ..RecommendRequest::default()
    })
}

fn items(answer: &Answer) -> Markup {
    html! {
        @if answer.items.is_empty() { p { "Nothing to recommend." } }
        ol.hits {
            @for item in &answer.items {
                li {
                    strong { (beginning(name(item), NAME_CHARS)) }
                    div.soft {
                        (item.score.map_or("no score".to_owned(), |score| format!("score {score:.3}")))
                        " · found by " (sources(item))
                        @if item.exploration { " · explored, 1 in " (format!("{:.0}", 1.0 / item.propensity)) }
                    }
                    @if let Some(explanation) = &item.explanation { (explained(item, explanation)) }
                }
            }
        }
    }
}

fn name(item: &AnswerItem) -> &str {
    match &item.title {
        Some(title) => title,
        None if item.uri.is_empty() => &item.item_id,
        None => &item.uri,
    }
}

fn sources(item: &AnswerItem) -> String {
    let names: Vec<&str> = item.sources.iter().map(|source| source.as_str()).collect();
    names.join(", ")
}

fn explained(item: &AnswerItem, explanation: &Explanation) -> Markup {
    let sources = html! {
        @for source in &explanation.sources {
            tr { td { (source.source.as_str()) } td.n { (source.rank) } td.n { (format!("{:.4}", source.score)) } }
        }
    };
    let features = html! {
        @for feature in &explanation.features {
            tr {
                td { (shown(&feature.name)) }
                td.n { (feature.value.map_or("missing".to_owned(), |value| format!("{value:.4}"))) }
            }
        }
    };
    html! {
        details {
            summary { "Why " span.soft { (beginning(name(item), NAME_CHARS)) } }
            @if let (Some(score), Some(place)) = (explanation.ranker_score, explanation.ranker_position) {
                p { "The ranker alone has it at " (place) " with " (format!("{score:.4}")) "." }
            }
            (table(&format!("Sources of item {}", item.position), &["Source", "Place there", "Score there"], &sources))
            (table(&format!("Features of item {}", item.position), &["Feature", "Value"], &features))
            @if let Some(trace) = &explanation.signal_traceparent { p.soft { "The trace of its document: " (shown(trace)) } }
        }
    }
}

async fn known(console: &Console, user: &str) -> Result<Markup, PageError> {
    let Some(profiles) = &console.profiles else {
        return Ok(html! {});
    };
    let profile = users::look_up(profiles, user.to_owned(), ProfileQuery::default()).await?;
    Ok(html! {
        h2 { "What is known of them" }
        @if profile.known { (described(&profile)) } @else { p { "Nothing." } }
    })
}

fn described(profile: &ProfileAnswer) -> Markup {
    let counts: Vec<String> = profile
        .counts
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let recent = html! {
        @for item in &profile.recent {
            tr { td { code { (shown(&item.item_id)) } } td { (shown(&item.kind)) } td.n { (time(Some(item.time_ms))) } }
        }
    };
    let affinities = html! {
        @for it in &profile.affinities {
            tr {
                td { (shown(&it.field)) }
                td.wide { (beginning(&it.value, NAME_CHARS)) }
                td.n { (format!("{:.3}", it.interest)) }
                td.n { (format!("{:.3}", it.residual)) }
            }
        }
    };
    html! {
        p { "Latest event " (time(profile.updated_at_ms)) "; " (counts.join(", ")) "." }
        (table("Items of interest, the latest first", &["Item", "Did last", "When"], &recent))
        (table("Interests", &["Field", "Value", "Interest", "Residual"], &affinities))
    }
}
