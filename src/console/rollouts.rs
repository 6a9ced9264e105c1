//! The index generations: which serves, how far another one is, what its gates said, and the way back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Redirect;
use maud::{Markup, html};
use millrace_retry::error_chain;
use millrace_schemas::{GateVerdict, Rollout, RolloutGate, RolloutPhase};

use super::Console;
use super::error::PageError;
use super::form::{Fields, Posted};
use super::layout::{self, Page, Section, confirm, grouped, shown, table};
use super::session::Visitor;
use crate::api::error::ApiError;
use crate::audit::{Arguments, Audit, Counts};
use crate::output::time;
use crate::rollout::records;
use crate::stack::rollouts::{RolloutStatus, Rollouts};

/// `GET /console/rollouts`.
pub async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Page, PageError> {
    let status = rollouts(&console)?.status().await.map_err(ApiError::from)?;
    let content = html! {
        dl {
            dt { "Serves" }
            dd { (status.serving.as_deref().map_or("nothing: the alias points at no generation".into(), shown)) }
            @if let Some(model) = &status.model_version { dt { "Its vectors are of" } dd { code { (shown(model)) } } }
        }
        @match &status.rollout {
            None => p {
                "There never was a rollout. " code { "millrace rollout start --model NAME" } " begins one with another model, "
                code { "millrace backfill" } " makes the index anew with the same."
            },
            Some(rollout) => {
                (headline(rollout))
                (progress(&status))
                (gates(&rollout.gates))
                (next(rollout, &visitor))
                (phases(rollout))
            }
        }
    };
    Ok(layout::page(
        Some(&visitor),
        Some(Section::Rollouts),
        "Rollouts",
        &content,
    ))
}

/// `POST /console/rollouts/rollback`.
pub async fn roll_back(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Posted(fields): Posted,
) -> Result<Redirect, PageError> {
    let rollouts = rollouts(&console)?;
    let turn = console.turn()?;
    let shown = rollouts.record().borrow().clone();
    if fields.text("shown") != shown.as_ref().map(fingerprint).as_deref() {
        return Err(PageError::new(
            StatusCode::CONFLICT,
            "The rollout has gone on since the page was shown. Nothing was changed; look again.",
        ));
    }
    let (producer, who) = (console.producer.clone(), visitor.who.clone());
    // In a task of its own: a browser that leaves does not stop it in the middle.
    let work = tokio::spawn(async move {
        let _turn = turn;
        let audit = Audit::begin(&producer, who.clone(), "rollout.rollback", Arguments::new());
        let audit = audit.await?;
        match rollouts.roll_back(&who).await {
            Ok(_) => audit.done(Counts::new()).await.map_err(PageError::from),
            Err(error) => {
                let why = error_chain(&error);
                if let Err(error) = audit.failed(Counts::new(), &why).await {
                    tracing::warn!(
                        "a failure is not on the topic audit: {}",
                        error_chain(error.as_ref())
                    );
                }
                Err(ApiError::from(error).into())
            }
        }
    });
    work.await
        .map_err(|_| anyhow::anyhow!("the order was cut off; look which generation serves"))??;
    Ok(Redirect::to("/console/rollouts"))
}

fn rollouts(console: &Console) -> Result<Arc<Rollouts>, PageError> {
    console
        .rollouts
        .clone()
        .ok_or_else(|| PageError::not_here("This process has no index; ask one that searches."))
}

/// What tells the record that was shown from the one that there is.
fn fingerprint(rollout: &Rollout) -> String {
    let since = rollout.phases.get(rollout.phase.as_str());
    format!(
        "{}/{}/{}",
        rollout.to.generation,
        rollout.phase,
        since.copied().unwrap_or(0)
    )
}

fn headline(rollout: &Rollout) -> Markup {
    let kind = match records::is_backfill(rollout) {
        true => "Backfill",
        false => "Rollout",
    };
    html! {
        h2 { (kind) " of generation " (rollout.to.generation) ": " (rollout.phase.as_str().replace('_', " ")) }
        dl {
            dt { "From" } dd { "generation " (rollout.from.generation) ", " code { (shown(&rollout.from.model_version)) } }
            dt { "To" } dd { "generation " (rollout.to.generation) ", " code { (shown(&rollout.to.model_version)) } }
            dt { "By" } dd { (shown(&rollout.who)) }
        }
    }
}

