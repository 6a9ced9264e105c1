//! One run: start the pipeline, hand out obligations under faults, end the faults, judge.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::faults::http_rules::HttpRules;
use crate::faults::injector::Injector;
use crate::object_server::ObjectServer;
use crate::report::{FaultCounts, Report};
use crate::schedule::{Schedule, TargetKind};
use crate::target::{self, Target};
use crate::verdict;
use crate::workload::delivery::Delivery;
use crate::workload::ledger::Ledger;
use crate::workload::{Obligation, Workload};

/// Obligations that wait for their acknowledgement at one time.
const IN_FLIGHT: usize = 24;
/// Records on the topic that wait for the pipeline: beyond this nothing more is handed out. A
/// pipeline that is killed every second falls behind without end otherwise, and what is not worked
/// off in the end can't be judged.
const MAX_LAG: i64 = 300;
/// Between two obligations.
const PACE: Duration = Duration::from_millis(20);
const START_LIMIT: Duration = Duration::from_secs(90);
/// For what was handed out under the last faults to be acknowledged without any.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(180);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of workload and schedule.
    pub seed: u64,
    /// How long faults are injected.
    pub minutes: f64,
    /// On what.
    pub target: TargetKind,
    /// In place of the one drawn from the seed.
    pub schedule: Option<Schedule>,
    /// The `millrace` binary; none for the one beside this program.
    pub binary: Option<PathBuf>,
    /// Where processes keep their data and logs; none for a folder that is removed when there is
    /// no violation.
    pub folder: Option<PathBuf>,
    /// The command that repeats this run, for the report.
    pub command: String,
}

impl Settings {
    /// The schedule that is carried out.
    ///
    /// # Errors
    /// The one that is given is for another target.
    pub fn schedule(&self) -> anyhow::Result<Schedule> {
        match &self.schedule {
            Some(schedule) => {
                ensure!(
                    schedule.target == self.target,
                    "the schedule is for the {} target, not the {} one",
                    schedule.target,
                    self.target
                );
                Ok(schedule.clone())
            }
            None => Ok(Schedule::draw(
                self.seed,
                self.target,
                (self.minutes * 60_000.0) as u64,
            )),
        }
    }
}

/// How far a run is, for progress bars.
pub trait Progress {
    /// A step of the schedule begins.
    fn step(&self, number: usize, of: usize, obligations: u64);
    /// Something else has begun.
    fn phase(&self, what: &str);
}

/// Runs and judges.
///
/// # Errors
/// The judge itself could not do its work; nothing is known of the pipeline then.
pub async fn run(settings: &Settings, progress: &dyn Progress) -> anyhow::Result<Report> {
    let schedule = settings.schedule()?;
    let binary = target::find_binary(settings.binary.clone())?;
    let mut kept = None;
    let folder = match &settings.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.canonicalize()?
        }
        None => {
            let folder = tempfile::Builder::new()
                .prefix("millrace-judge-")
                .tempdir()?;
            kept.insert(folder).path().to_owned()
        }
    };
    let result = run_in(settings, &schedule, &binary, &folder, progress).await;
    let clean = result
        .as_ref()
        .is_ok_and(|report| report.violations.is_empty());
    if let (Some(folder), false) = (kept, clean) {
        let folder = folder.keep();
        progress.phase(&format!("data and logs are kept in {}", folder.display()));
    }
    result
}

