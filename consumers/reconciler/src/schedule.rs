//! Comparisons and sweeps now and then: the role `reconciler`.
//!
//! One task does both, one after the other, so never two at once in a process; in a cluster one
//! process has the role. Two would do the work twice and no harm: repairs are notices. Each wait
//! is shortened or lengthened by up to a tenth, so that processes that started together drift
//! apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use millrace_index::SearchIndex;
use millrace_objects::ObjectUri;
use millrace_producers::Publisher;
use millrace_retry::error_chain;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::class::Class;
use crate::compare::Reconciler;
use crate::repair::RemovalLimit;
use crate::report::Report;
use crate::sweep;

/// The first comparison and sweep come this long after the start, or sooner if `every` is less.
const SOON: Duration = Duration::from_secs(60);

/// What the schedule stands on.
pub struct ScheduleDeps {
    /// Compares.
    pub reconciler: Reconciler,
    /// What is compared; with nothing, or without `every`, only tombstones are swept.
    pub roots: Vec<ObjectUri>,
    /// Time between two comparisons.
    pub every: Option<Duration>,
    /// Publishes repairs; without it differences are only counted.
    pub repair: Option<(Publisher, RemovalLimit)>,
    /// Whose tombstones are swept.
    pub index: Arc<dyn SearchIndex>,
    /// Time between two sweeps, and the age at which tombstones go.
    pub sweep: Option<(Duration, Duration)>,
}

/// What the schedule has done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScheduleStats {
    /// Comparisons that came to their end.
    pub runs: u64,
    /// Comparisons that did not, of one root or more.
    pub failed_runs: u64,
    /// Differences of the last comparison by class, all roots together.
    pub differences: BTreeMap<&'static str, u64>,
    /// Notices published to repair.
    pub repairs: u64,
    /// When the last comparison ended, ms since 1970; 0 before the first.
    pub last_run_ms: i64,
    /// How long it took.
    pub last_run_seconds: f64,
    /// Tombstones swept.
    pub swept: u64,
}

impl ScheduleStats {
    fn new() -> Self {
        Self {
            differences: Class::ALL.map(|class| (class.as_str(), 0)).into(),
            ..Self::default()
        }
    }
}

/// Counters that outlive the schedule, for metrics.
#[derive(Clone, Debug)]
pub struct SharedStats(Arc<Mutex<ScheduleStats>>);

impl Default for SharedStats {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(ScheduleStats::new())))
    }
}

impl SharedStats {
    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> ScheduleStats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change(&self, change: impl FnOnce(&mut ScheduleStats)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A running schedule.
pub struct Schedule {
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Schedule {
    /// Begins to work in the background.
    #[must_use]
    pub fn start(deps: ScheduleDeps, stats: SharedStats) -> Self {
        let stopping = CancellationToken::new();
        let stopped = stopping.clone();
        let task = tokio::spawn(async move {
            stopped.run_until_cancelled(run(deps, stats)).await;
        });
        Self { stopping, task }
    }

    /// Gives up what is under way: a comparison changes nothing, and repairs that were published
    /// are whole.
    pub async fn stop(self) {
        self.stopping.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the reconciler was cut off");
        }
    }
}

async fn run(deps: ScheduleDeps, stats: SharedStats) {
    let compare_every = deps.every.filter(|_| !deps.roots.is_empty());
    let mut compare_at = compare_every.map(|every| after(every.min(SOON)));
    let mut sweep_at = deps.sweep.map(|(every, _)| after(every.min(SOON)));
    while let Some(next) = compare_at.into_iter().chain(sweep_at).min() {
        tokio::time::sleep_until(next.into()).await;
        if let Some(every) = compare_every
            && compare_at == Some(next)
        {
            compare_all(&deps, &stats).await;
            // From the end of one to the beginning of the next: they never meet.
            compare_at = Some(after(every));
        } else if let Some((every, horizon)) = deps.sweep {
            match sweep::sweep(&*deps.index, horizon).await {
                Ok(swept) => stats.change(|stats| stats.swept += swept),
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "tombstones were not swept");
                }
            }
            sweep_at = Some(after(every));
        }
    }
}

fn after(wait: Duration) -> Instant {
    Instant::now() + wait.mul_f64(0.9 + 0.2 * fastrand::f64())
}

async fn compare_all(deps: &ScheduleDeps, stats: &SharedStats) {
    let started = Instant::now();
    let mut differences: BTreeMap<&'static str, u64> =
        Class::ALL.map(|class| (class.as_str(), 0)).into();
    let mut failed = false;
    for root in &deps.roots {
        match compare_one(deps, root, stats).await {
            Ok(report) => {
                for (class, count) in &report.counts {
                    *differences.entry(class).or_default() += count;
                }
                failed |= report.incomplete.is_some();
            }
            Err(reason) => {
                tracing::warn!(%root, reason, "not compared");
                failed = true;
            }
        }
    }
    stats.change(|stats| {
        stats.differences = differences;
        *(if failed {
            &mut stats.failed_runs
        } else {
            &mut stats.runs
        }) += 1;
        stats.last_run_ms = crate::now_ms();
        stats.last_run_seconds = started.elapsed().as_secs_f64();
    });
}

async fn compare_one(
    deps: &ScheduleDeps,
    root: &ObjectUri,
    stats: &SharedStats,
) -> Result<Report, String> {
    let compared = deps.reconciler.compare(root, &|_| {}).await;
    let compared = compared.map_err(|error| error_chain(&error))?;
    let report = &compared.report;
    tracing::info!(
        %root,
        objects = report.objects,
        documents = report.documents,
        differences = report.differences,
        on_their_way = report.on_their_way,
        dead_lettered = report.dead_lettered,
        incomplete = report.incomplete,
        counts = ?report.counts,
        "compared"
    );
    if let Some((publisher, limit)) = &deps.repair
        && report.differences > 0
    {
        let repairs = compared
            .repairs(*limit)
            .map_err(|error| error_chain(&error))?;
        if let Some(withheld) = &repairs.withheld {
            tracing::warn!(%root, reason = withheld.reason, "removals withheld");
        }
        let published = publish(repairs.notices, publisher, |_| {
            stats.change(|stats| stats.repairs += 1);
        })
        .await?;
        tracing::info!(%root, published, "repairs published");
    }
    Ok(compared.report)
}

/// Publishes repairs in their order and tells `each` of every one that the brokers have; returns
/// how many.
///
/// # Errors
/// The brokers refused one, or a temporary file failed; those before stand.
pub async fn publish(
    notices: futures::stream::BoxStream<
        'static,
        Result<millrace_producers::Noticed, crate::SpillError>,
    >,
    publisher: &Publisher,
    mut each: impl FnMut(&millrace_producers::Published) + Send,
) -> Result<u64, String> {
    let failure = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&failure);
    let noticed = notices.filter_map(move |notice| {
        let notice = notice
            .map_err(|error| {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error_chain(&error));
            })
            .ok();
        std::future::ready(notice)
    });
    let mut published = std::pin::pin!(publisher.publish_all(noticed));
    let mut count = 0;
    while let Some(next) = published.next().await {
        each(&next.map_err(|error| error_chain(&error))?);
        count += 1;
    }
    let failure = failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match failure {
        Some(reason) => Err(reason),
        None => Ok(count),
    }
}
