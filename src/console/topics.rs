//! All topics, with what the brokers have of them and what is declared.

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use millrace_kafka::TopicDescription;
use millrace_kafka::topics::{TopicSpec, declaration, declared};

use super::Console;
use super::error::PageError;
use super::layout::{self, Page, Section, grouped, shown, table};
use super::session::Visitor;

/// `GET /console/topics`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Page, PageError> {
    let ends = console.admin.all_ends().await?;
    let rows = html! {
        @for (name, partitions) in &ends {
            @let records = partitions.values().map(|ends| ends.next - ends.oldest).sum();
            @let spec = name.strip_prefix(&console.kafka.topic_prefix).and_then(declaration);
            tr {
                th scope="row" { a href={ "/console/topics/" (name) } { (shown(name)) } }
                td.n { (partitions.len()) }
                td.n { (grouped(records)) }
                td { (spec.map_or("not declared".to_owned(), |spec| spec.cleanup_policy.to_string())) }
                td { (spec.map_or("–".to_owned(), kept)) }
            }
        }
    };
    let missing: Vec<&str> = declared()
        .iter()
        .filter(|spec| !ends.contains_key(&console.kafka.topic(&spec.name)))
        .map(|spec| spec.name.as_str())
        .collect();
    let content = html! {
        (table("Topics", &["Topic", "Partitions", "Records", "Cleanup", "Kept"], &rows))
        @if !missing.is_empty() {
            p.problem { "Declared and not there: " (missing.join(", ")) ". " code { "millrace topics create" } " makes them." }
        }
        p.hint { "Records are counted between the ends of partitions; compaction leaves fewer." }
    };
    let title = "Topics";
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Topics),
        title,
        &content,
    ))
}

fn kept(spec: &TopicSpec) -> String {
    let hours = |hours: i64| match hours % 24 {
        0 => format!("{} days", hours / 24),
        _ => format!("{hours} hours"),
    };
    match (spec.retention_hours, spec.delete_retention_hours) {
        (Some(retention), _) => hours(retention),
        (None, Some(tombstones)) => format!("last of each key; tombstones {}", hours(tombstones)),
        (None, None) => "–".to_owned(),
    }
}

/// What the brokers have of one topic: settings and partitions.
pub fn described(topic: &TopicDescription) -> Markup {
    let partitions = html! {
        @for partition in &topic.partitions {
            tr {
                td.n { (partition.partition) }
                td.n { (partition.leader) }
                td.n { (partition.replicas) }
                @if let Some(ends) = partition.ends {
                    td.n { (grouped(ends.oldest)) }
                    td.n { (grouped(ends.next)) }
                } @else {
                    td { "–" } td { "–" }
                }
            }
        }
    };
    html! {
        details {
            summary { "Configuration and partitions" }
            dl {
                @for (name, value) in &topic.settings {
                    dt { (name) } dd { (shown(value)) }
                }
            }
            (table("Partitions", &["Partition", "Leader", "Replicas", "First offset", "Next offset"], &partitions))
        }
    }
}