async fn run_in(
    settings: &Settings,
    schedule: &Schedule,
    binary: &std::path::Path,
    folder: &std::path::Path,
    progress: &dyn Progress,
) -> anyhow::Result<Report> {
    let counts = FaultCounts::default();
    let rules = HttpRules::new(settings.seed ^ 1, counts.clone());
    let store = Arc::new(ObjectServer::start(rules).await?);
    progress.phase("starting the pipeline");
    let target = match settings.target {
        TargetKind::Embedded => target::embedded::start(binary, folder, &store)?,
        TargetKind::Real => {
            target::real::start(binary, folder, &store, settings.seed, counts.clone()).await?
        }
    };
    for (role, member) in &target.members {
        member
            .ready(START_LIMIT)
            .await
            .with_context(|| format!("{} did not start", role.name()))?;
    }
    let ledger = Arc::new(Ledger::default());
    let delivery = Delivery::new(
        &target.notices_api,
        &target.events_api,
        &target.kafka,
        Arc::clone(&store),
        target.watched.clone(),
        Arc::clone(&ledger),
    )?;
    let began = Instant::now();
    let injector = Injector::new(&target, &store, counts.clone());
    let enough = CancellationToken::new();
    let lag = Arc::new(AtomicI64::new(0));
    let watching = tokio::spawn(verdict::watch_lag(
        target.kafka.clone(),
        target.group.clone(),
        Arc::clone(&lag),
    ));
    let handing_out = hand_out(&delivery, Workload::new(settings.seed), &enough, &lag);
    let mut handing_out = std::pin::pin!(handing_out);
    {
        let steps = schedule.steps.len();
        let injecting = injector.run(schedule, |number| {
            progress.step(number, steps, ledger.total());
        });
        tokio::select! {
            injected = injecting => injected?,
            handed_out = &mut handing_out => {
                handed_out?;
                anyhow::bail!("the workload ended before the faults");
            }
        }
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    store.rules.clear();
    if let Some(proxy) = &target.search_proxy {
        proxy.rules.clear();
    }
    let faults_ended = Instant::now();
    progress.phase("faults are off; waiting for acknowledgements");
    enough.cancel();
    watching.abort();
    match tokio::time::timeout(ACKNOWLEDGE_LIMIT, &mut handing_out).await {
        Ok(done) => done?,
        Err(_) => ledger.violation(
            "what is sent again and again is acknowledged",
            "the workload",
            format!(
                "obligations were still unacknowledged {ACKNOWLEDGE_LIMIT:?} after the last fault"
            ),
        ),
    }
    let (mut violations, longest_drain_ms) = injector.finish();
    progress.phase("judging");
    let self_exits = self_exits(&target);
    let verdict = verdict::judge(&target, &store, &ledger, &delivery, schedule, progress).await?;
    let promises = ledger.lock();
    violations.extend(promises.violations.iter().cloned());
    violations.extend(verdict.violations);
    violations.sort();
    Ok(Report {
        seed: settings.seed,
        target: settings.target,
        minutes,
        obligations: promises.by_kind.values().sum(),
        obligations_by_kind: promises
            .by_kind
            .iter()
            .map(|(kind, count)| ((*kind).to_owned(), *count))
            .collect(),
        faults: counts.snapshot(),
        violations,
        left_by_zombies: verdict.left_by_zombies,
        reconciled: verdict.reconciled,
        self_exits,
        longest_drain_ms: longest_drain_ms.max(verdict.longest_drain_ms),
        drained_after_ms: u64::try_from((verdict.drained_at - faults_ended).as_millis())
            .unwrap_or(u64::MAX),
        command: settings.command.clone(),
    })
}

/// Hands out until told that it is enough, then waits for the last acknowledgements.
async fn hand_out(
    delivery: &Delivery,
    workload: Workload,
    enough: &CancellationToken,
    lag: &AtomicI64,
) -> anyhow::Result<()> {
    let mut in_flight = FuturesUnordered::new();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for obligation in workload {
        while in_flight.len() >= IN_FLIGHT {
            in_flight.next().await.transpose()?;
        }
        while lag.load(Relaxed) > MAX_LAG && !enough.is_cancelled() {
            tokio::select! {
                _ = pace.tick() => {}
                Some(done) = in_flight.next(), if !in_flight.is_empty() => done?,
            }
        }
        if enough.is_cancelled() {
            break;
        }
        let give = |obligation: Obligation| async move { delivery.hand_out(obligation).await };
        in_flight.push(give(obligation));
        // Driven while waiting, or a request would time out in the queue.
        loop {
            tokio::select! {
                _ = pace.tick() => break,
                Some(done) = in_flight.next(), if !in_flight.is_empty() => done?,
            }
        }
    }
    while let Some(done) = in_flight.next().await {
        done?;
    }
    Ok(())
}

fn self_exits(target: &Target) -> u64 {
    target
        .members
        .values()
        .map(target::member::Member::self_exits)
        .sum()
}
