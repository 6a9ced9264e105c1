//! What a rollout is, as a person reads it.

use millrace_schemas::{GateVerdict, Rollout, RolloutGate};

use crate::output::{bytes, printable, table, time};
use crate::stack::rollouts::{Plan, RolloutStatus};

/// The gates as a table.
pub fn gates(gates: &[RolloutGate]) -> String {
    let mut rows = vec![["GATE", "VERDICT", "FIGURES"].map(str::to_owned).to_vec()];
    for gate in gates {
        let verdict = match gate.verdict {
            GateVerdict::Passed => "passed",
            GateVerdict::Failed => "FAILED",
            GateVerdict::NotMeasured => "not measured",
            GateVerdict::Unknown => "unknown",
        };
        rows.push(vec![
            gate.gate.clone(),
            verdict.to_owned(),
            printable(&gate.figures).into_owned(),
        ]);
    }
    table(&rows)
}

/// Where it stands, in some lines.
pub fn status(status: &RolloutStatus) -> String {
    let mut lines = vec![match (&status.serving, &status.model_version) {
        (Some(serving), Some(model)) => format!("{serving} serves, embedded by {model}"),
        _ => "no generation serves: the alias points at nothing".to_owned(),
    }];
    let Some(rollout) = &status.rollout else {
        lines.push("there never was a rollout".to_owned());
        return lines.join("\n");
    };
    lines.push(headline(rollout));
    if let Some(progress) = &status.progress {
        let rate = progress
            .records_per_second
            .map_or_else(String::new, |rate| {
                let left = progress.seconds_left.unwrap_or(0.0);
                format!(" · {rate:.0} records/s · {left:.0} s left")
            });
        lines.push(format!(
            "read {} of {} records{rate}",
            progress.records, progress.records_total
        ));
        let (old, new) = (progress.old, progress.new);
        lines.push(format!(
            "documents {} of {}, chunks {} ({} in the old one); {} made of the stored text",
            new.documents, old.documents, new.chunks, old.chunks, rollout.filled
        ));
        if let Some(failure) = &progress.failure {
            lines.push(format!(
                "its vectorizer can't go on, restart the process: {}",
                printable(failure)
            ));
        }
    }
    if !rollout.gates.is_empty() {
        lines.push(gates(&rollout.gates));
    }
    lines.join("\n")
}

fn headline(rollout: &Rollout) -> String {
    let since = rollout.phases.get(rollout.phase.as_str()).copied();
    format!(
        "generation {} ({}) to {} ({}): {} since {}, by {}",
        rollout.from.generation,
        rollout.from.model_version,
        rollout.to.generation,
        rollout.to.model_version,
        rollout.phase,
        time(since),
        printable(&rollout.who)
    )
}

/// What would be done.
pub fn plan(plan: &Plan) -> String {
    let duration = match (plan.chunks_per_second, plan.seconds) {
        (Some(rate), Some(seconds)) => {
            format!("at {rate:.0} chunks/s, as measured now, about {seconds:.0} s")
        }
        _ => "nothing to measure a rate on".to_owned(),
    };
    format!(
        "generation {} of {} documents ({} chunks) by {}; generation {} would be of {}\n\
         {} records to read, {} of vectors; {duration}",
        plan.from.generation,
        plan.documents,
        plan.chunks,
        plan.from.model_version,
        plan.to.generation,
        plan.to.model_version,
        plan.records,
        bytes(plan.vector_bytes)
    )
}
