//! `millrace publish behavior FILE|-`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use futures::stream::{self, Stream, StreamExt};
use indicatif::ProgressBar;
use millrace_kafka::{Admin, Producer, topics};
use millrace_producers::behavior::file::{
    BehaviorFile, BehaviorFileError, BehaviorFormat, FileRow, newest_event_ms,
};
use millrace_producers::behavior::{BehaviorRow, Dialect, PublishedRow, RowReader, Told};
use millrace_producers::{Publisher, ReadProgress};
use tokio_util::sync::CancellationToken;

use super::summary::Summary;
use crate::config::Config;
use crate::output::{Output, counted};
use crate::rate::{Pacer, Rate};
use crate::session::TopicsSession;
use crate::stack::stop::{self, StopSignals};

/// Publish what users did: our own rows, AIRec's, Metarank's or UBI's, one JSON object a line or CSV.
///
/// Rows that are no events go to `behavior.dlq` with row number and reason; the exit code is then 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file (`.jsonl`, `.csv`, also `.gz`), or `-` for standard input.
    #[arg(value_name = "FILE|-")]
    source: PathBuf,
    /// At most this many events a second.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Read every row as this dialect; `auto` tells by each row's fields.
    #[arg(long, value_enum, default_value = "auto")]
    dialect: DialectChoice,
    /// What the rows are; `auto` tells by the file's name, then by its first bytes.
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatChoice,
    /// The object that an item id names, such as `films.jsonl.gz#{item}`; instead of
    /// `behavior.item_uri`.
    #[arg(long, value_name = "URI")]
    item_uri: Option<String>,
    /// Move all times so that the newest event is now: for samples and recordings.
    #[arg(long, value_enum, value_name = "now")]
    rebase_time: Option<RebaseTo>,
    /// Read and judge every row, publish nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DialectChoice {
    Auto,
    Own,
    Airec,
    Metarank,
    Ubi,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormatChoice {
    Auto,
    Jsonl,
    Csv,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RebaseTo {
    Now,
}

impl Args {
    /// Publishes a recording as if it ended now.
    pub(crate) fn replay(recording: PathBuf, item_uri: Option<String>) -> Self {
        Self {
            source: recording,
            rate: None,
            dialect: DialectChoice::Auto,
            format: FormatChoice::Auto,
            item_uri,
            rebase_time: Some(RebaseTo::Now),
            dry_run: false,
        }
    }

    fn format(&self) -> Option<BehaviorFormat> {
        match self.format {
            FormatChoice::Auto => None,
            FormatChoice::Jsonl => Some(BehaviorFormat::Jsonl),
            FormatChoice::Csv => Some(BehaviorFormat::Csv),
        }
    }

    fn dialect(&self) -> Option<Dialect> {
        match self.dialect {
            DialectChoice::Auto => None,
            DialectChoice::Own => Some(Dialect::Own),
            DialectChoice::Airec => Some(Dialect::Airec),
            DialectChoice::Metarank => Some(Dialect::Metarank),
            DialectChoice::Ubi => Some(Dialect::Ubi),
        }
    }

    fn is_stdin(&self) -> bool {
        self.source == Path::new("-")
    }
}

pub async fn run(args: Args, mut config: Config, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(template) = &args.item_uri {
        config.behavior.item_uri = Some(template.clone());
    }
    if args.is_stdin() && args.rebase_time.is_some() {
        bail!("--rebase-time reads its input twice: name a file instead of standard input");
    }
    let mut reader = RowReader::new(&config.behavior)?.of_dialect(args.dialect());
    let mut stop = stop::signals()?;
    let mut rebased_by_ms = None;
    if args.rebase_time.is_some() {
        let Some(newest) = until_stopped(newest(&args, &reader), &mut stop).await? else {
            return Ok(INTERRUPTED.into());
        };
        let shift_ms = jiff::Timestamp::now().as_millisecond() - newest;
        reader = reader.shifted(shift_ms);
        rebased_by_ms = Some(shift_ms);
    }
    let Some(file) = until_stopped(open(&args), &mut stop).await? else {
        return Ok(INTERRUPTED.into());
    };
    let session = if args.dry_run {
        None
    } else {
        Some(TopicsSession::attach_or_make(&config)?)
    };
    let publisher = match &session {
        None => Ok(None),
        Some(session) => publisher(session).await.map(Some),
    };
    let published = match publisher {
        Ok(publisher) => {
            let publication = Publication::new(&args, file.progress(), output);
            publication.run(file.rows(reader), publisher, stop).await
        }
        Err(error) => Err(error),
    };
    if let Some(session) = session {
        session.close().await;
    }
    let (mut summary, failure) = published?;
    summary.rebased_by_ms = rebased_by_ms;
    output.result(&summary, || summary.text())?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if summary.interrupted {
        return Ok(INTERRUPTED.into());
    }
    if summary.rejected > 0 && !args.dry_run {
        bail!(
            "no events: {}; `millrace peek {}` shows them",
            counted(summary.rejected, "row"),
            topics::BEHAVIOR_DLQ
        );
    }
    Ok(if summary.rejected > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// As shells tell of a SIGINT.
const INTERRUPTED: u8 = 130;

/// What `work` makes; `None` where the process was told to stop first.
async fn until_stopped<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    stop: &mut StopSignals,
) -> anyhow::Result<Option<T>> {
    tokio::select! {
        done = work => done.map(Some),
        () = stop.first() => Ok(None),
    }
}

async fn open(args: &Args) -> anyhow::Result<BehaviorFile> {
    let (path, format, is_stdin) = (args.source.clone(), args.format(), args.is_stdin());
    let opened = tokio::task::spawn_blocking(move || {
        if is_stdin {
            BehaviorFile::stdin(format)
        } else {
            BehaviorFile::open(&path, format)
        }
    });
    Ok(opened.await.context("reading was cut off")??)
}

async fn newest(args: &Args, reader: &RowReader) -> anyhow::Result<i64> {
    let (path, format, reader) = (args.source.clone(), args.format(), reader.clone());
    let newest = tokio::task::spawn_blocking(move || newest_event_ms(&path, format, &reader));
    let newest = newest.await.context("reading was cut off")??;
    newest.with_context(|| format!("{} holds no event to rebase", args.source.display()))
}

/// A publisher to topics that are there.
async fn publisher(session: &TopicsSession) -> anyhow::Result<Publisher> {
    Admin::connect(&session.kafka)?.create_declared().await?;
    Ok(Publisher::new(Producer::connect(&session.kafka)?))
}

/// One file on its way to the topics.
struct Publication {
    rate: Option<Rate>,
    bar: ProgressBar,
    progress: ReadProgress,
    /// What the reading side tells; the acknowledged side counts on its own.
    read: Mutex<Summary>,
    failure: Mutex<Option<BehaviorFileError>>,
    stopping: CancellationToken,
}

impl Publication {
    fn new(args: &Args, progress: ReadProgress, output: Output) -> Self {
        let bar = match progress.total_bytes {
            0 => output.progress(None, "events"),
            total => output.byte_progress(Some(total)),
        };
        let read = Summary {
            dry_run: args.dry_run,
            ..Summary::default()
        };
        Self {
            rate: args.rate,
            bar,
            progress,
            read: Mutex::new(read),
            failure: Mutex::default(),
            stopping: CancellationToken::new(),
        }
    }

    /// Publishes all rows, or counts them where there is no publisher. At a first signal it reads no
    /// more and waits for what was sent; at a second one it leaves.
    async fn run(
        self,
        batches: impl Stream<Item = Result<Vec<FileRow>, BehaviorFileError>> + Send,
        publisher: Option<Publisher>,
        mut stop: StopSignals,
    ) -> anyhow::Result<(Summary, Option<anyhow::Error>)> {
        let started = Instant::now();
        let mut done = Summary::default();
        let mut signals = 0;
        {
            let rows = self.outgoing(batches);
            let published = match &publisher {
                Some(publisher) => publisher.publish_behavior_all(rows, None).left_stream(),
                None => rows.map(|row| Ok(would_be(&row))).right_stream(),
            };
            let mut published = std::pin::pin!(published);
            loop {
                tokio::select! {
                    row = published.next() => match row {
                        Some(row) => self.count(row?, &mut done),
                        None => break,
                    },
                    () = stop.nth(signals + 1) => {
                        signals += 1;
                        if signals > 1 {
                            bail!("stopped at once: what was sent last may be published or not");
                        }
                        done.interrupted = true;
                        self.stopping.cancel();
                    }
                }
            }
        }
        self.bar.finish_and_clear();
        let read = self
            .read
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let failure = self
            .failure
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        done.took(started.elapsed().as_secs_f64());
        let summary = Summary {
            dry_run: read.dry_run,
            rows: read.rows,
            passed_over: read.passed_over,
            first_rejected: read.first_rejected,
            ..done
        };
        Ok((summary, failure.map(Into::into)))
    }

    /// What the rows make, in order and at the rate, until the end or a signal.
    fn outgoing<'a>(
        &'a self,
        batches: impl Stream<Item = Result<Vec<FileRow>, BehaviorFileError>> + Send + 'a,
    ) -> impl Stream<Item = BehaviorRow> + Send + 'a {
        let rows = batches.flat_map(|batch| stream::iter(self.take_in(batch)));
        let mut pacer = Pacer::new(self.rate);
        let paced = rows.then(move |row| {
            let is_event = matches!(row, BehaviorRow::Event(_));
            let due = is_event.then(|| pacer.next_due()).flatten();
            async move {
                if let Some(due) = due {
                    tokio::time::sleep_until(due.into()).await;
                }
                row
            }
        });
        paced.take_until(self.stopping.cancelled())
    }

    fn take_in(&self, batch: Result<Vec<FileRow>, BehaviorFileError>) -> Vec<BehaviorRow> {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return vec![];
            }
        };
        let mut outgoing = Vec::with_capacity(batch.len());
        let mut summary = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        for FileRow { number, told } in batch {
            summary.rows += 1;
            match told {
                Ok(Told::Events(events)) => {
                    outgoing.extend(events.into_iter().map(|e| BehaviorRow::Event(Box::new(e))));
                }
                Ok(Told::PassedOver(what)) => *summary.passed_over.entry(what).or_default() += 1,
                Err(rejection) => {
                    summary.tell(number, &rejection);
                    outgoing.push(BehaviorRow::Rejected(rejection));
                }
            }
        }
        outgoing
    }

    fn count(&self, row: PublishedRow, done: &mut Summary) {
        match row {
            PublishedRow::Event(kind) => done.event(kind),
            PublishedRow::Rejected(reason) => done.rejected(reason),
        }
        if self.progress.total_bytes == 0 {
            self.bar.inc(1);
        } else if done.events.is_multiple_of(256) {
            self.bar.set_position(self.progress.read_bytes());
            self.bar.set_message(format!("· {} events", done.events));
        }
    }
}

fn would_be(row: &BehaviorRow) -> PublishedRow {
    match row {
        BehaviorRow::Event(event) => PublishedRow::Event(event.kind),
        BehaviorRow::Rejected(rejection) => PublishedRow::Rejected(rejection.error_type),
    }
}
