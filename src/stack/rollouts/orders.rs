//! What operators have done: begin, switch, go back, finish, abort. Each order is refused where the
//! record, the alias or the gates say otherwise, and can be given again after whatever cut it off.

use std::time::{Duration, Instant};

use anyhow::Context;
use millrace_index::IndexError;
use millrace_kafka::Admin;
use millrace_retry::error_chain;
use millrace_schemas::{Rollout, RolloutGate, RolloutGeneration, RolloutPhase};
use serde::{Deserialize, Serialize};

use super::{RolloutStatus, Rollouts, TRY_AGAIN, Work};
use crate::api::search::{SearchQuery, hits};
use crate::rollout::gates;
use crate::rollout::measure::{GateSettings, JudgedBy, Pair};
use crate::rollout::records::{described, is_backfill, number};
use crate::stack::generations::OpenGeneration;
use crate::stack::pipeline::vectorizer_group;

/// How long the group of a vectorizer that was stopped is tried to be removed: its members are
/// forgotten after the session time.
const FORGET_WITHIN: Duration = Duration::from_secs(180);
/// How long `finish` waits for the old vectorizer, and orders for the recommender; commands wait a minute
/// for an answer.
const TELL_WITHIN: Duration = Duration::from_secs(25);
/// How often it is looked whether the recommender has moved.
const MOVED_EVERY: Duration = Duration::from_millis(100);
/// How long a rollback warms up what it goes back to.
const WARM_UP_WITHIN: Duration = Duration::from_secs(5);

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The order itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The state of things does not allow it.
    #[error("{0}")]
    Refused(String),
    /// A part does not work at the moment.
    #[error("the order was cut off; give it again")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<anyhow::Error> for RolloutError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast_ref() {
            Some(IndexError::AliasMoved { .. } | IndexError::Serves { .. }) => {
                Self::Refused(error_chain(error.as_ref()))
            }
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<IndexError> for RolloutError {
    fn from(error: IndexError) -> Self {
        anyhow::Error::new(error).into()
    }
}

pub(super) fn refused<T>(why: impl Into<String>) -> Result<T, RolloutError> {
    Err(RolloutError::Refused(why.into()))
}

/// How to switch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchOrder {
    #[serde(default)]
    pub gates: GateSettings,
    /// Whether the retrieval gate may be without a judged set.
    #[serde(default)]
    pub without_judgements: bool,
    /// Whatever the gates say, and wherever the alias points.
    #[serde(default)]
    pub force: bool,
    /// Only measure.
    #[serde(default)]
    pub dry_run: bool,
}

impl Rollouts {
    /// Begins a rollout to this model of the store, or a backfill where it is none: both generations are
    /// written from here on.
    ///
    /// # Errors
    /// One is open already; the model is not in the store, or serves already.
    pub async fn begin(
        &self,
        model: Option<&str>,
        who: &str,
    ) -> Result<RolloutStatus, RolloutError> {
        let mut work = self.work.lock().await;
        let (rollout, _, encoder) = self.proposed(model).await?;
        let index = described(&rollout, &rollout.to).index;
        let group = vectorizer_group(&self.deps.kafka, &index);
        let admin = Admin::connect(&self.deps.kafka).map_err(anyhow::Error::from)?;
        // Offsets of an earlier try would have it begin in the middle.
        if let Err(error) = admin.delete_group(&group).await {
            return refused(format!(
                "the group {group} of an earlier try has members still, which are forgotten within a \
                 minute or two; try again then ({})",
                error_chain(&error)
            ));
        }
        let generations = &self.deps.generations;
        // Whoever makes the generation has the rollout: another process at the same time is refused.
        generations.create(number(&rollout.to), encoder).await?;
        self.reach(&mut work, &rollout, RolloutPhase::Building, who)
            .await?;
        drop(work);
        self.status().await
    }

    fn open_rollout(&self, allowed: &[RolloutPhase], order: &str) -> Result<Rollout, RolloutError> {
        match self.now() {
            Some(rollout) if allowed.contains(&rollout.phase) => Ok(rollout),
            Some(rollout) => refused(format!(
                "the rollout to generation {} is {}; `{order}` takes one that is {}",
                rollout.to.generation,
                rollout.phase,
                allowed
                    .iter()
                    .map(|phase| phase.as_str())
                    .collect::<Vec<_>>()
                    .join(" or ")
            )),
            None => refused(format!(
                "there is no rollout to {order}; `millrace rollout start --model NAME` begins one"
            )),
        }
    }

