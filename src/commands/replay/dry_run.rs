//! What a replay would do: read as it would be, counted, and nothing written.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use millrace_kafka::replay::{Captured, Span, capture};
use millrace_kafka::{Admin, KafkaConfig, Record};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::begin::{gone_text, kept};
use super::filter::Filter;
use super::identity::arguments;
use super::read::{Batch, Reading};
use super::survey::{Bucket, Counted, Prefix, Survey};
use super::target::{Target, expiring, readers};
use super::{Args, Reach};
use crate::histogram::bar;
use crate::output::{Output, bytes, counted, printable, table, time};
use crate::stack::stop;

/// What would be done.
#[derive(Debug, Serialize)]
struct DryRun {
    dry_run: bool,
    topic: String,
    to: Option<String>,
    readers: Vec<&'static str>,
    /// Records that the other topic would not keep, being older than it keeps any.
    expiring: Option<String>,
    /// Offsets that would be read.
    offsets: u64,
    /// Wanted offsets that are gone, by partition.
    gone: BTreeMap<i32, u64>,
    records: u64,
    bytes: u64,
    partitions: Vec<Partition>,
    prefixes: Vec<Prefix>,
    /// Records with other keys than the first that were told apart.
    other_keys: u64,
    bucket_ms: i64,
    times: Vec<Bucket>,
    undated: u64,
    /// What is left, where an earlier run of this replay was stopped.
    resumes: Option<Resumes>,
    read_per_second: f64,
    estimated_seconds: f64,
    /// It was stopped before all was counted.
    interrupted: bool,
    #[serde(skip)]
    gone_text: Option<String>,
}

/// What an earlier run left: it is gone on with, unless `--restart`.
#[derive(Debug, Serialize)]
struct Resumes {
    name: String,
    /// Records that were written.
    written: u64,
    /// Offsets that it has not come to.
    offsets_left: u64,
    /// Records among them, as far as they were counted.
    records_left: u64,
    #[serde(skip)]
    spans: BTreeMap<i32, Span>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    start: i64,
    end: i64,
    #[serde(flatten)]
    counted: Counted,
}

/// Counts what `args` mean of the topic with this full name.
///
/// # Errors
/// There is no such range, or it can't be read.
pub async fn run(
    args: &Args,
    topic: &str,
    target: Option<&Target>,
    reach: &Reach<'_>,
    admin: &Admin,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let Captured { spans, gone } = capture(admin, topic, &args.filter.wanted()).await?;
    let filter = Filter::new(
        &args.filter,
        args.filter.since_ms(),
        args.filter.before_ms(),
    );
    let offsets: u64 = spans.values().map(Span::total).sum();
    let mut resumes = match target {
        Some(target) => Resumes::load(args, topic, target, reach.kafka).await?,
        None => None,
    };
    let stop = CancellationToken::new();
    let mut signals = stop::signals()?;
    let reading = Reading {
        kafka: reach.kafka,
        admin,
        topic,
        filter: &filter,
        rate: None,
        spans: spans.clone(),
    };
    let progress = output.progress(Some(offsets), "records");
    let began = Instant::now();
    let (sender, mut receiver) = mpsc::channel::<Batch>(1);
    let mut survey = Survey::new(true);
    let counting = async {
        let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
        while let Some(batch) = receiver.recv().await {
            for record in &batch.records {
                survey.count(record);
                if let Some(resumes) = &mut resumes {
                    resumes.count(record);
                }
            }
            reached.extend(batch.reached);
            let passed = reached.iter().filter_map(|(partition, next)| {
                let start = spans.get(partition)?.start;
                u64::try_from(next - start).ok()
            });
            progress.set_position(passed.sum());
        }
    };
    let stopping = async {
        signals.first().await;
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let (read, ()) = tokio::select! {
        read = async { tokio::join!(reading.run(sender, &stop), counting) } => read,
        () = stopping => unreachable!("it is pending for good"),
    };
    progress.finish_and_clear();
    let whole = read?;
    let seconds = began.elapsed().as_secs_f64();
    let Counted {
        records,
        bytes: size,
    } = survey.total();
    let read_per_second = offsets as f64 / seconds.max(f64::EPSILON);
    let paced = args
        .rate
        .map_or(0.0, |rate| rate.due(records).as_secs_f64());
    let (bucket_ms, times) = survey.times();
    let (prefixes, other_keys) = survey.prefixes();
    let partition = |(&partition, span): (&i32, &Span)| Partition {
        partition,
        start: span.start,
        end: span.end,
        counted: survey
            .partitions
            .get(&partition)
            .copied()
            .unwrap_or_default(),
    };
    let told = DryRun {
        dry_run: true,
        topic: topic.to_owned(),
        to: target.map(ToString::to_string),
        readers: match target {
            Some(Target::Topic(target)) => readers(target, reach.kafka),
            Some(Target::File(_) | Target::Stdout | Target::Index) | None => Vec::new(),
        },
        expiring: match target {
            Some(Target::Topic(target)) => expiring(admin, target, &survey).await,
            Some(Target::File(_) | Target::Stdout | Target::Index) | None => None,
        },
        offsets,
        gone_text: (!gone.is_empty()).then(|| gone_text(topic, &gone, &spans, false)),
        gone,
        records,
        bytes: size,
        partitions: spans.iter().map(partition).collect(),
        prefixes,
        other_keys,
        bucket_ms,
        times,
        undated: survey.undated,
        resumes,
        read_per_second,
        estimated_seconds: seconds.max(paced),
        interrupted: !whole,
    };
    output.result(&told, || told.text())?;
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        stop::INTERRUPTED.into()
    })
}