fn progress(status: &RolloutStatus) -> Markup {
    let Some(progress) = &status.progress else {
        return html! {};
    };
    let filled = status.rollout.as_ref().map_or(0, |rollout| rollout.filled);
    let left = progress
        .seconds_left
        .map_or(String::new(), |left| format!(", about {left:.0} s left"));
    let rows = html! {
        @for (name, old, new) in [
            ("Documents", progress.old.documents, progress.new.documents),
            ("Chunks", progress.old.chunks, progress.new.chunks),
        ] {
            tr { th scope="row" { (name) } td.n { (grouped(old as i64)) } td.n { (grouped(new as i64)) } }
        }
    };
    html! {
        div.field {
            label for="progress" { "Records read of the topic" }
            progress id="progress" max=(progress.records_total.max(1)) value=(progress.records) {}
            p.hint { (grouped(progress.records)) " of " (grouped(progress.records_total)) (left) "; " (grouped(filled)) " documents made of the stored text" }
        }
        (table("What the generations hold", &["", "Old", "New"], &rows))
        @if let Some(failure) = &progress.failure {
            p.problem { "The new generation's vectorizer can't go on: " (shown(failure)) }
        }
    }
}

fn gates(gates: &[RolloutGate]) -> Markup {
    let told = |verdict: GateVerdict| match verdict {
        GateVerdict::Passed => ("OK", "passed"),
        GateVerdict::Failed => ("ERR", "failed"),
        GateVerdict::NotMeasured => ("WARN", "not measured"),
        GateVerdict::Unknown => ("WARN", "unknown"),
    };
    let rows = html! {
        @for gate in gates {
            @let (mark, verdict) = told(gate.verdict);
            tr {
                th scope="row" { (shown(&gate.gate)) }
                td data-mark=(mark) { (verdict) }
                td.wide { (shown(&gate.figures)) }
            }
        }
    };
    html! {
        @if gates.is_empty() {
            p.hint { "Nothing was measured yet; " code { "millrace rollout switch --dry-run" } " measures and changes nothing." }
        } @else {
            h3 { "Gates, as the switch measured them" }
            (table("Gates", &["Gate", "Verdict", "Figures"], &rows))
        }
    }
}

fn next(rollout: &Rollout, visitor: &Visitor) -> Markup {
    let hint = match rollout.phase {
        RolloutPhase::Building => html! { "The old generation serves until the new one is whole." },
        RolloutPhase::Ready | RolloutPhase::RolledBack => html! {
            code { "millrace rollout switch --judged DIR" } " has the new one serve, "
            code { "millrace rollout abort" } " gives up."
        },
        RolloutPhase::Switched => html! {
            "Both generations are written until " code { "millrace rollout finish" } "; the way back loses nothing."
        },
        RolloutPhase::Switching | RolloutPhase::RollingBack => {
            html! { "An order was cut off; given again it goes on." }
        }
        RolloutPhase::Finished | RolloutPhase::Aborted | RolloutPhase::Unknown => html! {},
    };
    let is_reversible = matches!(
        rollout.phase,
        RolloutPhase::Switched | RolloutPhase::Switching | RolloutPhase::RollingBack
    );
    let shown = serde_urlencoded::to_string([("shown", fingerprint(rollout))]).unwrap_or_default();
    html! {
        p { (hint) }
        @if is_reversible && let Ok(fields) = Fields::parse(shown.as_bytes()) {
            (confirm(
                visitor,
                &fields,
                "/console/rollouts/rollback",
                &html! { "Go back to generation " (rollout.from.generation) },
                ("/console/rollouts", "Leave it"),
            ))
        }
    }
}

fn phases(rollout: &Rollout) -> Markup {
    let mut reached: Vec<(&String, i64)> = rollout.phases.iter().map(|(n, at)| (n, *at)).collect();
    reached.sort_by_key(|(_, at)| *at);
    let rows = html! {
        @for (name, at) in reached {
            tr { th scope="row" { (shown(&name.replace('_', " "))) } td.n { (time(Some(at))) } }
        }
    };
    html! {
        h3 { "When it last got there" }
        (table("Phases", &["Phase", "Since"], &rows))
    }
}
