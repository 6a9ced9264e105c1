//! Dead letters: how many, of which kind, one by one, and what can be done about them.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use millrace_kafka::{ResolvedLetters, ScannedLetter, topics};

use super::Console;
use super::error::PageError;
use super::form::{Asked, Fields};
use super::layout::{self, Page, Section, beginning, choice, field, grouped, lines, shown, table};
use super::session::{Role, Visitor};
use crate::dead_letters::{Filter, FilterArgs, Summary, Tally, describe, visit};
use crate::output::time;
use crate::when::parse_when;

/// Letters that are shown one by one.
const SHOWN: usize = 20;
/// How long letters are counted for a page.
const MAX_TIME: Duration = Duration::from_secs(3);
/// Characters of a message, a key and a value.
const MESSAGE_CHARS: usize = 300;
const VALUE_CHARS: usize = 4_000;

/// `GET /console/dead-letters`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let kafka = &console.kafka;
    let filter = filter_of(&console, &fields)?;
    let all = fields.text("all").is_some();
    let resolved = ResolvedLetters::read(kafka)
        .await
        .map_err(anyhow::Error::new)?;
    let mut tally = Tally::default();
    let mut letters = Newest::default();
    let visited = visit(kafka, &filter, &resolved, |scanned| {
        if all || scanned.resolved.is_none() {
            tally.add(&scanned);
            letters.add(scanned);
        }
        Ok(ControlFlow::Continue(()))
    });
    let visited = tokio::time::timeout(MAX_TIME, visited).await;
    let is_whole = visited.is_ok();
    visited.unwrap_or(Ok(()))?;
    let (summary, letters) = (tally.summary(), letters.taken());
    let content = html! {
        p { (counted(&summary)) }
        @if !is_whole {
            p.problem {
                "There may be more: these were found in " (MAX_TIME.as_secs()) " s. A filter counts less, "
                code { "millrace dlq list" } " all."
            }
        }
        (form(&fields))
        (groups(&summary, &fields))
        @if summary.total > 0 && visitor.role == Role::Operator {
            (order_form(&fields))
        }
        @if !letters.is_empty() {
            h2 { "Letters" }
            @if summary.total > SHOWN as u64 { p.hint { "The newest " (SHOWN) " of them; a filter shows others." } }
            @for scanned in &letters { (letter(scanned)) }
        }
    };
    let title = "Dead letters";
    Ok(layout::page(
        Some(&visitor),
        Some(Section::DeadLetters),
        title,
        &content,
    ))
}

/// The newest letters of many.
#[derive(Default)]
struct Newest(Vec<ScannedLetter>);

