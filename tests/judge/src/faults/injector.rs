//! Carries out a schedule on a running pipeline.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use futures::stream::{FuturesUnordered, StreamExt};
use rustix::process::Signal;
use tokio::time::Instant;

use super::{half_append, half_commit, stranger};
use crate::object_server::ObjectServer;
use crate::report::{FaultCounts, Violation};
use crate::schedule::{Fault, Role, Schedule, SearchFault, StorageFault};
use crate::target::kafka_server::KafkaServer;
use crate::target::member::Left;
use crate::target::{IndexPlace, Target};

/// What a process may take to leave on SIGTERM: its drain of 10 s, and what goes before and after.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);

/// Injects faults, counts them, and notes what a process did wrong under them.
pub struct Injector<'a> {
    target: &'a Target,
    store: &'a ObjectServer,
    counts: FaultCounts,
    violations: Mutex<Vec<Violation>>,
    longest_drain_ms: AtomicU64,
    /// Faults under way that keep a drain from ending in time: a broker or a state that is away.
    away: AtomicUsize,
    /// Full disks under way, on which a process may refuse to start.
    full: AtomicUsize,
}

impl<'a> Injector<'a> {
    /// For this pipeline and its object store.
    #[must_use]
    pub fn new(target: &'a Target, store: &'a ObjectServer, counts: FaultCounts) -> Self {
        Self {
            target,
            store,
            counts,
            violations: Mutex::default(),
            longest_drain_ms: AtomicU64::new(0),
            away: AtomicUsize::new(0),
            full: AtomicUsize::new(0),
        }
    }

