//! Replaying and discarding: plan, audit, work, report.

use std::collections::HashSet;
use std::time::Instant;

use indicatif::ProgressBar;
use millrace_kafka::{Admin, KafkaConfig, Producer, ResolvedLetters, Resolver, topics};
use millrace_retry::error_chain;

use super::filter::Filter;
use super::plan::{Act, Plan};
use super::report::{Done, Report};
use super::work::Work;
use crate::audit::{self, Audit};
use crate::rate::{Pacer, Rate};
use crate::stack::stop;

/// What is to be done with which letters, and how.
pub struct Order {
    /// What is to become of them.
    pub act: Act,
    /// Which are meant.
    pub filter: Filter,
    /// At most so many.
    pub max: Option<u64>,
    /// At most so many a second.
    pub rate: Option<Rate>,
}

/// An order of which it is known what it would do. Nothing is done yet.
pub struct Planned<'a> {
    order: Order,
    kafka: &'a KafkaConfig,
    admin: Admin,
    present: HashSet<String>,
    resolved: ResolvedLetters,
    /// What it would do.
    pub plan: Plan,
}

/// What became of an order that was begun.
pub struct Carried {
    /// What was done.
    pub report: Report,
    /// Why not all was done: the rest is open.
    pub failure: Option<anyhow::Error>,
}

impl Order {
    /// Counts what it would do.
    ///
    /// # Errors
    /// The topics can't be read.
    pub async fn plan(self, kafka: &KafkaConfig) -> anyhow::Result<Planned<'_>> {
        let admin = Admin::connect(kafka)?;
        let present: HashSet<String> = admin.list().await?.into_iter().collect();
        let resolved = ResolvedLetters::read(kafka).await?;
        let plan = Plan::make(self.act, &self.filter, self.max, kafka, &resolved, &present).await?;
        Ok(Planned {
            order: self,
            kafka,
            admin,
            present,
            resolved,
            plan,
        })
    }

    fn arguments(&self) -> audit::Arguments {
        let max_replays = match self.act {
            Act::Replay { max_replays } => Some(max_replays.to_string()),
            Act::Discard => None,
        };
        let mut arguments = self.filter.arguments();
        arguments.extend(audit::arguments([
            ("max_replays", max_replays),
            ("max", self.max.map(|max| max.to_string())),
            ("rate", self.rate.map(|rate| rate.to_string())),
        ]));
        arguments
    }
}

impl Planned<'_> {
    /// What it would do, as a report of nothing done.
    pub fn report(&self) -> Report {
        Report::new(self.order.act, self.plan.clone(), true)
    }

    /// What is asked before it is done.
    pub fn question(&self) -> String {
        self.plan.question(self.order.act)
    }

    /// Does it in the name of `who`, audited. A signal to stop ends it between two batches.
    ///
    /// # Errors
    /// It can't be audited: then nothing was done, or what was done is not told of.
    pub async fn carry_out(self, who: String, bar: ProgressBar) -> anyhow::Result<Carried> {
        let Self {
            order,
            kafka,
            admin,
            present,
            resolved,
            plan,
        } = self;
        admin
            .create_named(&[topics::DLQ_RESOLVED, topics::AUDIT])
            .await?;
        let producer = Producer::connect(kafka)?;
        let name = order.act.name();
        let audit = Audit::begin(&producer, who.clone(), name, order.arguments()).await?;
        let started = Instant::now();
        let mut report = Report::new(order.act, plan, false);
        let mut work = Work {
            order: &order,
            kafka,
            resolver: Resolver::new(producer.clone(), who),
            resolved,
            present: &present,
            bar,
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
        if report.done.replayed > 0 {
            let targets = report.plan.topics.iter().filter(|it| it.selected > 0);
            let targets: Vec<String> = targets.filter_map(|it| it.target.clone()).collect();
            // What was done is done, and told, also where this can't be found out.
            match admin.without_readers(&targets).await {
                Ok(unread) => report.done.unread = unread,
                Err(error) => tracing::debug!(error = error_chain(&error), "who reads is not told"),
            }
        }

        let counts = report.done.counts(&report.plan);
        match &failure {
            None => audit.done(counts).await?,
            Some(error) => {
                // The brokers that did not answer may not take this either; what failed is what matters.
                if let Err(untold) = audit.failed(counts, &error_chain(error.as_ref())).await {
                    tracing::warn!("{}", error_chain(untold.as_ref()));
                }
            }
        }
        Ok(Carried { report, failure })
    }
}