impl Resumes {
    /// Where an earlier run of the same replay was; `None` where there was none, or none of the same.
    async fn load(
        args: &Args,
        topic: &str,
        target: &Target,
        kafka: &KafkaConfig,
    ) -> anyhow::Result<Option<Self>> {
        if args.restart {
            return Ok(None);
        }
        let arguments = arguments(topic, &args.filter, target);
        let Some((name, group)) = kept(args, topic, target, kafka, &arguments)? else {
            return Ok(None);
        };
        let known = group.load().await?;
        // With other arguments it is refused, which is the replay's own to say.
        let known = known.filter(|(note, _)| note.arguments == arguments);
        Ok(known.map(|(note, spans)| Self {
            name,
            written: note.records,
            offsets_left: spans.values().map(Span::left).sum(),
            records_left: 0,
            spans,
        }))
    }

    fn count(&mut self, record: &Record) {
        let span = self.spans.get(&record.partition);
        let is_left = |span: &Span| (span.next..span.end).contains(&record.offset);
        self.records_left += u64::from(span.is_some_and(is_left));
    }
}

impl DryRun {
    fn text(&self) -> String {
        let to = self.to.as_deref().unwrap_or("nowhere yet");
        let mut lines = vec![format!(
            "{} ({}) of {} → {} would be replayed, out of {}",
            counted(self.records, "record"),
            bytes(self.bytes),
            self.topic,
            printable(to),
            counted(self.offsets, "offset"),
        )];
        if let Some(resumes) = &self.resumes {
            lines.push(format!(
                "  {} was begun, with {} records written: {}{} records ({} offsets) are left, and it goes on with them",
                resumes.name,
                resumes.written,
                if self.interrupted { "at least " } else { "" },
                resumes.records_left,
                resumes.offsets_left
            ));
        }
        if self.interrupted {
            lines.push("  stopped before all was counted".to_owned());
        }
        if !self.readers.is_empty() {
            let readers = self.readers.join(", ");
            lines.push(format!(
                "  read there by {readers}: what is replayed is worked on again"
            ));
        }
        lines.extend(self.expiring.as_ref().map(|told| format!("  {told}")));
        if let Some(gone) = &self.gone_text {
            lines.push(format!("  {gone}; needs --accept-loss"));
        }
        lines.push(format!(
            "  read at {:.0} records/s; takes about {:.1} s",
            self.read_per_second, self.estimated_seconds
        ));
        let header = |names: [&str; 3]| vec![names.map(str::to_owned).to_vec()];
        let mut rows = header(["PARTITION", "RECORDS", ""]);
        let most = self.partitions.iter().map(|it| it.counted.records).max();
        rows.extend(self.partitions.iter().map(|it| {
            let name = format!("{} @ {}-{}", it.partition, it.start, it.end);
            row(name, it.counted.records, most)
        }));
        lines.push(table(&rows));
        if !self.prefixes.is_empty() {
            let mut rows = header(["KEYS", "RECORDS", ""]);
            let most = self.prefixes.iter().map(|it| it.records).max();
            let prefixes = self.prefixes.iter();
            rows.extend(prefixes.map(|it| {
                let shown: String = it.prefix.chars().take(60).collect();
                row(printable(&shown).into_owned(), it.records, most)
            }));
            lines.push(table(&rows));
        }
        if !self.times.is_empty() {
            let mut rows = header(["FROM", "RECORDS", ""]);
            let most = self.times.iter().map(|it| it.records).max();
            let times = self.times.iter();
            rows.extend(times.map(|it| row(time(Some(it.from_ms)), it.records, most)));
            lines.push(table(&rows));
        }
        if self.undated > 0 {
            lines.push(format!("{} records have no time", self.undated));
        }
        lines.join("\n")
    }
}

fn row(name: String, records: u64, most: Option<u64>) -> Vec<String> {
    vec![name, records.to_string(), bar(records, most.unwrap_or(0))]
}
