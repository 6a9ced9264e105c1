//! Carrying out a replay: ask, audit, work, report.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use millrace_kafka::{Admin, Producer, topics};
use millrace_objects::ObjectStores;
use millrace_retry::error_chain;
use tokio_util::sync::CancellationToken;

use super::begin::{Begun, gone_text};
use super::filter::Filter;
use super::page;
use super::read::Reading;
use super::report::Report;
use super::sink::{FileSink, Sink, StdoutSink, TopicSink};
use super::target::{Target, expiring, readers};
use super::work::{End, Run, Work};
use super::{Args, Reach};
use crate::audit::{self, Audit};
use crate::output::{Output, confirmed, refuse_existing};
use crate::session::Session;
use crate::stack::stop;

/// What is replayed, and where to.
pub struct Order<'a> {
    pub args: &'a Args,
    pub reach: &'a Reach<'a>,
    pub admin: Admin,
    /// The topic's full name.
    pub topic: String,
    pub target: Target,
}

/// How a run ended.
enum Ended {
    As(End),
    /// A second signal came.
    AtOnce,
}

impl Order<'_> {
    /// Carries it out and tells what became of it.
    ///
    /// # Errors
    /// It can't be begun, or not gone on with; then it can be run again.
    pub async fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        let args = self.args;
        if let Some(path) = &args.report {
            refuse_existing(path, args.force)?;
        }
        let kafka = self.reach.kafka;
        let begun = Begun::new(args, &self.topic, &self.target, kafka, &self.admin);
        let mut begun = begun.await?;
        let mut report = Report::new(&self.topic, &self.target, &begun);
        self.ask(&mut report, &begun, output)?;
        let producer = Producer::connect(kafka)?;
        let mut sink = self.sink(&producer, &begun, &mut report).await?;
        self.tell(&begun, output);
        let audit = self.audited(&producer, &begun).await?;

        let mut run = Run::new();
        let bar = output.progress(Some(begun.total()), "records");
        bar.set_position(begun.passed());
        bar.reset_eta();
        let ended = self.work(&mut begun, &mut sink, &mut run, &bar, &mut report);
        let ended = ended.await;
        bar.finish_and_clear();

        report.take(&mut run, &begun);
        report.interrupted = match &ended {
            Ok(Ended::AtOnce) => true,
            // Without a signal it was a reader of standard output that has seen enough.
            Ok(Ended::As(End::Stopped)) => report.was_signalled,
            Ok(Ended::As(End::Done)) => report.pending.is_some_and(|pending| pending > 0),
            Err(_) => false,
        };
        report.staging = sink.staging().map(Path::to_owned);
        if let Target::Topic(target) = &self.target {
            report.expiring = expiring(&self.admin, target, &run.survey).await;
        }
        let failure = match ended {
            // Kept where outcomes are still to come: the same command then has nothing left to publish.
            Ok(Ended::As(End::Done)) if report.interrupted => None,
            Ok(Ended::As(End::Done)) => self.finish(&mut sink, &begun, &mut report).await.err(),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let Some(audit) = audit {
            let counts = report.counts();
            let why = match &failure {
                Some(error) => Some(error_chain(error.as_ref())),
                None => report.interrupted.then(|| "stopped by a signal".to_owned()),
            };
            match why {
                None => audit.done(counts).await?,
                Some(why) => {
                    // The brokers that did not answer may not take this either.
                    if let Err(untold) = audit.failed(counts, &why).await {
                        tracing::warn!("{}", error_chain(untold.as_ref()));
                    }
                }
            }
        }
        if let Some(path) = &args.report {
            let page = page::html(&report, &run);
            std::fs::write(path, page)
                .with_context(|| format!("can't write {}", path.display()))?;
        }
        self.show(&report, output)?;
        if let Some(error) = failure {
            return Err(error);
        }
        if report.interrupted {
            return Ok(stop::INTERRUPTED.into());
        }
        if report.refused > 0 {
            bail!("{} records were refused", report.refused);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Asks before our own consumers get records again.
    fn ask(&self, report: &mut Report, begun: &Begun, output: Output) -> anyhow::Result<()> {
        let Target::Topic(target) = &self.target else {
            return Ok(());
        };
        report.readers = readers(target, self.reach.kafka);
        if report.readers.is_empty() {
            return Ok(());
        }
        let told = format!(
            "{target} is read by {}: what is replayed there is worked on again.",
            report.readers.join(", ")
        );
        let question = format!(
            "{told} Replay up to {} records of {} there?",
            begun.left(),
            self.topic
        );
        if self.args.yes && !output.is_json() {
            eprintln!("{told}");
        }
        if !confirmed(&question, self.args.yes)? {
            bail!("nothing was changed");
        }
        Ok(())
    }

    async fn sink(
        &self,
        producer: &Producer,
        begun: &Begun,
        report: &mut Report,
    ) -> anyhow::Result<Sink> {
        let kafka = self.reach.kafka;
        let name = begun.name.as_deref().unwrap_or_default();
        let force = self.args.force;
        Ok(match &self.target {
            Target::Topic(target) => {
                let opened = TopicSink::open(kafka, producer.clone(), &self.topic, target).await?;
                report.keeps_partitions = Some(opened.keeps_partitions());
                Sink::Topic(opened)
            }
            Target::Index => {
                let is_own = self.reach.session.is_some_and(Session::is_own);
                let objects = is_own.then(|| ObjectStores::new(self.reach.objects));
                let objects = objects.transpose()?;
                Sink::Topic(TopicSink::open_index(kafka, producer.clone(), objects).await?)
            }
            Target::File(path) => Sink::File(match begun.note.file_bytes {
                Some(length) if begun.resumed => {
                    FileSink::resume(path, name, force, length, begun.left() == 0)?
                }
                _ => FileSink::create(path, name, force)?,
            }),
            Target::Stdout => Sink::Stdout(StdoutSink::default()),
        })
    }

    fn tell(&self, begun: &Begun, output: Output) {
        if output.is_json() {
            return;
        }
        if let Some(name) = &begun.name {
            let (left, topic) = (begun.left(), &self.topic);
            let does = if begun.resumed {
                "goes on with"
            } else {
                "reads"
            };
            eprintln!("replay {name} {does} {left} offsets of {topic}");
        }
        if !begun.gone.is_empty() {
            let gone = gone_text(&self.topic, &begun.gone, &begun.spans, begun.resumed);
            eprintln!("{gone}");
        }
    }

    /// What changes topics is audited; a file is the operator's own.
    async fn audited(&self, producer: &Producer, begun: &Begun) -> anyhow::Result<Option<Audit>> {
        if !matches!(self.target, Target::Topic(_) | Target::Index) {
            return Ok(None);
        }
        self.admin.create_named(&[topics::AUDIT]).await?;
        let mut arguments = begun.note.arguments.clone();
        arguments.extend(begun.name.clone().map(|name| ("name".to_owned(), name)));
        arguments.extend(
            self.args
                .rate
                .map(|rate| ("rate".to_owned(), rate.to_string())),
        );
        let audit = Audit::begin(producer, audit::operator(), "replay", arguments);
        Ok(Some(audit.await?))
    }

    async fn work(
        &self,
        begun: &mut Begun,
        sink: &mut Sink,
        run: &mut Run,
        bar: &indicatif::ProgressBar,
        report: &mut Report,
    ) -> anyhow::Result<Ended> {
        if self.args.restart {
            begun.forget().await?;
        }
        // The ends and arguments are kept before anything is written.
        let file_bytes = sink.settle().await?.settled().await?;
        begun.commit(begun.position(), file_bytes).await?;
        let stop = CancellationToken::new();
        let mut signals = stop::signals()?;
        let filter = Filter::new(&self.args.filter, begun.note.from_ms, begun.note.to_ms);
        let reading = Reading {
            kafka: self.reach.kafka,
            admin: &self.admin,
            topic: &self.topic,
            filter: &filter,
            rate: self.args.rate,
            spans: begun.spans.clone(),
        };
        let (ended, outcomes) = {
            let working = async {
                let work = Work {
                    reading,
                    begun,
                    sink: &mut *sink,
                    run,
                    bar,
                };
                let end = work.run(&stop).await?;
                let outcomes = match sink {
                    Sink::Topic(sink) => sink.outcomes(bar, &stop).await?,
                    Sink::File(_) | Sink::Stdout(_) => None,
                };
                anyhow::Ok((Ended::As(end), outcomes))
            };
            let stopping = async {
                signals.first().await;
                stop.cancel();
                signals.nth(2).await;
            };
            tokio::select! {
                worked = working => worked?,
                () = stopping => (Ended::AtOnce, None),
            }
        };
        report.was_signalled = stop.is_cancelled();
        if let Some((outcomes, pending)) = outcomes {
            report.outcomes = Some(outcomes);
            report.pending = Some(pending);
        }
        Ok(ended)
    }

    /// A replay that is done has no position any more.
    async fn finish(
        &self,
        sink: &mut Sink,
        begun: &Begun,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        sink.finish()?;
        begun.forget().await?;
        report.done = true;
        report.staging = None;
        // What was indexed is found by the very next search.
        if let Some(session) = self.reach.session
            && let Err(error) = session.api.refresh().await
        {
            tracing::warn!(
                "all is done, but not made searchable at once: {}",
                error_chain(error.as_ref())
            );
        }
        Ok(())
    }

    fn show(&self, report: &Report, output: Output) -> anyhow::Result<()> {
        if self.target != Target::Stdout {
            return output.result(report, || report.text());
        }
        // Standard output has the records.
        if output.is_json() {
            eprintln!("{}", serde_json::to_string(report)?);
        } else {
            eprintln!("{}", report.text());
        }
        Ok(())
    }
}
