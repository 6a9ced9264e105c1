//! The evaluator's speed beside LightGBM's own, on one thread and one model: 300 trees of 31 leaves on
//! 30 features, trained here. Prints one line of JSON.

#[path = "../tests/suite/synthetic.rs"]
#[allow(clippy::unwrap_used)]
mod synthetic;

use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use millrace_ranker::{Booster, Forest, LambdaMartOptions, LightGbm, Prediction};
use synthetic::{FEATURES, Queries};

/// Candidates of a request.
const CANDIDATES: usize = 200;
const ROUNDS: usize = 15;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let library = runtime.block_on(LightGbm::obtain(&mut |_, _| {}))?;
    let options = LambdaMartOptions::default();
    let training = Queries::new(1, 1500, 24).training_set(false);
    let started = Instant::now();
    let trained = library.train(
        &training,
        None,
        &options,
        &mut |_| ControlFlow::Continue(()),
    )?;
    let training_seconds = started.elapsed().as_secs_f64();
    let forest = Forest::parse(&trained.text)?;
    let booster = Booster::parse(&library, &trained.text)?;

    let rows = Queries::new(2, 20, CANDIDATES).rows;
    let theirs = booster.predict(&rows, Prediction::RawScore, 1)?;
    let pairs = forest.predict(&rows)?.into_iter().zip(theirs);
    let difference = pairs
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f64::max);
    ensure!(difference <= 1e-9, "the scores differ by {difference}");

    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    let (mut theirs, mut theirs_at_once) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs_at_once.push(time(|| {
            booster.predict(&rows, Prediction::RawScore, 1).map(drop)
        })?);
        for request in rows.chunks(CANDIDATES * FEATURES) {
            ours.push(time(|| forest.predict(request).map(drop))?);
            theirs.push(time(|| {
                booster.predict(request, Prediction::RawScore, 1).map(drop)
            })?);
            alone.push(time(|| forest.predict(&request[..FEATURES]).map(drop))?);
        }
    }
    let ours = median_us(&mut ours) / CANDIDATES as f64;
    let theirs = median_us(&mut theirs) / CANDIDATES as f64;
    let candidates = rows.len() / FEATURES;
    let theirs_at_once = median_us(&mut theirs_at_once) / candidates as f64;
    let report = serde_json::json!({
        "trees": forest.trees(),
        "leaves": options.leaves,
        "features": FEATURES,
        "candidates_a_request": CANDIDATES,
        "us_a_candidate": ours,
        "us_a_candidate_lightgbm": theirs,
        "us_a_candidate_lightgbm_all_in_one_call": theirs_at_once,
        "times_lightgbm": theirs.min(theirs_at_once) / ours,
        "us_a_single_candidate": median_us(&mut alone),
        "training_rows": 1500 * 24,
        "training_seconds": training_seconds,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn time<E: std::error::Error + Send + Sync + 'static>(
    work: impl FnOnce() -> Result<(), E>,
) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