    /// Carries out all steps; returns when the last fault is over and every process runs.
    ///
    /// # Errors
    /// A fault could not be injected.
    pub async fn run(
        &self,
        schedule: &Schedule,
        mut on_step: impl FnMut(usize),
    ) -> anyhow::Result<()> {
        let mut due = Instant::now();
        let mut lasting = FuturesUnordered::new();
        for (number, step) in schedule.steps.iter().enumerate() {
            due += Duration::from_millis(step.after_ms);
            // What takes a while goes on beside the next steps, and is driven here.
            let mut wait = std::pin::pin!(tokio::time::sleep_until(due));
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    Some(done) = lasting.next() => done?,
                }
            }
            on_step(number);
            if is_short(&step.fault) {
                self.inject(&step.fault).await?;
                // A kill in the middle of a slow start does not pull the following ones together.
                due = due.max(Instant::now());
            } else {
                lasting.push(self.inject(&step.fault));
            }
        }
        while let Some(done) = lasting.next().await {
            done?;
        }
        Ok(())
    }

    /// What processes did wrong, and the longest drain on SIGTERM in ms.
    #[must_use]
    pub fn finish(self) -> (Vec<Violation>, u64) {
        let violations = self
            .violations
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        (violations, self.longest_drain_ms.into_inner())
    }

    async fn inject(&self, fault: &Fault) -> anyhow::Result<()> {
        match *fault {
            Fault::Kill { role } => {
                self.counts.add(&format!("kill -9 {}", role.name()));
                self.member(role)?.kill_and(|| ()).await?;
            }
            Fault::HalfAppend => {
                self.counts.add("kill -9 up in the middle of an append");
                let topics = self.target.broker_topics.clone();
                let topics = topics.context("there is no embedded broker")?;
                self.member(Role::Up)?
                    .kill_and(move || half_append::leave(&topics))
                    .await?
                    .context("can't leave half an append")?;
            }
            Fault::HalfCommit => {
                self.counts.add("kill -9 up in the middle of a commit");
                let IndexPlace::Folder(index) = self.target.index.clone() else {
                    anyhow::bail!("there is no embedded index");
                };
                self.member(Role::Up)?
                    .kill_and(move || half_commit::leave(&index))
                    .await?
                    .context("can't leave half a commit")?;
            }
            Fault::Terminate { role } => {
                self.counts.add(&format!("SIGTERM {}", role.name()));
                let excused = self.away.load(Relaxed) > 0;
                if let Some(left) = self.member(role)?.terminate().await {
                    self.left(role, left, excused);
                }
            }
            Fault::Pause { role, for_ms } => {
                self.counts.add(&format!("SIGSTOP {}", role.name()));
                let member = self.member(role)?;
                member.pause();
                tokio::time::sleep(Duration::from_millis(for_ms)).await;
                member.resume();
            }
            Fault::Stranger { for_ms } => {
                self.counts.add("stranger in the group");
                stranger::visit(self.target, Duration::from_millis(for_ms)).await?;
            }
            Fault::FullDisk { role, for_ms } => {
                self.counts.add("full disk");
                let member = self.member(role)?;
                self.full.fetch_add(1, Relaxed);
                member.limit_files(Some(0));
                tokio::time::sleep(Duration::from_millis(for_ms)).await;
                member.limit_files(None);
                self.full.fetch_sub(1, Relaxed);
            }
            Fault::KillBroker { down_ms } => {
                self.counts.add("kill -9 broker");
                self.away.fetch_add(1, Relaxed);
                let killed = self.broker()?.kill(Duration::from_millis(down_ms)).await;
                self.away.fetch_sub(1, Relaxed);
                killed?;
            }
            Fault::BrokerFullDisk { for_ms } => {
                self.counts.add("full disk of the broker");
                let lasting = Duration::from_millis(for_ms);
                self.away.fetch_add(1, Relaxed);
                let filled = self.broker()?.fill_disk(lasting).await;
                self.away.fetch_sub(1, Relaxed);
                filled?;
            }
            Fault::CutOff { role, for_ms } => {
                self.counts
                    .add(&format!("{} cut off from the broker", role.name()));
                let relay = self.target.relays.get(&role);
                let relay = relay.with_context(|| format!("no relay for {}", role.name()))?;
                self.away.fetch_add(1, Relaxed);
                relay.cut_for(Duration::from_millis(for_ms)).await;
                self.away.fetch_sub(1, Relaxed);
            }
            Fault::StateAway { for_ms } => {
                self.counts.add("state away");
                let relay = self.target.state_relay.as_ref();
                let relay = relay.context("the embedded target's state is in its own process")?;
                self.away.fetch_add(1, Relaxed);
                relay.cut_for(Duration::from_millis(for_ms)).await;
                self.away.fetch_sub(1, Relaxed);
            }
            Fault::Storage {
                fault,
                one_in,
                for_ms,
            } => {
                let lasting = Duration::from_millis(for_ms);
                let name = format!("object storage: {}", storage_name(fault));
                self.store.rules.add(fault, name, one_in, lasting);
            }
            Fault::Search {
                fault,
                one_in,
                for_ms,
            } => {
                let lasting = Duration::from_millis(for_ms);
                let proxy = self.target.search_proxy.as_ref();
                let proxy = proxy.context("the embedded index is not reached over a network")?;
                let name = format!("OpenSearch: {}", search_name(fault));
                proxy.rules.add(fault, name, one_in, lasting);
            }
        }
        Ok(())
    }

    fn broker(&self) -> anyhow::Result<&KafkaServer> {
        let broker = self.target.broker.as_ref();
        broker.context("the embedded broker has the process and the disk of `up`")
    }

    fn member(&self, role: Role) -> anyhow::Result<&crate::target::member::Member> {
        self.target.members.get(&role).with_context(|| {
            format!(
                "the schedule names {}, which the {} target has not",
                role.name(),
                self.target.kind
            )
        })
    }

    /// Notes how a process left. Without its broker or its state it can't tell what it did, and may
    /// take longer.
    fn left(&self, role: Role, left: Left, excused: bool) {
        let excused = excused || self.away.load(Relaxed) > 0;
        let success = left.status.is_some_and(|status| status.success());
        if !excused {
            let took_ms = u64::try_from(left.took.as_millis()).unwrap_or(u64::MAX);
            self.longest_drain_ms.fetch_max(took_ms, Relaxed);
        }
        let code = left.status.and_then(|status| status.code());
        let refused_to_start = self.full.load(Relaxed) > 0 && !left.was_ready && code == Some(1);
        // Started and told to leave in one moment: the signal came before the program had asked for it, and
        // nothing had begun.
        let never_began = !left.was_ready
            && left.status.and_then(|status| status.signal()) == Some(Signal::TERM.as_raw());
        if excused || refused_to_start || never_began || (success && left.took <= LEAVE_LIMIT) {
            return;
        }
        let status = left.status.map_or_else(
            || "had to be killed".to_owned(),
            |status| status.to_string(),
        );
        let violation = Violation {
            promise: "SIGTERM drains within its deadline and leaves with 0",
            subject: role.name().to_owned(),
            found: format!("{status} after {:.1} s", left.took.as_secs_f64()),
        };
        self.violations
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(violation);
    }
}

/// Whether the next step waits for the end of this one. Signals to one process must keep their order.
fn is_short(fault: &Fault) -> bool {
    match fault {
        Fault::Pause { role, .. } | Fault::Terminate { role } => *role == Role::Up,
        Fault::Kill { .. }
        | Fault::HalfAppend
        | Fault::HalfCommit
        | Fault::Storage { .. }
        | Fault::Search { .. } => true,
        Fault::Stranger { .. }
        | Fault::FullDisk { .. }
        | Fault::KillBroker { .. }
        | Fault::BrokerFullDisk { .. }
        | Fault::CutOff { .. }
        | Fault::StateAway { .. } => false,
    }
}

fn storage_name(fault: StorageFault) -> &'static str {
    match fault {
        StorageFault::Unavailable => "503",
        StorageFault::HangUp => "connection cut",
        StorageFault::Half => "cut in the middle of the body",
        StorageFault::Slow => "slow",
    }
}

fn search_name(fault: SearchFault) -> &'static str {
    match fault {
        SearchFault::TooManyRequests => "429",
        SearchFault::ItemsRejected => "429 of some items",
        SearchFault::Unavailable => "503",
        SearchFault::TooLarge => "413",
        SearchFault::ReadOnly => "read-only",
        SearchFault::LostResponse => "applied, response lost",
        SearchFault::HangUp => "connection cut",
        SearchFault::FewerItems => "fewer items than sent",
        SearchFault::Slow => "slow",
    }
}
