//! Consumer groups, how far they are behind by partition, and what that means.

use axum::Extension;
use axum::extract::State;
use maud::html;

use super::Console;
use super::error::PageError;
use super::layout::{self, Page, Section, grouped, rate, shown, table};
use super::session::Visitor;
use crate::lag::{Partition, Report};

/// `GET /console/groups`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Page, PageError> {
    let mut report = console.flow.groups().await?;
    report.mark_paused(&console.members.partitions());
    let rows = html! {
        @for group in &report.groups {
            tr {
                th scope="row" { (shown(&group.group)) }
                td { (group.state.as_deref().map_or("not there yet".into(), shown)) }
                td.n { (group.members) }
                td.n { (grouped(group.lag)) }
                td.n { (format!("{:.1} s", group.lag_seconds)) }
                td data-mark=(group.status) { (group.status) }
                td { a href={ "/console/groups/reset?" (query(&group.group)) } { "Move " span.soft { (shown(&group.group)) } } }
            }
        }
    };
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
            h2 { "Partitions" }
            (partitions(&report))
            p.hint {
                "OK has caught up or is about to; WARN goes on and falls behind; STALL has the partition and does not move; "
                "STOP: records wait and nobody has the partition; REWIND went back. Paused: a consumer of this process has as much in hand as it may and fetches no more until it has done some. Rates need a second look."
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

fn partitions(report: &Report) -> maud::Markup {
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
    let rows = html! { @for partition in &report.partitions { (row(partition)) } };
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
