//! With the faults off and all worked off: was every promise kept?
//!
//! The topic `documents` is the witness: what the brokers acknowledged must stand on it, and from
//! what stands on it follows what index, signals, outcomes and dead letters must hold.

mod behavior;
mod dead_letters;
mod documents;
mod fresh;
mod profiles;
mod signals;
mod topics;
mod zombies;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context;
use millrace_kafka::{Admin, KafkaConfig, topics as names};

use self::topics::Topics;
use crate::object_server::ObjectServer;
use crate::report::Violation;
use crate::run::Progress;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::workload::delivery::Delivery;
use crate::workload::ledger::Ledger;

const READY_LIMIT: Duration = Duration::from_secs(90);
const DRAINED_LIMIT: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A process without faults around it leaves within its drain deadline and a little.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What was found.
pub struct Verdict {
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// A zombie's late signal of a document that no store holds, so that nothing tells what it is.
    pub left_by_zombies: Vec<Violation>,
    /// Documents that the reconciler mended after zombies.
    pub reconciled: u64,
    /// When everything was worked off.
    pub drained_at: Instant,
    /// The longest that a process took to leave, ms.
    pub longest_drain_ms: u64,
}

/// Findings so far.
#[derive(Default)]
struct Findings {
    violations: Vec<Violation>,
    left_by_zombies: Vec<Violation>,
    /// Whether a zombie may have acted.
    zombies: bool,
    /// Documents that the reconciler found to differ, and mended.
    reconciled: u64,
}

impl Findings {
    fn violation(&mut self, promise: &'static str, subject: impl Into<String>, found: String) {
        self.violations.push(Violation {
            promise,
            subject: subject.into(),
            found,
        });
    }

    /// As a violation, unless a zombie may have done it and no store holds the document, so that the
    /// reconciler can't have mended it.
    fn violation_unless_zombie(&mut self, promise: &'static str, subject: &str, found: String) {
        let list = if self.zombies {
            &mut self.left_by_zombies
        } else {
            &mut self.violations
        };
        list.push(Violation {
            promise,
            subject: subject.to_owned(),
            found,
        });
    }
}

/// Waits until all is worked off, stops the processes, and compares.
///
/// # Errors
/// The judge can't see what it must see.
pub async fn judge(
    target: &Target,
    store: &ObjectServer,
    ledger: &Ledger,
    delivery: &Delivery,
    schedule: &Schedule,
    progress: &dyn Progress,
) -> anyhow::Result<Verdict> {
    let mut findings = Findings {
        zombies: schedule.has_zombies(),
        ..Findings::default()
    };
    for (role, member) in &target.members {
        if let Err(error) = member.ready(READY_LIMIT).await {
            findings.violation(
                "every process gets ready again",
                role.name(),
                error.to_string(),
            );
        }
    }
    progress.phase("waiting until all is worked off");
    let worked_off = until_worked_off(target, &mut findings).await?;
    let drained_at = Instant::now();
    if !worked_off {
        // What is half done breaks every other promise too, and tells nothing.
        return Ok(Verdict {
            violations: findings.violations,
            left_by_zombies: findings.left_by_zombies,
            reconciled: 0,
            drained_at,
            longest_drain_ms: 0,
        });
    }
    if let (true, Some(reconcile)) = (findings.zombies, &target.reconcile) {
        progress.phase("reconciling what zombies may have left");
        zombies::reconcile(target, reconcile, &mut findings).await?;
        until_worked_off(target, &mut findings).await?;
    }
    progress.phase("a fresh document, end to end");
    fresh::files_are_found(target, ledger, &mut findings).await?;
    fresh::a_fresh_document_passes(target, delivery, &mut findings).await?;
    fresh::no_old_version_is_found(target, store, ledger, &mut findings).await?;
    until_worked_off(target, &mut findings).await?;
    progress.phase("reading topics");
    let topics = Topics::read(&target.kafka).await?;
    behavior::check(target, ledger, &topics, &mut findings).await?;
    let feedback = profiles::until_applied(target, &mut findings).await?;
    let feedback_partitions = Admin::connect(&target.kafka)?
        .partitions(&target.kafka.topic(names::FEEDBACK))
        .await?
        .len();
    let spec = target
        .index_spec()
        .await
        .context("the running pipeline does not tell what its index is")?;
    progress.phase("stopping the pipeline");
    let longest_drain_ms = stop(target, &mut findings).await?;

    let partitions = feedback_partitions.try_into()?;
    let model = &spec.model_version;
    profiles::check(&target.profiles, partitions, model, feedback, &mut findings).await?;
    let expected = {
        let promises = ledger.lock();
        topics.check(&promises, &mut findings);
        dead_letters::check(&topics, &promises, &mut findings);
        documents::expected(&topics, &promises, store, target)
    };
    progress.phase("reading the index");
    let stored = documents::check(target, &spec, &expected, &mut findings).await?;
    signals::check(&topics, &expected, &stored, &mut findings);
    let Findings {
        violations,
        left_by_zombies,
        reconciled,
        ..
    } = findings;
    Ok(Verdict {
        violations,
        left_by_zombies,
        reconciled,
        drained_at,
        longest_drain_ms,
    })
}

/// Keeps `lag` at how many records the group has still to finish, as often as the brokers tell.
pub async fn watch_lag(kafka: KafkaConfig, group: String, lag: Arc<AtomicI64>) {
    let topic = kafka.topic(names::DOCUMENTS);
    let Ok(admin) = Admin::connect(&kafka) else {
        return;
    };
    loop {
        let partitions = admin.group_lag(&group, std::slice::from_ref(&topic)).await;
        if let Ok(partitions) = partitions {
            lag.store(
                partitions.iter().map(|partition| partition.lag).sum(),
                Relaxed,
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the group has finished all that is on the topic.
async fn until_worked_off(target: &Target, findings: &mut Findings) -> anyhow::Result<bool> {
    let admin = Admin::connect(&target.kafka)?;
    let topic = target.kafka.topic(names::DOCUMENTS);
    let deadline = Instant::now() + DRAINED_LIMIT;
    loop {
        // Brokers that were just killed may not answer yet.
        let lag = admin
            .group_lag(&target.group, std::slice::from_ref(&topic))
            .await
            .map(|partitions| {
                partitions
                    .iter()
                    .map(|partition| partition.lag)
                    .sum::<i64>()
            });
        if let Ok(0) = lag {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            let found = match lag {
                Ok(lag) => {
                    format!("{lag} records are unfinished {DRAINED_LIMIT:?} after the faults")
                }
                Err(error) => format!("the lag can't be read: {error}"),
            };
            findings.violation("everything is worked off", &target.group, found);
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Stops all processes with SIGTERM; the longest that one took, ms.
async fn stop(target: &Target, findings: &mut Findings) -> anyhow::Result<u64> {
    let mut longest_ms = 0;
    for (role, member) in &target.members {
        let Some(left) = member.stop().await else {
            continue;
        };
        longest_ms = longest_ms.max(u64::try_from(left.took.as_millis()).unwrap_or(u64::MAX));
        let success = left.status.is_some_and(|status| status.success());
        if !success || left.took > LEAVE_LIMIT {
            findings.violation(
                "an idle process leaves at once with 0 on SIGTERM",
                role.name(),
                format!("{:?} after {:.1} s", left.status, left.took.as_secs_f64()),
            );
        }
        for line in member.panics()? {
            findings.violation("nothing panics", role.name(), line);
        }
    }
    Ok(longest_ms)
}
