//! `millrace rollout`: another model's index beside the one that serves, and in its place.

mod judged;
pub mod orders;
pub mod report;
pub mod settings;
pub mod status;

use std::process::ExitCode;

use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// Bring in another encoder: a new index generation beside the old one, then in its place.
///
/// The new generation is filled from the topic of documents, and from the stored text where that no longer
/// reaches back, while the old one serves and both are written. Every answer is of one generation.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    Start(orders::Start),
    Status(status::Args),
    Switch(orders::Switch),
    Rollback(orders::Rollback),
    Finish(orders::Finish),
    Abort(orders::Abort),
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let session = Session::attach_or_start(&config, Needs::STATUS).await?;
    let api = &session.api;
    let done = async {
        session.ready().await;
        match args.step {
            Step::Start(args) => args.run(api, output).await,
            Step::Status(args) => args.run(api, output).await,
            Step::Switch(args) => args.run(api, output).await,
            Step::Rollback(args) => args.run(api, output).await,
            Step::Finish(args) => args.run(api, output).await,
            Step::Abort(args) => args.run(api, output).await,
        }
    };
    let done = tokio::select! {
        done = done => done,
        gone = session.gone() => Err(gone),
    };
    session.close().await;
    done
}
