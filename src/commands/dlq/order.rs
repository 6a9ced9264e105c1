//! Replaying and discarding: count, ask, audit, work, report.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use millrace_kafka::{Admin, KafkaConfig, Producer, ResolvedLetters, Resolver, topics};

use super::filter::{Filter, FilterArgs};
use super::plan::{Act, Plan};
use super::report::{Done, Report};
use super::work::Work;
use crate::audit::{self, Audit};
use crate::output::{Output, confirmed};
use crate::rate::{Pacer, Rate};
use crate::stack::stop;

/// Flags of what is done to letters.
#[derive(Clone, Debug, clap::Args)]
pub struct OrderArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many letters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max: Option<u64>,
    /// Say how many letters for which reason it would be, without doing anything.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// What is to be done with which letters, and how.
pub struct Order {
    pub act: Act,
    /// At most so many a second.
    pub rate: Option<Rate>,
    pub args: OrderArgs,
}

impl Order {
    /// Carries it out on the letters that the filter lets pass.
    ///
    /// # Errors
    /// Nothing was done, or not all: the rest is open.
    pub async fn run(self, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
        let filter = Filter::new(&self.args.filter, kafka)?;
        carry_out(self, &filter, kafka, output).await
    }

    fn arguments(&self) -> audit::Arguments {
        let max_replays = match self.act {
            Act::Replay { max_replays } => Some(max_replays.to_string()),
            Act::Discard => None,
        };
        audit::arguments([
            ("max_replays", max_replays),
            ("max", self.args.max.map(|max| max.to_string())),
            ("rate", self.rate.map(|rate| rate.to_string())),
        ])
    }
}

async fn carry_out(
    order: Order,
    filter: &Filter,
    kafka: &KafkaConfig,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let admin = Admin::connect(kafka)?;
    let present: HashSet<String> = admin.list().await?.into_iter().collect();
    let resolved = ResolvedLetters::read(kafka).await?;
    let plan = Plan::make(
        order.act,
        filter,
        order.args.max,
        kafka,
        &resolved,
        &present,
    )
    .await?;
    let question = plan.question(order.act);
    let mut report = Report::new(order.act, plan, order.args.dry_run);
    if order.args.dry_run || report.plan.selected == 0 {
        output.result(&report, || report.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !confirmed(&question, order.args.yes)? {
        bail!("nothing was changed");
    }
    admin
        .create_named(&[topics::DLQ_RESOLVED, topics::AUDIT])
        .await?;
    let producer = Producer::connect(kafka)?;
    let who = audit::operator();
    let mut arguments = filter.arguments();
    arguments.extend(order.arguments());
    let audit = Audit::begin(&producer, who.clone(), order.act.name(), arguments).await?;
    let started = Instant::now();
    let mut work = Work {
        order: &order,
        filter,
        kafka,
        resolver: Resolver::new(producer.clone(), who),
        resolved,
        present: &present,
        bar: output.progress(Some(report.plan.selected), "letters"),
        stop: stop::signals()?,
        pacer: Pacer::new(order.rate),
        done: Done::default(),
    };
    let mut failure = None;
    for topic in &report.plan.topics {
        if let Err(error) = work.topic(topic.source).await {
            failure = Some(error);
        }
        if failure.is_some() || work.done.interrupted {
            break;
        }
    }
    work.bar.finish_and_clear();
    report.done = work.done;
    report.took(started.elapsed().as_secs_f64());

    let counts = report.done.counts(&report.plan);
    match &failure {
        None => audit.done(counts).await?,
        Some(error) => {
            // The brokers that did not answer may not take this either; what failed is what matters.
            if let Err(untold) = audit.failed(counts, &format!("{error:#}")).await {
                tracing::warn!("{untold:#}");
            }
        }
    }
    output.result(&report, || report.text())?;
    if let Some(error) = failure {
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
