//! Whole runs.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use millrace_models::{Encoder, EncoderOptions};
use millrace_training::dataset::Dataset;
use millrace_training::{Report, Run, TrainingError, TrainingOptions, train};

use crate::small;

pub fn run(
    base: &Path,
    data: &Path,
    out: &Path,
    options: &TrainingOptions,
    resume: bool,
) -> Result<Report, TrainingError> {
    run_until(base, data, out, options, resume, usize::MAX)
}

/// Panics after so many steps, as a crash would end it.
pub fn run_until(
    base: &Path,
    data: &Path,
    out: &Path,
    options: &TrainingOptions,
    resume: bool,
    last: usize,
) -> Result<Report, TrainingError> {
    let dataset = Dataset::read(data)?;
    let run = Run {
        base,
        dataset: &dataset,
        out,
        options,
        device: &Device::Cpu,
        resume,
    };
    train(&run, &mut |step| {
        assert!(step.done < last, "told to stop");
    })
}

fn losses(out: &Path) -> Result<Vec<String>> {
    let log = std::fs::read_to_string(out.join("log.jsonl"))?;
    let lines = log.lines().map(|line| -> Result<String> {
        let line: serde_json::Value = serde_json::from_str(line)?;
        Ok(format!(
            "{} {} {}",
            line["step"], line["loss"], line["dev_loss"]
        ))
    });
    lines.collect()
}

#[tokio::test]
async fn a_run_learns_and_leaves_a_model_that_the_encoder_reads() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.2).await?;
    let out = work.path().join("custom-v1");
    let report = run(base.path(), &data, &out, &small::options(), false)?;
    assert_eq!(report.steps, 4 * 4);
    assert!(report.last_loss < 0.8 * report.first_loss, "{report:?}");
    assert!(report.best.is_some() && !report.stopped_early);
    assert!(report.peak_memory_bytes > 1 << 20);
    assert!(std::fs::read_to_string(&report.plot)?.contains("custom-v1"));

    let encoder = Encoder::load(&out.join("custom-v1"), EncoderOptions::default())?;
    assert_eq!(encoder.version(), report.model_version);
    assert!(report.model_version.starts_with("custom-v1@"));
    let before = Encoder::load(base.path(), EncoderOptions::default())?;
    assert_ne!(
        encoder.encode(&["w1 w2 w3"])?,
        before.encode(&["w1 w2 w3"])?
    );
    let weights = |folder: &Path| {
        candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu)
    };
    let (is, was) = (weights(&report.model)?, weights(base.path())?);
    assert_eq!(is.len(), was.len());
    let untouched = "pooler.dense.bias";
    assert_eq!(
        is[untouched].to_vec1::<f32>()?,
        was[untouched].to_vec1::<f32>()?
    );
    let card = std::fs::read_to_string(report.model.join("README.md"))?;
    assert!(card.contains(&report.dataset_sha256), "{card}");
    Ok(())
}

#[tokio::test]
async fn the_same_run_makes_the_same_model() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.0).await?;
    let options = small::options();
    let [one, two] = ["one", "two"].map(|name| work.path().join(name).join("model"));
    let first = run(base.path(), &data, &one, &options, false)?;
    let second = run(base.path(), &data, &two, &options, false)?;
    assert_eq!(first.model_version, second.model_version);
    let other = TrainingOptions {
        seed: 12,
        ..options
    };
    let three = work.path().join("three/model");
    let third = run(base.path(), &data, &three, &other, false)?;
    assert_ne!(first.model_version, third.model_version);
    Ok(())
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on_as_if_it_had_not_been() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.2).await?;
    let options = small::options();
    let [whole, cut] = ["whole", "cut"].map(|name| work.path().join(name).join("model"));
    let expected = run(base.path(), &data, &whole, &options, false)?;
    // After step 8: the checkpoints are those of steps 3, 4 and 6.
    let panicked =
        std::panic::catch_unwind(|| run_until(base.path(), &data, &cut, &options, false, 8));
    assert!(panicked.is_err());
    let resumed = run(base.path(), &data, &cut, &options, true)?;
    assert_eq!(resumed.model_version, expected.model_version);
    assert_eq!(losses(&cut)?, losses(&whole)?);
    Ok(())
}

#[tokio::test]
async fn a_dev_split_that_gets_no_better_ends_the_run() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.3).await?;
    let options = TrainingOptions {
        epochs: 60,
        learning_rate: 2e-2,
        patience: Some(2),
        ..small::options()
    };
    let out = work.path().join("model");
    let report = run(base.path(), &data, &out, &options, false)?;
    assert!(report.stopped_early, "{report:?}");
    let best = report.best.unwrap();
    assert!(best.steps < report.steps);
    // The model is that of the best judgement, which another run of so many steps would end with.
    assert!(
        losses(&out)?
            .iter()
            .any(|line| line.starts_with(&format!("{} null {}", best.steps, best.loss)))
    );
    Ok(())
}
