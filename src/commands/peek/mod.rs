//! `millrace peek TOPIC`: look at records, decoded.

mod format;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::ensure;
use millrace_kafka::{ReadUntil, Record};
use serde_json::json;

use self::format::Format;
use crate::cli::UsageError;
use crate::config::Config;
use crate::keys::KeyPrefixes;
use crate::output::Output;
use crate::records::{self, Choice, Chosen, Decoded, Place};
use crate::session::TopicsSession;
use crate::topic_name::full_name;

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
    /// records before the end of each partition), an RFC 3339 time, a day, or how long ago, such as `2h`.
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
    let mut chosen = choose(args, session).await?;
    if output.is_json() && !args.follow {
        let mut records: Vec<Record> = Vec::new();
        while let Some(record) = chosen.next().await? {
            records.push(record);
        }
        let records: Vec<Decoded> = records.iter().map(Decoded::of).collect();
        return output.result(&json!({ "records": records }), String::new);
    }
    let mut shown = false;
    loop {
        let record = tokio::select! {
            record = chosen.next() => record?,
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
            None if output.is_json() => {
                output.line(&serde_json::to_string(&Decoded::of(&record))?)?;
            }
            None => output.line(&records::text(&record))?,
        }
    }
    if !shown && !args.follow && args.format.is_none() {
        output.line("no records there")?;
    }
    Ok(())
}

async fn choose(args: &Args, session: &TopicsSession) -> anyhow::Result<Chosen> {
    let all = args.format.is_some() || args.to.is_some() || args.follow;
    let choice = Choice {
        topic: full_name(&args.topic, &session.kafka)?,
        from: args.from.clone(),
        to: args.to.clone(),
        partition: args.partition,
        key_prefixes: KeyPrefixes::of(args.key.as_deref()),
        latest: args.count.unwrap_or(SHOWN),
        count: args.count.unwrap_or(if all { usize::MAX } else { SHOWN }),
        until: if args.follow {
            ReadUntil::Forever
        } else {
            ReadUntil::PresentEnd
        },
    };
    Chosen::open(choice, &session.kafka).await
}
