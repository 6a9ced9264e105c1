//! Moving where a group that does not run resumes from: the dry run is a page, its form does it.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use maud::{Markup, html};

use super::Console;
use super::error::PageError;
use super::form::{Asked, Fields, Posted};
use super::layout::{self, Page, Section, choice, confirm, field, grouped, shown, table};
use super::session::Visitor;
use crate::reset_offsets::{Move, Report, Reset, Target};
use crate::when::parse_when;

/// `GET /console/groups/reset`: where to, and what would change.
pub async fn plan(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let group = fields.text("group").unwrap_or_default();
    let planned = match fields.text("to") {
        None => None,
        Some(_) => {
            let reset = reset(&fields)?;
            let planned = reset.plan(&console.kafka).await;
            Some(planned.map_err(|refusal| PageError::conflict(&refusal))?)
        }
    };
    let content = html! {
        p { "A group that runs can't be moved: it would commit its own position over it. What lies before the new offsets is not read, what lies behind them is read again." }
        (form(&fields))
        @if let Some(planned) = &planned {
            h2 { "What would change" }
            (moves(planned))
            @if !planned.partitions.iter().any(Move::changes) {
                p { (shown(group)) " stands there already." }
            } @else {
                p { "Nothing was changed yet." }
                (confirm(
                    &visitor,
                    &Fields::parse(fields.with(&[("planned", &fingerprint(planned))]).as_bytes())?,
                    "/console/groups/reset",
                    &html! { "Move " (shown(group)) },
                    ("/console/groups", "Leave it"),
                ))
            }
        }
    };
    let title = "Move a consumer group";
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Groups),
        title,
        &content,
    ))
}

/// `POST /console/groups/reset`.
pub async fn carry_out(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Posted(fields): Posted,
) -> Result<Page, PageError> {
    let reset = reset(&fields)?;
    let turn = console.turn()?;
    let refused = |refusal: anyhow::Error| PageError::conflict(&refusal);
    let planned = reset.plan(&console.kafka).await.map_err(refused)?;
    let changes = planned.partitions.iter().any(Move::changes);
    // A page that is sent twice would move on by a number twice.
    if changes && fields.text("planned") != Some(fingerprint(&planned).as_str()) {
        return Err(PageError::new(
            StatusCode::CONFLICT,
            "What would be moved is no longer what the page showed. Nothing was changed; look again what would change.",
        ));
    }
    let moved = match changes {
        true => {
            let (kafka, who) = (console.kafka.clone(), visitor.who.clone());
            // In a task of its own: a browser that leaves does not stop it in the middle.
            let work = tokio::spawn(async move {
                let _turn = turn;
                reset.carry_out(planned, &kafka, who).await
            });
            let moved = work.await.map_err(|_| {
                anyhow::anyhow!("the move was cut off; look where the group stands")
            })?;
            Some(moved.map_err(refused)?)
        }
        false => None,
    };
    let content = html! {
        @match &moved {
            Some(moved) => {
                p.done role="status" { (shown(&moved.group)) " resumes elsewhere on " (moved.partitions.len()) " partitions." }
                (moves(moved))
            }
            None => p { "It stood there already." },
        }
        p { a href="/console/groups" { "To the groups" } }
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Groups),
        "A consumer group was moved",
        &content,
    ))
}

/// What a plan changes, so that another one is told from it.
fn fingerprint(report: &Report) -> String {
    let changes = report.partitions.iter().filter(|to| to.changes());
    let moves = changes.map(|to| {
        let from = to
            .from_offset
            .map_or("-".to_owned(), |from| from.to_string());
        format!("{}/{}:{from}>{}", to.topic, to.partition, to.to_offset)
    });
    moves.collect::<Vec<_>>().join(" ")
}

fn reset(fields: &Fields) -> Result<Reset, PageError> {
    let needed = |name: &str| PageError::invalid(format!("{name} is needed for this."));
    let target = match fields.text("to") {
        Some("earliest") => Target::Earliest,
        Some("latest") => Target::Latest,
        Some("offset") => Target::Offset(
            fields
                .read("offset", "Offset or number")?
                .ok_or_else(|| needed("An offset"))?,
        ),
        Some("shift") => Target::Shift(
            fields
                .read("offset", "Offset or number")?
                .ok_or_else(|| needed("A number"))?,
        ),
        Some("time") => Target::Time(
            fields
                .read_by("time", "Time", parse_when)?
                .ok_or_else(|| needed("A time"))?,
        ),
        _ => {
            return Err(PageError::invalid(
                "Say where to: earliest, latest, offset, shift or time.",
            ));
        }
    };
    if matches!(target, Target::Offset(offset) if offset < 0) {
        return Err(PageError::invalid(
            "An offset is not negative; to go back by some records choose that.",
        ));
    }
    Ok(Reset {
        group: fields.text("group").unwrap_or_default().to_owned(),
        topics: fields
            .text("topic")
            .map(str::to_owned)
            .into_iter()
            .collect(),
        partitions: fields.read("partition", "Partition")?.into_iter().collect(),
        target,
    })
}

fn form(fields: &Fields) -> Markup {
    let targets = [
        ("earliest", "The oldest record that is there"),
        ("latest", "The end: what waits is never read"),
        ("time", "The first record of a time or later"),
        ("offset", "An offset"),
        ("shift", "Forth by so many records, or back by -N"),
    ];
    html! {
        form method="get" action="/console/groups/reset" {
            div.fields {
                (field(fields, "group", "Group", ""))
                (choice(fields, "to", "Where to", targets))
                (field(fields, "time", "Time", "2026-11-29T14:00:00Z, or how long ago: 2h"))
                (field(fields, "offset", "Offset or number", ""))
                (field(fields, "topic", "Only this topic", "Empty: those that it has read"))
                (field(fields, "partition", "Only this partition", ""))
            }
            div.buttons { button type="submit" { "Show what would change" } }
        }
    }
}

fn moves(report: &Report) -> Markup {
    let rows = html! {
        @for to in report.partitions.iter().filter(|to| to.changes()) {
            tr {
                td { (shown(&to.topic)) }
                td.n { (to.partition) }
                td.n { (to.from_offset.map_or("–".to_owned(), grouped)) }
                td.n { (grouped(to.to_offset)) }
                td.n { (grouped(to.lag)) }
                td { @if let Some(note) = &to.note { (note) } }
            }
        }
    };
    html! {
        @if report.partitions.iter().any(Move::changes) {
            (table("Moves", &["Topic", "Partition", "From", "To", "Lag then", ""], &rows))
        }
    }
}
