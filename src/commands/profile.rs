//! `millrace profile USER`: what is known of a user.

use std::process::ExitCode;

use crate::api::users::ProfileAnswer;
use crate::cli::UsageError;
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// Tell what a user did and what that says of them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user's id, as behavior names it.
    user: String,
    /// Also the vectors; needs `--json`.
    #[arg(long)]
    vectors: bool,
}

pub async fn run(args: Args, config: Config, output: Output) -> anyhow::Result<ExitCode> {
    if args.vectors && !output.is_json() {
        return Err(UsageError("--vectors needs --json: people read no vectors".to_owned()).into());
    }
    let session = Session::attach_or_start(&config, Needs::PROFILES).await?;
    let found = session.api.profile(&args.user, args.vectors).await;
    session.close().await;
    let profile = found?;
    output.result(&profile, || text(&profile))?;
    Ok(ExitCode::SUCCESS)
}

fn text(profile: &ProfileAnswer) -> String {
    if !profile.known {
        return format!("{}: no feedback was applied", profile.user_id);
    }
    let mut lines = vec![profile.user_id.clone()];
    let counts = profile
        .counts
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"));
    lines.push(format!("  {}", counts.collect::<Vec<_>>().join(", ")));
    let time = |ms| {
        jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
    };
    for item in profile.recent.iter().take(5) {
        lines.push(format!(
            "  {}  {} {}",
            time(item.time_ms),
            item.kind,
            item.item_id
        ));
    }
    for affinity in profile.affinities.iter().take(10) {
        lines.push(format!(
            "  {} {:?}: interest {:.2}, beyond what was expected {:+.2}",
            affinity.field, affinity.value, affinity.interest, affinity.residual
        ));
    }
    lines.join("\n")
}
