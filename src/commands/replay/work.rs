//! Writing what is read, and keeping how far that is: write, settle, commit. While what was written
//! settles, more is.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::begin::{Begun, Position};
use super::pace::Pace;
use super::read::{Batch, Reading};
use super::sink::{Settling, Sink};
use super::survey::Survey;
use crate::refusals::{Refused, keep_first};

/// How often what was written is made to settle, and the position before it is committed then. A kill
/// repeats at most what came behind it.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All is written.
    Done,
    /// It was told to stop, or nobody reads any more; what was written is committed.
    Stopped,
}

/// What one run of a replay did.
pub struct Run {
    /// Records written.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// Records that could not be written.
    pub refused: u64,
    /// The first of them.
    pub first_refused: Vec<Refused>,
    /// Of when the records are.
    pub survey: Survey,
    /// How fast it went.
    pub pace: Pace,
}

impl Run {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            records: 0,
            bytes: 0,
            refused: 0,
            first_refused: Vec::new(),
            survey: Survey::new(false),
            pace: Pace::begin(),
        }
    }
}

/// A replay being carried out.
pub struct Work<'a> {
    /// What is read.
    pub reading: Reading<'a>,
    /// How far it is.
    pub begun: &'a mut Begun,
    /// Where it goes.
    pub sink: &'a mut Sink,
    /// What was done.
    pub run: &'a mut Run,
    /// Offsets passed.
    pub bar: &'a ProgressBar,
}

impl Work<'_> {
    /// Reads and writes side by side, to the end or until it is stopped.
    ///
    /// # Errors
    /// Reading or writing failed. It can be gone on with.
    pub async fn run(self, stop: &CancellationToken) -> anyhow::Result<End> {
        let Self {
            reading,
            begun,
            sink,
            run,
            bar,
        } = self;
        let mut writing = Writing {
            begun,
            sink,
            run,
            bar,
            settling: None,
        };
        // One batch waits while another is written: reading and writing overlap, and memory stays small.
        let (sender, receiver) = mpsc::channel(1);
        let (read, written) = tokio::join!(reading.run(sender, stop), writing.run(receiver));
        // A topic that is gone fails the commit too, and is what is to be told. Where writing failed first,
        // reading has only found nobody to read for.
        let is_whole = read?;
        written?;
        Ok(if is_whole { End::Done } else { End::Stopped })
    }
}

struct Writing<'a> {
    begun: &'a mut Begun,
    sink: &'a mut Sink,
    run: &'a mut Run,
    bar: &'a ProgressBar,
    /// What is on its way to staying, and where the replay was then.
    settling: Option<(Settling, Position)>,
}

impl Writing<'_> {
    async fn run(&mut self, mut batches: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
        let mut last_settled = Instant::now();
        while let Some(batch) = batches.recv().await {
            // Nothing is committed behind a write that failed: how much of it is written is not known.
            if self.batch(batch).await? {
                break;
            }
            if self.settling.is_none() && last_settled.elapsed() >= COMMIT_EVERY {
                self.settle().await?;
                last_settled = Instant::now();
            }
            if matches!(&self.settling, Some((settling, _)) if settling.is_settled()) {
                self.commit().await?;
            }
        }
        self.commit().await?;
        self.settle().await?;
        self.commit().await
    }

    /// Tells whether that was enough.
    async fn batch(&mut self, batch: Batch) -> anyhow::Result<bool> {
        let Batch {
            records, reached, ..
        } = batch;
        for record in &records {
            self.run.survey.count(record);
        }
        let written = self.sink.write(records).await?;
        if written.is_enough {
            return Ok(true);
        }
        let refused = written.refused.len() as u64;
        self.run.records += written.records;
        self.run.bytes += written.bytes;
        self.run.refused += refused;
        keep_first(&mut self.run.first_refused, written.refused);
        let note = &mut self.begun.note;
        note.records += written.records;
        note.bytes += written.bytes;
        note.refused += refused;
        for (partition, next) in reached {
            if let Some(span) = self.begun.spans.get_mut(&partition) {
                span.next = next.clamp(span.next, span.end);
            }
        }
        self.bar.set_position(self.begun.passed());
        self.run.pace.at(self.run.records);
        Ok(false)
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        let position = self.begun.position();
        self.settling = Some((self.sink.settle().await?, position));
        Ok(())
    }

    /// Commits what was told to settle, once it has.
    async fn commit(&mut self) -> anyhow::Result<()> {
        if let Some((settling, position)) = self.settling.take() {
            let file_bytes = settling.settled().await?;
            self.begun.commit(position, file_bytes).await?;
        }
        Ok(())
    }
}