impl Newest {
    fn add(&mut self, scanned: ScannedLetter) {
        self.0.push(scanned);
        if self.0.len() >= 2 * SHOWN {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        self.0
            .sort_by_key(|scanned| std::cmp::Reverse(scanned.letter.failed_at_ms()));
        self.0.truncate(SHOWN);
    }

    fn taken(mut self) -> Vec<ScannedLetter> {
        self.shorten();
        self.0
    }
}

/// Which letters a form means.
///
/// # Errors
/// A field can't be read, or names no topic of dead letters.
pub fn filter_of(console: &Console, fields: &Fields) -> Result<Filter, PageError> {
    let list = |name: &str| fields.text(name).map(str::to_owned).into_iter().collect();
    let args = FilterArgs {
        topics: list("topic"),
        stages: list("stage"),
        reasons: list("reason"),
        from_ms: fields.read_by("from", "Failed from", parse_when)?,
        to_ms: fields.read_by("to", "Failed before", parse_when)?,
        key_prefix: fields.text("key").map(str::to_owned),
        origin: fields.read("origin", "Origin")?,
    };
    Filter::new(&args, &console.kafka).map_err(|error| anyhow::Error::new(error).into())
}

fn counted(summary: &Summary) -> String {
    let open = grouped(summary.total as i64);
    let dates = match (summary.oldest_ms, summary.newest_ms) {
        (Some(oldest), Some(newest)) => {
            format!(
                ", failed between {} and {}",
                time(Some(oldest)),
                time(Some(newest))
            )
        }
        _ => String::new(),
    };
    match summary.total {
        0 => "No open dead letters match.".to_owned(),
        1 => format!("1 open dead letter{dates}."),
        _ => format!("{open} open dead letters{dates}."),
    }
}

fn form(fields: &Fields) -> Markup {
    let names: Vec<String> = topics::with_dead_letters()
        .map(topics::dead_letter_topic)
        .collect();
    let topics = [("", "All")]
        .into_iter()
        .chain(names.iter().map(|name| (name.as_str(), name.as_str())));
    html! {
        form method="get" action="/console/dead-letters" {
            div.fields {
                (choice(fields, "topic", "Topic", topics))
                (field(fields, "stage", "Stage", "Such as extract"))
                (field(fields, "reason", "Reason", "Such as unsupported_media_type"))
                (field(fields, "key", "Key begins with", "A path stands for its URI"))
                (field(fields, "from", "Failed from", "A time, or how long ago, such as 7d"))
                (field(fields, "to", "Failed before", "A time, or how long ago"))
                (choice(fields, "all", "Show", [("", "Open ones"), ("yes", "Also replayed and discarded ones")]))
            }
            div.buttons {
                button type="submit" { "Show" }
                a href="/console/dead-letters" { "All open letters" }
            }
        }
    }
}

fn groups(summary: &Summary, fields: &Fields) -> Markup {
    let rows = html! {
        @for group in &summary.groups {
            @let topic = group.topic.as_str();
            @let query = fields.with(&[("topic", topic), ("stage", &group.stage), ("reason", &group.error_type)]);
            tr {
                td { (shown(topic)) }
                td { (beginning(&group.stage, MESSAGE_CHARS)) }
                td { a href={ "/console/dead-letters?" (query) } { (beginning(&group.error_type, MESSAGE_CHARS)) } }
                td.n { (grouped(group.count as i64)) }
                td.n { (grouped(group.keys as i64)) }
                td.n { (grouped(group.replayed as i64)) }
                td.n { (grouped(group.discarded as i64)) }
                td.n { (time(group.newest_ms)) }
                td.wide { (beginning(&group.example, MESSAGE_CHARS)) }
            }
        }
    };
    let header = [
        "Topic",
        "Stage",
        "Reason",
        "Open",
        "Keys",
        "Replayed",
        "Discarded",
        "Newest",
        "Example",
    ];
    html! {
        @if !summary.groups.is_empty() {
            (table("Dead letters by topic, stage and reason", &header, &rows))
        }
    }
}

/// What an order is made of, besides the filter that the page shows.
fn order_form(fields: &Fields) -> Markup {
    html! {
        h2 { "Redrive" }
        p { "First it is counted what would happen to the letters of this filter; nothing is done before you say so there." }
        form method="get" action="/console/dead-letters/order" {
            // What an address says of these must not win over the form's own.
            (layout::hidden(&fields.without(&["act", "max-replays"])))
            div.fields {
                div.field {
                    label for="order-max-replays" { "Leave records alone that were replayed so often" }
                    input id="order-max-replays" name="max-replays" type="number" min="0" max="100" value="2";
                }
            }
            div.buttons {
                button type="submit" name="act" value="replay" { "Plan a replay" }
                button.quiet type="submit" name="act" value="discard" { "Plan to discard" }
            }
        }
    }
}

fn letter(scanned: &ScannedLetter) -> Markup {
    let letter = &scanned.letter;
    let described = describe(scanned);
    let value = serde_json::to_string_pretty(&described["value"]).unwrap_or_default();
    let key = letter.original.key_text();
    html! {
        details {
            summary {
                (beginning(&letter.stage, MESSAGE_CHARS)) ": " (beginning(&letter.error_type, MESSAGE_CHARS)) " · "
                (beginning(key.as_deref().unwrap_or("no key"), MESSAGE_CHARS))
            }
            p { (beginning(&letter.message, MESSAGE_CHARS)) }
            dl {
                dt { "Failed first" } dd { (time(letter.failed_at_ms())) }
                dt { "Attempts" } dd { (letter.attempts) }
                dt { "Replayed" } dd { (letter.history.count) " times" }
                dt { "Its record" }
                dd { (shown(&letter.origin.topic)) " " (letter.origin.partition) "/" (letter.origin.offset) }
                dt { "The letter" }
                dd {
                    a href={ "/console/topics/" (letter.position.topic) "/" (letter.position.partition) "/" (letter.position.offset) } {
                        (letter.position.topic) " " (letter.position.partition) "/" (letter.position.offset)
                    }
                }
                @if let Some(resolved) = &scanned.resolved {
                    dt { "Since then" }
                    dd { (resolved.resolution) " " (time(Some(resolved.at_ms))) " by " (shown(&resolved.who)) }
                }
            }
            pre tabindex="0" role="region" aria-label="Value of the record" { (lines(&value, VALUE_CHARS)) }
        }
    }
}
