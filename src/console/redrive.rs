//! Replaying and discarding dead letters: the dry run is a page to look at, its form does it.

use axum::Extension;
use axum::extract::State;
use indicatif::ProgressBar;
use maud::{Markup, html};
use millrace_retry::error_chain;

use super::Console;
use super::dead_letters::filter_of;
use super::error::PageError;
use super::form::{Asked, Fields, Posted};
use super::layout::{self, Page, Section, confirm, grouped, shown, table};
use super::session::Visitor;
use crate::dead_letters::{Act, Order, Plan, Report, told};
use crate::output::bytes;

/// Letters of one order: what a page may be waited for.
const MAX_LETTERS: u64 = 10_000;
/// Replays of a record that are taken for enough, as for `millrace dlq replay`.
const MAX_REPLAYS: u32 = 2;

/// `GET /console/dead-letters/order`: what would happen.
pub async fn plan(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    // What is decided on is what is shown: letters that come meanwhile are not part of it.
    let now = jiff::Timestamp::now().to_string();
    let to = fields.text("to").unwrap_or(&now);
    let fields = Fields::parse(fields.with(&[("to", to)]).as_bytes())?;
    let order = order(&console, &fields)?;
    let act = order.act;
    let planned = order.plan(&console.kafka).await?;
    let (name, to_do) = match act {
        Act::Replay { .. } => ("Replay dead letters", "Replay"),
        Act::Discard => ("Discard dead letters", "Discard"),
    };
    let content = html! {
        @if planned.plan.selected == 0 {
            p { "There is nothing to do." }
            (left_open(&planned.plan))
        } @else {
            p { (shown(&planned.question())) " Nothing was done yet." }
            (by_topic(&planned.plan))
            (left_open(&planned.plan))
            (confirm(
                &visitor,
                &fields,
                "/console/dead-letters/order",
                &html! { (to_do) " " (grouped(planned.plan.selected as i64)) },
                (&format!("/console/dead-letters?{}", back(&fields)), "Leave them"),
            ))
        }
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::DeadLetters),
        name,
        &content,
    ))
}

/// `POST /console/dead-letters/order`: what has happened.
pub async fn carry_out(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Posted(fields): Posted,
) -> Result<Page, PageError> {
    let order = order(&console, &fields)?;
    let turn = console.turn()?;
    let kafka = console.kafka.clone();
    let who = visitor.who.clone();
    // In a task of its own: a browser that leaves does not stop it in the middle.
    let work = tokio::spawn(async move {
        let _turn = turn;
        let planned = order.plan(&kafka).await?;
        if planned.plan.selected == 0 {
            return anyhow::Ok(None);
        }
        planned
            .carry_out(who, ProgressBar::hidden())
            .await
            .map(Some)
    });
    let carried = work
        .await
        .map_err(|_| anyhow::anyhow!("the order was cut off; look what is still open"))??;
    let content = html! {
        @match &carried {
            None => p { "There was nothing to do any more." },
            Some(carried) => {
                (became(&carried.report))
                @if let Some(failure) = &carried.failure {
                    p.problem role="alert" { "Not all was done, the rest is open: " (shown(&error_chain(failure.as_ref()))) }
                }
                (left_open(&carried.report.plan))
            }
        }
        p { a href={ "/console/dead-letters?" (back(&fields)) } { "What is still open" } }
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::DeadLetters),
        "Done with dead letters",
        &content,
    ))
}

fn order(console: &Console, fields: &Fields) -> Result<Order, PageError> {
    let act = match fields.text("act") {
        Some("replay") => Act::Replay {
            max_replays: fields
                .read("max-replays", "Replays")?
                .unwrap_or(MAX_REPLAYS),
        },
        Some("discard") => Act::Discard,
        _ => {
            return Err(PageError::invalid(
                "Say what is to be done: act=replay or act=discard.",
            ));
        }
    };
    Ok(Order {
        act,
        filter: filter_of(console, fields)?,
        max: Some(MAX_LETTERS),
        rate: None,
    })
}

/// The list of letters that the order came from.
fn back(fields: &Fields) -> String {
    fields.with(&[("act", ""), ("max-replays", ""), ("csrf", "")])
}

fn by_topic(plan: &Plan) -> Markup {
    let rows = html! {
        @for topic in &plan.topics {
            tr {
                td { (shown(&topic.topic)) }
                td { (topic.target.as_deref().map_or("stay there, done with".into(), shown)) }
                td.n { (grouped(topic.selected as i64)) }
                td.n { (bytes(topic.bytes)) }
            }
        }
    };
    let kinds = html! {
        @for (reason, count) in &plan.by_reason {
            tr { td { (shown(reason)) } td.n { (grouped(*count as i64)) } }
        }
    };
    html! {
        (table("By topic", &["Letters on", "Go to", "Letters", "Size"], &rows))
        (table("By reason", &["Reason", "Letters"], &kinds))
    }
}

/// What an order leaves open, and why.
fn left_open(plan: &Plan) -> Markup {
    html! {
        @if plan.capped > 0 {
            p { (grouped(plan.capped as i64)) " were replayed often enough and stay open." }
        }
        @if plan.beyond_max > 0 {
            p { (grouped(plan.beyond_max as i64)) " are more than one order does and stay open; order again." }
        }
        @for (reason, count) in &plan.unreplayable {
            p { (grouped(*count as i64)) " can't be replayed and stay open: " (told(reason)) "." }
        }
    }
}

fn became(report: &Report) -> Markup {
    let done = &report.done;
    html! {
        p.done role="status" {
            @match report.act {
                Act::Replay { .. } => {
                    (grouped((done.replayed + done.recovered) as i64)) " of " (grouped(report.plan.selected as i64)) " dead letters were replayed."
                }
                Act::Discard => {
                    (grouped(done.discarded as i64)) " of " (grouped(report.plan.selected as i64)) " dead letters were discarded."
                }
            }
        }
        @if done.recovered > 0 {
            p { (grouped(done.recovered as i64)) " had been published by a replay that was cut off, and were not published again." }
        }
        @if done.refused > 0 {
            p.problem { (grouped(done.refused as i64)) " were refused by their topic and stay open:" }
            ul {
                @for refused in &done.first_refused {
                    li { (refused.position) ": " (shown(&refused.reason)) }
                }
            }
        }
        @if done.interrupted { p.problem { "Stopped before the end; the rest is open." } }
    }
}
