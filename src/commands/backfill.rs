//! `millrace backfill`: the index made anew of its documents, beside the one that serves, then in its place.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use millrace_schemas::{Rollout, RolloutGate, RolloutPhase};
use serde::Serialize;
use tokio::time::timeout;

use super::rollout::settings::Gates;
use super::rollout::status::PATIENCE;
use super::rollout::{orders, report, status};
use crate::api::client::ApiClient;
use crate::api::rollout::{FinishOrder, StartOrder};
use crate::config::Config;
use crate::output::{Output, confirmed};
use crate::rollout::gates;
use crate::rollout::measure::GateSettings;
use crate::rollout::records;
use crate::session::Session;
use crate::stack::Needs;
use crate::stack::address::RunningAddress;
use crate::stack::rollouts::{RolloutStatus, SwitchOrder};

/// How often an `up` is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Make the index anew: replay all documents into a new generation, compare, switch.
///
/// For documents that were read wrongly, settings that changed, or an index that is not trusted any more.
/// The old generation serves until the new one has every document and passed the gates; both are written
/// until `--finish`, so `millrace rollout rollback` loses nothing. While it builds, an outage is waited out
/// for five minutes, and for as long the next `up` where that left; killed, it goes on when it is run again.
/// For another model: `millrace rollout start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gates: Gates,
    /// Tell how much it would be and how long it takes, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Build and measure; `millrace rollout switch` has it serve.
    #[arg(long, conflicts_with = "finish")]
    no_switch: bool,
    /// End it once the new generation serves: there is no way back then.
    #[arg(long)]
    finish: bool,
    /// Remove the old generation at the end; asks.
    #[arg(long, requires = "finish")]
    delete_old: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What became of it.
#[derive(Serialize)]
struct Report {
    /// What the gates said.
    gates: Vec<RolloutGate>,
    switched: bool,
    /// From here on, which is not all of it where it was begun earlier.
    seconds: f64,
    #[serde(flatten)]
    status: RolloutStatus,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let needs = match args.dry_run {
        true => Needs::STATUS,
        false => Needs::INGEST,
    };
    if args.dry_run {
        let session = Session::attach_or_start(&config, needs).await?;
        let done = async {
            session.ready().await;
            let plan = session.api.plan_rollout(&StartOrder::default()).await?;
            output.result(&plan, || report::plan(&plan))?;
            Ok(ExitCode::SUCCESS)
        };
        let done = tokio::select! {
            done = done => done,
            gone = session.gone() => Err(gone),
        };
        session.close().await;
        return done;
    }
    // Before anything is built: a judged set that can't be read would be known of only then.
    let settings = args.gates.settings()?;
    if args.delete_old && !confirmed("Remove the old generation at the end?", args.yes)? {
        bail!("nothing was changed");
    }
    let began = Instant::now();
    let mut built = None;
    loop {
        let session = Session::attach_or_start(&config, needs).await?;
        let work = async {
            session.ready().await;
            args.work(&session.api, settings.clone(), began, &mut built, output)
                .await
        };
        let done = tokio::select! {
            done = work => done,
            gone = session.gone() => Err(gone),
        };
        // A connection breaks some moments before its process is known to be gone.
        let has_left = done.is_err()
            && !session.is_own()
            && timeout(2 * LOOK_EVERY, session.gone()).await.is_ok();
        session.close().await;
        match done {
            // What it had begun is kept: with the next `up` the same order goes on.
            Err(error) if has_left => until_up_is_back(&config, error).await?,
            done => return done,
        }
    }
}

