//! Consumer groups, how far they are behind by partition, and what that means.

use axum::Extension;
use axum::extract::State;
use maud::html;

use super::Console;
use super::error::PageError;
use super::form::Asked;
use super::layout::{self, Page, Section, grouped, rate, shown, table};
use super::session::Visitor;
use crate::lag::Partition;

/// Partitions that are shown at most.
const SHOWN: usize = 300;

/// `GET /console/groups`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Asked(fields): Asked,
) -> Result<Page, PageError> {
    let report = console.flow.groups().await?;
    let rows = html! {
        @for group in &report.groups {
            tr {
                th scope="row" { a href={ "/console/groups?" (query(&group.group)) "#partitions" } { (shown(&group.group)) } }
                td { (group.state.as_deref().map_or("not there yet".into(), shown)) }
                td.n { (group.members) }
                td.n { (grouped(group.lag)) }
                td.n { (format!("{:.1} s", group.lag_seconds)) }
                td data-mark=(group.status) { (group.status) }
                td { a href={ "/console/groups/reset?" (query(&group.group)) } { "Move " span.soft { (shown(&group.group)) } } }
            }
        }
    };
    let only = fields.text("group");
    let of_group = |it: &&Partition| only.is_none_or(|group| it.group == group);
    let listed: Vec<&Partition> = report.partitions.iter().filter(of_group).collect();
    let count = listed.len();
    let listed = &listed[..count.min(SHOWN)];
    let header = [
        "Group",
        "State",
        "Members",
        "Lag, records",
        "Oldest",
        "Status",
        "Offsets",
    ];
    let content = html! {
        @if report.groups.is_empty() {
            p { "No consumer group has read anything yet." }
        } @else {
            (table("Consumer groups", &header, &rows))
            h2 id="partitions" { "Partitions" @if let Some(group) = only { " of " (shown(group)) } }
            (partitions(listed))
            @if count > listed.len() {
                p.hint {
                    "These are " (listed.len()) " of " (grouped(count as i64)) ", those in trouble first; the name of a group shows its own. "
                    code { "millrace lag" } " tells all."
                }
            }
            @if only.is_some() { p { a href="/console/groups" { "Partitions of all groups" } } }
            p.hint {
                "OK has caught up or is about to; WARN goes on and falls behind; ERR: a partition is at STALL, STOP or REWIND; STALL has the partition and does not move; "
                "STOP: records wait and nobody has the partition; REWIND went back. Paused: a consumer of this process has as much in hand as it may and fetches no more until it has done some. Rates need a second look."
            }
            p.hint {
                "Groups of replays have nobody in them by design: STOP of a " code { "dlq-replay.…" } " means that "
                a href="/console/dead-letters" { "letters" } " came after the last replay; of a " code { "replay.…" }
                ", that a replay was stopped, which the same " code { "millrace replay" } " goes on with."
            }
        }
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Groups),
        "Consumer groups",
        &content,
    ))
}

fn query(group: &str) -> String {
    serde_urlencoded::to_string([("group", group)]).unwrap_or_default()
}

fn partitions(listed: &[&Partition]) -> maud::Markup {
    let row = |it: &Partition| {
        html! {
            tr {
                td { (shown(&it.group)) }
                td { (shown(&it.topic)) }
                td.n { (it.partition) }
                td.n { (grouped(it.current_offset)) }
                td.n { (grouped(it.end_offset)) }
                td.n { (grouped(it.lag)) }
                td.n { (it.seconds()) }
                td.n { (rate(Some(it.rate_per_second))) }
                td.n { (it.left()) }
                td { (it.status_text()) }
                td { (it.client_id.as_deref().map_or("–".into(), shown)) }
            }
        }
    };
    let rows = html! { @for partition in listed { (row(partition)) } };
    let header = [
        "Group",
        "Topic",
        "Partition",
        "Offset",
        "End",
        "Lag",
        "Seconds",
        "Reads",
        "Left",
        "Status",
        "Member",
    ];
    table("Lag by partition", &header, &rows)
}
