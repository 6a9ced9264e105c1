//! Replaying and discarding from the command line: count, ask, do, report.

use std::process::ExitCode;

use anyhow::bail;
use millrace_kafka::KafkaConfig;

use crate::audit;
use crate::dead_letters::{Act, Filter, FilterArgs, Order};
use crate::output::{Output, confirmed};
use crate::rate::Rate;
use crate::stack::stop;

/// Flags of what is done to letters.
#[derive(Clone, Debug, clap::Args)]
pub struct OrderArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many letters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Say how many letters for which reason it would be, without doing anything.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Does `act` to the letters that the flags choose.
///
/// # Errors
/// Nothing was done, or not all: the rest is open.
pub async fn run(
    act: Act,
    rate: Option<Rate>,
    args: &OrderArgs,
    kafka: &KafkaConfig,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let order = Order {
        act,
        filter: Filter::new(&args.filter, kafka)?,
        max: args.max,
        rate,
    };
    let planned = order.plan(kafka).await?;
    if args.dry_run || planned.plan.selected == 0 {
        let mut report = planned.report();
        report.dry_run = args.dry_run;
        output.result(&report, || report.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !confirmed(&planned.question(), args.yes)? {
        bail!("nothing was changed");
    }
    let bar = output.progress(Some(planned.plan.selected), "letters");
    let carried = planned.carry_out(audit::operator(), bar).await?;
    let report = carried.report;
    output.result(&report, || report.text())?;
    if let Some(error) = carried.failure {
        return Err(error);
    }
    if report.done.interrupted {
        return Ok(stop::INTERRUPTED.into());
    }
    if report.done.refused > 0 {
        bail!(
            "{} letters were refused by their topic",
            report.done.refused
        );
    }
    Ok(ExitCode::SUCCESS)
}
