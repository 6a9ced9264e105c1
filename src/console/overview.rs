//! The overview: the dataflow with live rates and lag.

use axum::Extension;
use axum::extract::State;
use maud::html;

use super::Console;
use super::flow::stages::STAGES;
use super::flow::{drawing, stage_cells};
use super::layout::{self, Page, Section, grouped, rate, shown, table};
use super::session::Visitor;

/// `GET /console/`.
pub async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Page {
    let seen = console.flow.look().await;
    let stages = html! {
        @for stage in STAGES {
            tr {
                th scope="row" { (stage.name) }
                @for (what, text) in stage_cells(seen.stages.get(stage.name)) {
                    @if what == "status" {
                        td data-figure={ (what) " " (stage.name) } data-status=(stage.name) data-mark=(seen.mark(stage.name)) { (text) }
                    } @else {
                        td.n data-figure={ (what) " " (stage.name) } { (text) }
                    }
                }
                td.wide { (stage.does) }
            }
        }
    };
    let topics = html! {
        @for (name, figures) in &seen.topics {
            tr {
                th scope="row" {
                    a href={ "/console/topics/" (console.kafka.topic(name)) } { (shown(name)) }
                }
                td.n data-figure={ "records " (name) } { (grouped(figures.records)) }
                td.n data-figure={ "rate " (name) } { (rate(figures.per_second)) }
            }
        }
    };
    let content = html! {
        div data-live="/console/flow.json" {
            p data-summary aria-live="polite" { (shown(&seen.summary())) }
            div.buttons {
                button.quiet type="button" data-pause hidden { "Pause live figures" }
                a href="/console/" { "Look again" }
            }
        }
        div.flow.scroll role="region" aria-label="Drawing of the dataflow" tabindex="0" {
            (drawing::svg(&seen))
        }
        h2 { "Steps" }
        (table("Steps of the dataflow", &["Step", "Lag, records", "Oldest", "Reads", "Members", "Status", "What it does"], &stages))
        p { a href="/console/groups" { "All consumer groups by partition" } }
        h2 { "Topics" }
        (table("Topics of the dataflow", &["Topic", "Records", "Published"], &topics))
    };
    layout::page(
        Some(&visitor),
        Some(Section::Overview),
        "Overview",
        &content,
    )
}