    /// The generation that the alias points at.
    async fn alias(&self, rollout: &Rollout) -> Result<Option<u32>, RolloutError> {
        let serving = self.deps.generations.all().resolve(&rollout.index).await?;
        Ok(serving.map(|serving| serving.generation))
    }

    /// Has the new generation serve, if the gates let it.
    ///
    /// # Errors
    /// The rollout is in another phase, a gate did not pass, somebody moved the alias.
    pub async fn switch(
        &self,
        order: &SwitchOrder,
        who: &str,
    ) -> Result<Vec<RolloutGate>, RolloutError> {
        const SWITCHABLE: [RolloutPhase; 3] = [
            RolloutPhase::Ready,
            RolloutPhase::RolledBack,
            RolloutPhase::Switching,
        ];
        let rollout = self.open_rollout(&SWITCHABLE, "switch")?;
        let (from, to) = (number(&rollout.from), number(&rollout.to));
        let pointed = self.alias(&rollout).await?;
        if pointed == Some(to) && rollout.phase == RolloutPhase::Switching && !order.dry_run {
            let mut work = self.work.lock().await;
            self.require_still(&rollout)?;
            // Cut off between the alias and the record.
            self.reach(&mut work, &rollout, RolloutPhase::Switched, who)
                .await?;
            return Ok(rollout.gates);
        }
        if pointed != Some(from) && !order.force {
            let moved = IndexError::AliasMoved {
                alias: rollout.index.clone(),
                expected: described(&rollout, &rollout.from).index,
                found: pointed.map_or_else(
                    || "nothing".to_owned(),
                    |found| millrace_index::generation_name(&rollout.index, found),
                ),
            };
            return refused(format!(
                "{moved}; --force has the new generation serve all the same"
            ));
        }
        let mut gated = rollout.clone();
        if order.force {
            if order.dry_run {
                return Ok(gated.gates);
            }
            self.one(&rollout, &rollout.to).await?;
        } else {
            let (old, new) = self.pair(&rollout).await?;
            let pair = Pair {
                old: &old,
                new: &new,
            };
            let mut queries = self.deps.recent.all();
            queries.extend(
                order
                    .gates
                    .judged
                    .iter()
                    .flat_map(|it| it.queries.values().cloned()),
            );
            let by = JudgedBy {
                settings: &order.gates,
                queries: &queries,
                liking: self.liking.get(),
            };
            gated.gates = pair.gates(&by, self.level(&rollout)).await?;
            if order.dry_run {
                return Ok(gated.gates);
            }
            if let Some(why) = gates::refusal(
                &gated.gates,
                order.without_judgements || is_backfill(&rollout),
            ) {
                return refused(format!("not switched: {why}"));
            }
            warm_up(&new, &queries).await?;
        }
        // Measuring takes long, and the record goes on meanwhile.
        let mut work = self.work.lock().await;
        self.require_still(&rollout)?;
        let phase_before = rollout.phase;
        let switching = self.reach(&mut work, &gated, RolloutPhase::Switching, who);
        let switching = switching.await?;
        let generations = self.deps.generations.all();
        let expected = if order.force { pointed } else { Some(from) };
        if let Err(error) = generations.swap_alias(&rollout.index, expected, to).await {
            if let IndexError::AliasMoved { .. } = error {
                // By another process, or by this request, of which the answer was lost.
                if self.alias(&switching).await? == Some(to) {
                    self.reach(&mut work, &switching, RolloutPhase::Switched, who)
                        .await?;
                    return Ok(switching.gates);
                }
                let back = match phase_before {
                    RolloutPhase::Switching => RolloutPhase::Ready,
                    other => other,
                };
                self.reach(&mut work, &gated, back, who).await?;
            }
            return Err(error.into());
        }
        self.reach(&mut work, &switching, RolloutPhase::Switched, who)
            .await?;
        Ok(switching.gates)
    }

