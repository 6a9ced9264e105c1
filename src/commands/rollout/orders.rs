//! The steps of a rollout: start, switch, rollback, finish, abort.

use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use super::report;
use super::settings::Gates;
use crate::api::client::ApiClient;
use crate::api::rollout::{FinishOrder, StartOrder, SwitchAnswer};
use crate::output::{Output, confirmed};
use crate::rollout::gates;
use crate::stack::rollouts::{RolloutStatus, SwitchOrder};

/// Begin: fill a new generation with another model, while the present one serves.
///
/// Both are written from here on, by whichever `up` or vectorizer runs, until `finish` or `abort`.
#[derive(Debug, clap::Args)]
pub struct Start {
    /// The new encoder, `NAME` or `NAME:VERSION` of the model store.
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Tell how much it would be and how long it takes, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Start {
    pub async fn run(&self, api: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let order = StartOrder {
            model: Some(self.model.clone()),
        };
        if self.dry_run {
            let plan = api.plan_rollout(&order).await?;
            output.result(&plan, || report::plan(&plan))?;
        } else {
            let status = api.start_rollout(&order).await?;
            output.result(&status, || report::status(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Have the new generation serve, if the gates let it.
///
/// The gates: coverage (every document, at its version), checksums (sampled text), dimension, retrieval
/// (nDCG@10 on a judged set), ranking (what users clicked, ordered by cosines), latency. Then it is warmed
/// up, and the alias moves in one step.
#[derive(Debug, clap::Args)]
pub struct Switch {
    #[command(flatten)]
    gates: Gates,
    /// Switch though nobody measured whether the new model finds as well.
    #[arg(long, conflicts_with = "judged")]
    without_judgements: bool,
    /// Switch whatever the gates say and wherever the alias points; asks.
    #[arg(long)]
    force: bool,
    /// Measure the gates, and change nothing.
    #[arg(long, conflicts_with = "force")]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Switch {
    pub async fn run(&self, api: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let gates = self.gates.settings()?;
        if self.force
            && !confirmed(
                "Switch whatever the gates say and wherever the alias points?",
                self.yes,
            )?
        {
            bail!("nothing was changed");
        }
        let order = SwitchOrder {
            gates,
            without_judgements: self.without_judgements,
            force: self.force,
            dry_run: self.dry_run,
        };
        let answer = measured(api, &order, output).await?;
        output.result(&answer, || {
            let end = match answer.switched {
                true => "the new generation serves; `rollout rollback` goes back, `rollout finish` ends it",
                false => "nothing was changed",
            };
            format!("{}\n{end}", report::gates(&answer.gates))
        })?;
        // A look at gates that would refuse ends as the switch would.
        let refusal = gates::refusal(&answer.gates, self.without_judgements);
        let refused = self.dry_run && refusal.is_some();
        Ok(ExitCode::from(u8::from(refused)))
    }
}

/// Has the gates measured and, as the order says, the new generation serve; tells meanwhile that it does.
pub async fn measured(
    api: &ApiClient,
    order: &SwitchOrder,
    output: Output,
) -> anyhow::Result<SwitchAnswer> {
    let working = output.working("measuring the gates");
    let answer = api.switch(order).await;
    working.finish_and_clear();
    answer
}

/// Have the old generation serve again; nothing that came meanwhile is lost.
#[derive(Debug, clap::Args)]
pub struct Rollback {}

impl Rollback {
    pub async fn run(&self, api: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        told(&api.roll_back().await?, output)
    }
}

/// End it: the old generation is written no more, and there is no way back.
#[derive(Debug, clap::Args)]
pub struct Finish {
    /// Remove the old generation; asks.
    #[arg(long)]
    delete_old: bool,
    /// Tell what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Finish {
    pub async fn run(&self, api: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let status = api.rollout().await?;
        let removes = |status: &RolloutStatus| {
            let rollout = status.rollout.as_ref();
            rollout
                .filter(|_| self.delete_old)
                .map(|it| it.from.generation)
        };
        if self.dry_run {
            return would(&status, removes(&status), output);
        }
        if let Some(generation) = removes(&status)
            && !confirmed(
                &format!("Remove generation {generation} for good?"),
                self.yes,
            )?
        {
            bail!("nothing was changed");
        }
        let order = FinishOrder {
            delete_old: self.delete_old,
        };
        told(&api.finish_rollout(order).await?, output)
    }
}

/// Give it up: the new generation is removed, the old one goes on; asks.
#[derive(Debug, clap::Args)]
pub struct Abort {
    /// Tell what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Abort {
    pub async fn run(&self, api: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let status = api.rollout().await?;
        let removes = status.open().map(|rollout| rollout.to.generation);
        if self.dry_run {
            return would(&status, removes, output);
        }
        if let Some(generation) = removes
            && !confirmed(
                &format!("Remove generation {generation} for good?"),
                self.yes,
            )?
        {
            bail!("nothing was changed");
        }
        told(&api.abort_rollout().await?, output)
    }
}

fn told(status: &RolloutStatus, output: Output) -> anyhow::Result<ExitCode> {
    output.result(status, || report::status(status))?;
    Ok(ExitCode::SUCCESS)
}

/// What an order would do.
#[derive(Serialize)]
struct Would<'a> {
    dry_run: bool,
    /// Generation that would be removed.
    removes: Option<i32>,
    #[serde(flatten)]
    status: &'a RolloutStatus,
}

fn would(status: &RolloutStatus, removes: Option<i32>, output: Output) -> anyhow::Result<ExitCode> {
    let report = Would {
        dry_run: true,
        removes,
        status,
    };
    output.result(&report, || {
        let removed = match removes {
            Some(generation) => format!("generation {generation} would be removed"),
            None => "no generation would be removed".to_owned(),
        };
        format!("{}\n{removed}", report::status(status))
    })?;
    Ok(ExitCode::SUCCESS)
}