/// Waits for an `up` on the data folder.
///
/// # Errors
/// `error`, where none came in time.
async fn until_up_is_back(config: &Config, error: anyhow::Error) -> anyhow::Result<()> {
    eprintln!("the `up` that this command spoke to has stopped; waiting for the next one");
    let deadline = Instant::now() + PATIENCE;
    while RunningAddress::read(&config.data_dir)?.is_none() {
        if Instant::now() >= deadline {
            return Err(error);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

impl Args {
    /// `built` is the generation that this command has built, for the next time that it is called.
    async fn work(
        &self,
        api: &ApiClient,
        settings: GateSettings,
        began: Instant,
        built: &mut Option<i32>,
        output: Output,
    ) -> anyhow::Result<ExitCode> {
        let there = status::asked(api).await?;
        let (gates, switched) = match switched_already(&there, *built) {
            // An `up` left between its deed and its answer.
            Some(rollout) => (rollout.gates.clone(), true),
            None => {
                if !is_under_way(&there)? {
                    api.start_rollout(&StartOrder::default()).await?;
                }
                let status = status::built(api, output).await?;
                *built = status.rollout.map(|rollout| rollout.to.generation);
                let order = SwitchOrder {
                    gates: settings,
                    dry_run: self.no_switch,
                    ..SwitchOrder::default()
                };
                let answer = orders::measured(api, &order, output).await?;
                (answer.gates, answer.switched)
            }
        };
        let mut status = status::asked(api).await?;
        // Finished already where only the answer was lost.
        if self.finish && status.open().is_some() {
            let delete_old = self.delete_old;
            status = api.finish_rollout(FinishOrder { delete_old }).await?;
        }
        let report = Report {
            gates,
            switched,
            seconds: began.elapsed().as_secs_f64(),
            status,
        };
        let refusal = gates::refusal(&report.gates, true);
        output.result(&report, || report.describe())?;
        Ok(ExitCode::from(u8::from(refusal.is_some())))
    }
}

/// The rollout to the generation that this command has `built`, where that serves.
fn switched_already(status: &RolloutStatus, built: Option<i32>) -> Option<&Rollout> {
    let rollout = status.rollout.as_ref()?;
    let serves = matches!(
        rollout.phase,
        RolloutPhase::Switched | RolloutPhase::Finished
    );
    (serves && Some(rollout.to.generation) == built).then_some(rollout)
}

/// Whether a backfill was begun already.
///
/// # Errors
/// What is under way is something else, or has gone too far.
fn is_under_way(status: &RolloutStatus) -> anyhow::Result<bool> {
    let Some(rollout) = status.open() else {
        return Ok(false);
    };
    let goes_on = matches!(
        rollout.phase,
        RolloutPhase::Building | RolloutPhase::Ready | RolloutPhase::Switching
    );
    if goes_on && records::is_backfill(rollout) {
        return Ok(true);
    }
    let advice = match rollout.phase {
        RolloutPhase::Switched | RolloutPhase::RollingBack => {
            "`millrace rollout finish` or `rollback` it first"
        }
        _ => "`millrace rollout switch` or `abort` it first",
    };
    bail!(
        "generation {} ({}) is {} already, begun by {}; {advice}",
        rollout.to.generation,
        rollout.to.model_version,
        rollout.phase,
        rollout.who
    )
}

impl Report {
    fn describe(&self) -> String {
        let end = match self.status.open().map(|rollout| rollout.phase) {
            None => "the new generation serves, and is the only one that is written",
            Some(RolloutPhase::Switched) => {
                "the new generation serves; `millrace rollout rollback` goes back, `rollout finish` ends it"
            }
            Some(_) => {
                "the old generation serves; `millrace rollout switch` changes that, `abort` gives up"
            }
        };
        // The record has the gates that it was switched by; here they are told once.
        let mut status = self.status.clone();
        if let Some(rollout) = &mut status.rollout {
            rollout.gates.clear();
        }
        format!(
            "{}\n{}\nafter {:.1} s: {end}",
            report::gates(&self.gates),
            report::status(&status),
            self.seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(phase: RolloutPhase, generation: i32) -> RolloutStatus {
        let of = |generation: i32| {
            json!({
                "generation": generation, "model_version": "m@0", "model_fingerprint": "0",
            })
        };
        let rollout = json!({
            "index": "documents", "phase": phase, "from": of(1), "to": of(generation), "who": "a",
        });
        RolloutStatus {
            serving: None,
            model_version: None,
            rollout: serde_json::from_value(rollout).unwrap(),
            progress: None,
        }
    }

    #[test]
    fn only_what_this_command_built_was_switched_by_it() {
        for (phase, serves) in [
            (RolloutPhase::Building, false),
            (RolloutPhase::Ready, false),
            (RolloutPhase::Switched, true),
            (RolloutPhase::Finished, true),
            (RolloutPhase::RolledBack, false),
            (RolloutPhase::Aborted, false),
        ] {
            let there = status(phase, 2);
            assert_eq!(
                switched_already(&there, Some(2)).is_some(),
                serves,
                "{phase}"
            );
            assert!(switched_already(&there, None).is_none());
            assert!(switched_already(&there, Some(3)).is_none());
        }
    }
}
