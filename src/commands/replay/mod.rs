//! `millrace replay TOPIC`: a topic's records once more, to another topic, a file or the index.
//!
//! [`target`] and [`filter`] say what is meant, [`begin`] which offsets that is and how far an earlier
//! run was. Then [`read`] hands batches to [`work`], which writes them to a [`sink`], has it settle, and
//! commits: in that order, so that a replay may be killed at any moment. [`dry_run`] reads the same and
//! counts.

mod begin;
mod dry_run;
mod filter;
mod identity;
mod order;
mod pace;
mod page;
mod read;
mod report;
mod sink;
mod survey;
mod target;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use millrace_kafka::{Admin, KafkaConfig};
use millrace_objects::ObjectStoresConfig;

use self::filter::FilterArgs;
use self::order::Order;
use self::target::TargetArgs;
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::Output;
use crate::rate::Rate;
use crate::session::{Session, TopicsSession};
use crate::stack::Needs;

/// Replay a topic: its records once more, to another topic, a file or the index.
///
/// What the topic holds when the replay begins is read, whatever is published meanwhile. Stopped or
/// killed, it goes on where it was when it is run again with the same arguments: a topic may have the
/// last records twice then, a file and the index have not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The declared name, such as `documents`, or the full one.
    topic: String,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// At most so many records a second.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// What it is gone on with by. Default: made of what is read and where it goes, and told.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Forget how far an earlier run with this name was.
    #[arg(long)]
    restart: bool,
    /// Go on where the topic no longer holds all that is wanted.
    #[arg(long)]
    accept_loss: bool,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Count what would be replayed, by partition, key and time, without doing anything.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Also write a report with plots to this HTML file.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// What a replay reaches.
pub struct Reach<'a> {
    kafka: &'a KafkaConfig,
    /// The pipeline, where the index is the target.
    session: Option<&'a Session>,
    /// What a pipeline of this process may read.
    objects: &'a ObjectStoresConfig,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let objects = &config.objects;
    if args.dry_run || !args.target.is_index() {
        let session = TopicsSession::attach_or_start(&config)?;
        let reach = Reach {
            kafka: &session.kafka,
            session: None,
            objects,
        };
        let done = replay(&args, &reach, output).await;
        session.close().await;
        return done;
    }
    let session = Session::attach_or_start(&config, Needs::INGEST).await?;
    let reach = Reach {
        kafka: &session.kafka,
        session: Some(&session),
        objects,
    };
    let done = tokio::select! {
        done = replay(&args, &reach, output) => done,
        gone = session.gone() => Err(gone),
    };
    session.close().await;
    done
}

async fn replay(args: &Args, reach: &Reach<'_>, output: Output) -> anyhow::Result<ExitCode> {
    let admin = Admin::connect(reach.kafka)?;
    let topic = target::present(&args.topic, reach.kafka, &admin).await?;
    args.filter.check(&topic, reach.kafka)?;
    let target = args.target.target(&topic, reach.kafka, &admin).await?;
    if args.dry_run {
        return dry_run::run(args, &topic, target.as_ref(), reach, &admin, output).await;
    }
    let Some(target) = target else {
        let refusal = "say where to: --to-topic, --to-file or --to-index; --dry-run only counts";
        return Err(UsageError(refusal.to_owned()).into());
    };
    let order = Order {
        args,
        reach,
        admin,
        topic,
        target,
    };
    order.run(output).await
}