    /// # Errors
    /// The record has gone on since `rollout` was read.
    fn require_still(&self, rollout: &Rollout) -> Result<(), RolloutError> {
        match self.now() {
            Some(now) if now == *rollout => Ok(()),
            now => {
                let phase = now.map_or("gone".to_owned(), |now| now.phase.to_string());
                refused(format!(
                    "the rollout is {phase} now: another order went on with it meanwhile; see `millrace \
                     rollout status`"
                ))
            }
        }
    }

    /// Has the old generation serve again; it was written all the time.
    ///
    /// # Errors
    /// The rollout is in another phase, somebody moved the alias.
    pub async fn roll_back(&self, who: &str) -> Result<RolloutStatus, RolloutError> {
        const REVERSIBLE: [RolloutPhase; 3] = [
            RolloutPhase::Switched,
            RolloutPhase::RollingBack,
            RolloutPhase::Switching,
        ];
        let mut work = self.work.lock().await;
        let rollout = self.open_rollout(&REVERSIBLE, "rollback")?;
        let (from, to) = (number(&rollout.from), number(&rollout.to));
        let pointed = self.alias(&rollout).await?;
        let rolling = if pointed == Some(from) {
            rollout
        } else {
            let old = self.one(&rollout, &rollout.from).await?;
            // What is only warm in the other generation is cold here by now. Whoever goes back is in a
            // hurry, so this is tried and not waited for.
            let queries = self.deps.recent.all();
            let warming = tokio::time::timeout(WARM_UP_WITHIN, warm_up(&old, &queries));
            match warming.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("not warmed up: {}", error_chain(error.as_ref())),
                Err(_) => tracing::warn!("not warmed up in time"),
            }
            let rolling = self.reach(&mut work, &rollout, RolloutPhase::RollingBack, who);
            let rolling = rolling.await?;
            let generations = self.deps.generations.all();
            // An alias that points at nothing is somebody's who removed what serves.
            let expected = pointed.map(|_| to);
            let swapped = generations.swap_alias(&rolling.index, expected, from).await;
            if let Err(error) = swapped {
                if let IndexError::AliasMoved { .. } = error {
                    if self.alias(&rolling).await? == Some(from) {
                        self.reach(&mut work, &rolling, RolloutPhase::RolledBack, who)
                            .await?;
                        drop(work);
                        return self.status().await;
                    }
                    self.reach(&mut work, &rolling, RolloutPhase::Switched, who)
                        .await?;
                }
                return Err(error.into());
            }
            rolling
        };
        self.reach(&mut work, &rolling, RolloutPhase::RolledBack, who)
            .await?;
        drop(work);
        self.status().await
    }

    /// Has the new generation alone be written: there is no way back after it. Given again, it removes
    /// what is left of the old one.
    ///
    /// # Errors
    /// The rollout is in another phase, or the new generation does not serve.
    pub async fn finish(&self, delete_old: bool, who: &str) -> Result<RolloutStatus, RolloutError> {
        let mut work = self.work.lock().await;
        let finishable = [RolloutPhase::Switched, RolloutPhase::Finished];
        let rollout = self.open_rollout(&finishable, "finish")?;
        let to = number(&rollout.to);
        if self.alias(&rollout).await? != Some(to) {
            return refused(format!(
                "the alias {} does not point at generation {to}: somebody moved it; `millrace rollout \
                 status` tells where it is",
                rollout.index
            ));
        }
        self.require_read(to, "the old generation").await?;
        if rollout.phase != RolloutPhase::Finished {
            self.require_told(&rollout).await?;
            self.reach(&mut work, &rollout, RolloutPhase::Finished, who)
                .await?;
        }
        self.clean_up(&mut work, &rollout, &rollout.from, delete_old)
            .await?;
        drop(work);
        self.status().await
    }

    /// Waits until all parts of this process read this generation, and none the other one.
    ///
    /// # Errors
    /// They do not get there in time.
    async fn require_read(&self, generation: u32, other: &str) -> Result<(), RolloutError> {
        let deadline = Instant::now() + TELL_WITHIN;
        while self.is_read_elsewhere(generation) {
            if Instant::now() > deadline {
                return refused(format!(
                    "the recommender reads {other}'s items still; try again in a moment"
                ));
            }
            tokio::time::sleep(MOVED_EVERY).await;
        }
        Ok(())
    }

    /// Waits until the old generation's vectorizer has done what the new one has done by now: before the
    /// switch that one told nobody what became of a notice.
    ///
    /// # Errors
    /// It does not get there in time.
    async fn require_told(&self, rollout: &Rollout) -> Result<(), RolloutError> {
        let new = self.committed(rollout, &rollout.to).await?;
        let deadline = Instant::now() + TELL_WITHIN;
        loop {
            let old = self.committed(rollout, &rollout.from).await?;
            let behind = new.iter().map(|(partition, new)| {
                let old = old.get(partition).copied().unwrap_or(0);
                (new - old).max(0)
            });
            let behind: i64 = behind.sum();
            if behind == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return refused(format!(
                    "the old generation's vectorizer has {behind} notices to do that the new one has done, and \
                     nobody has told what became of them; wait until `millrace lag` shows it has, then finish"
                ));
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// Removes the new generation and goes on with the old one. Given again, or without a rollout, it
    /// removes what a try that was cut off has left.
    ///
    /// # Errors
    /// The new generation serves: it must be rolled back first.
    pub async fn abort(&self, who: &str) -> Result<RolloutStatus, RolloutError> {
        let mut work = self.work.lock().await;
        match self
            .now()
            .filter(|rollout| rollout.phase != RolloutPhase::Finished)
        {
            Some(rollout) => {
                if self.alias(&rollout).await? == Some(number(&rollout.to)) {
                    return refused(
                        "the new generation serves; `millrace rollout rollback` goes back first",
                    );
                }
                let from = number(&rollout.from);
                self.require_read(from, "the new generation").await?;
                if rollout.phase.is_open() {
                    self.reach(&mut work, &rollout, RolloutPhase::Aborted, who)
                        .await?;
                }
                self.clean_up(&mut work, &rollout, &rollout.to, true)
                    .await?;
            }
            None => {
                let serving = self.deps.generations.serving().await?.spec;
                let all = self.deps.generations.all();
                let there = all.list(&serving.name).await?;
                let left = there.into_iter().map(|found| found.generation);
                for generation in left.filter(|found| *found > serving.generation) {
                    self.deps.generations.close(generation);
                    all.delete(&serving.name, generation).await?;
                }
            }
        }
        drop(work);
        self.status().await
    }

    /// Removes the group of a generation that is no longer written, and the generation where asked.
    async fn clean_up(
        &self,
        _work: &mut Work,
        rollout: &Rollout,
        of: &RolloutGeneration,
        delete: bool,
    ) -> Result<(), RolloutError> {
        let generation = number(of);
        self.deps.generations.close(generation);
        if delete {
            let all = self.deps.generations.all();
            all.delete(&rollout.index, generation).await?;
        }
        self.forget_group(&described(rollout, of).index);
        Ok(())
    }

    /// Removes the group in the background, once its members are forgotten.
    fn forget_group(&self, index: &str) {
        let group = vectorizer_group(&self.deps.kafka, index);
        let kafka = self.deps.kafka.clone();
        let mut state = self.state.subscribe();
        let forgetting = async move {
            let deadline = Instant::now() + FORGET_WITHIN;
            let removed = async {
                loop {
                    let deleted = match Admin::connect(&kafka) {
                        Ok(admin) => admin.delete_group(&group).await.map(drop),
                        Err(error) => Err(error),
                    };
                    match deleted {
                        Ok(()) => return None,
                        Err(error) if Instant::now() > deadline => return Some(error),
                        Err(_) => tokio::time::sleep(TRY_AGAIN).await,
                    }
                }
            };
            // Another rollout may give the group work again.
            let reopened = state.wait_for(|it| it.as_ref().is_some_and(|it| it.phase.is_open()));
            tokio::select! {
                failure = removed => if let Some(error) = failure {
                    let reason = error_chain(&error);
                    tracing::warn!(group, reason, "the group is still there; the order, given again, removes it");
                },
                _ = reopened => {}
            }
        };
        self.spawn(forgetting);
    }
}

/// Loads what searches of a generation need, by its own means and by queries that were asked.
async fn warm_up(open: &OpenGeneration, queries: &[String]) -> anyhow::Result<()> {
    let name = open.spec.index_name();
    let warmed = open.index.warm_up().await;
    warmed.with_context(|| format!("{name} can't be warmed up"))?;
    for query in queries {
        hits(open, &SearchQuery::new(query)).await?;
    }
    Ok(())
}
