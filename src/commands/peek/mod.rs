//! `millrace peek TOPIC`: look at records, decoded.

mod decode;
mod format;
mod place;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::ensure;
use millrace_kafka::{Admin, ReadUntil, Record, TopicReader};
use serde_json::{Value, json};

pub use self::decode::{describe, raw};
use self::format::Format;
use self::place::Place;
use super::topics::full_name;
use crate::cli::UsageError;
use crate::config::Config;
use crate::keys::KeyPrefixes;
use crate::output::Output;
use crate::session::TopicsSession;

/// Look at records of a topic, decoded; joins no consumer group.
///
/// Short flags and formats are kcat's, but for -e: it stops at the present end unless told to --follow.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The declared name, such as `documents`, or the full one.
    topic: String,
    /// How many records. Default: 10; with --format, --to or --follow all.
    #[arg(short = 'n', long, short_alias = 'c', value_name = "N")]
    count: Option<usize>,
    /// Where to begin: `beginning`, `end` (the last records of each partition), an offset, `-N` (N
    /// records before the end of each partition), an RFC 3339 time, or how long ago, such as `2h`.
    #[arg(
        short = 'o',
        long,
        default_value = "beginning",
        value_name = "WHERE",
        allow_hyphen_values = true
    )]
    from: Place,
    /// Where to stop: before this offset of each partition, or this time.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: Option<Place>,
    /// Only this partition.
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Only keys (of documents: URIs) that begin so; a path stands for its URI.
    #[arg(short, long, visible_alias = "uri", value_name = "PREFIX")]
    key: Option<String>,
    /// Print each record so: %t topic, %p partition, %o offset, %T time (ms), %k key, %K its length,
    /// %s value, %S its length, %v value decoded (JSON), %h headers, %% a %; \\n, \\t, \\r and \\xNN.
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Wait for what comes after the present end; with --json, a line a record.
    #[arg(short = 'F', long, conflicts_with = "exit")]
    follow: bool,
    /// Stop at the present end, which is the default.
    #[arg(short = 'e', long)]
    exit: bool,
}

/// Records that are shown where nothing says how many.
const SHOWN: usize = 10;

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let session = TopicsSession::attach_or_start(&config)?;
    let shown = show(&args, &session, output).await;
    session.close().await;
    shown.map(|()| ExitCode::SUCCESS)
}

async fn show(args: &Args, session: &TopicsSession, output: Output) -> anyhow::Result<()> {
    if output.is_json() && args.format.is_some() {
        let message = "--format and --json are two ways to print a record; leave one out";
        return Err(UsageError(message.to_owned()).into());
    }
    let mut peek = Peek::open(args, session).await?;
    if output.is_json() && !args.follow {
        let mut records: Vec<Value> = Vec::new();
        while let Some(record) = peek.next().await? {
            records.push(describe(&record));
        }
        return output.result(&json!({ "records": records }), String::new);
    }
    let mut shown = false;
    loop {
        let record = tokio::select! {
            record = peek.next() => record?,
            _ = tokio::signal::ctrl_c(), if args.follow => None,
        };
        let Some(record) = record else {
            break;
        };
        shown = true;
        match &args.format {
            Some(format) => {
                let bytes = format.fill(&record, std::io::stdout().is_terminal());
                if let Err(error) = std::io::stdout().write_all(&bytes) {
                    // A reader that has seen enough.
                    ensure!(error.kind() == std::io::ErrorKind::BrokenPipe, error);
                    break;
                }
            }
            None if output.is_json() => output.line(&describe(&record).to_string())?,
            None => output.line(&decode::text(&describe(&record)))?,
        }
    }
    if !shown && !args.follow && args.format.is_none() {
        output.line("no records there")?;
    }
    Ok(())
}

/// The records that are meant, one by one.
struct Peek<'a> {
    args: &'a Args,
    reader: TopicReader,
    left: usize,
    key_prefixes: KeyPrefixes,
}

impl<'a> Peek<'a> {
    async fn open(args: &'a Args, session: &TopicsSession) -> anyhow::Result<Self> {
        let topic = full_name(&args.topic, &session.kafka)?;
        let there = Admin::connect(&session.kafka)?.partitions(&topic).await?;
        if let Some(partition) = args.partition {
            ensure!(
                there.contains(&partition),
                "{topic} has no partition {partition}; it has {}",
                numbers(&there)
            );
        }
        let all = args.format.is_some() || args.to.is_some() || args.follow;
        let count = args.count.unwrap_or(if all { usize::MAX } else { SHOWN });
        let from = args.from.begin(&there, args.count.unwrap_or(SHOWN));
        let until = if args.follow {
            ReadUntil::Forever
        } else {
            ReadUntil::PresentEnd
        };
        Ok(Self {
            reader: TopicReader::open(&session.kafka, &topic, &from, until).await?,
            left: count,
            key_prefixes: KeyPrefixes::of(args.key.as_deref()),
            args,
        })
    }

    async fn next(&mut self) -> anyhow::Result<Option<Record>> {
        while self.left > 0 {
            let Some(record) = self.reader.next().await else {
                return Ok(None);
            };
            let record = record?;
            if self.is_meant(&record) {
                self.left -= 1;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn is_meant(&self, record: &Record) -> bool {
        let is_partition = |partition| partition == record.partition;
        self.args.partition.is_none_or(is_partition)
            && self.args.to.as_ref().is_none_or(|to| to.is_before(record))
            && self.key_prefixes.begin(record.key.as_deref())
    }
}

fn numbers(partitions: &[i32]) -> String {
    let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}
