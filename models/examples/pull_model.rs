//! Fetches a model into the user's store and prints its folder: what scripts need before there is a
//! `millrace` binary.

use std::io::Write;

use anyhow::{Context, Result};
use millrace_models::ModelStore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let name = std::env::args().nth(1).context("usage: pull_model NAME")?;
    let mut shown = 0;
    let mut progress = |done: u64, total: u64| {
        let percent = done * 100 / total.max(1);
        if percent != shown {
            shown = percent;
            eprint!("\r{name}: {percent} % of {total} bytes ");
        }
    };
    let folder = ModelStore::from_env()?.pull(&name, &mut progress).await?;
    writeln!(std::io::stdout(), "{}", folder.display())?;
    Ok(())
}
