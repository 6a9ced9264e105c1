//! Whole runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use millrace_models::store::{ModelCard, RELEASE_FILE, Release};
use millrace_models::{Encoder, EncoderOptions, ModelConfig};
use millrace_training::dataset::Dataset;
use millrace_training::{
    ParameterLayout, Report, Run, TrainingError, TrainingOptions, checkpoint, train,
};

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
fn run_until(
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
async fn a_model_has_nothing_of_its_base_that_is_not_its_own() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.2).await?;
    let of_the_base = Release {
        name: "base".to_owned(),
        version: "v1".to_owned(),
        files: ModelCard::read(base.path())?.files,
        ..Release::default()
    };
    let others = [
        (RELEASE_FILE, serde_json::to_string(&of_the_base)?),
        ("README.md", "of the base".to_owned()),
        ("pytorch_model.bin", "weights of the base".to_owned()),
        (".cache/state.json", "{}".to_owned()),
    ];
    std::fs::create_dir(base.path().join(".cache"))?;
    for (name, content) in &others {
        std::fs::write(base.path().join(name), content)?;
    }
    let out = work.path().join("tuned");
    let report = run(base.path(), &data, &out, &small::options(), false)?;
    let card = ModelCard::read(&report.model)?;
    let files: Vec<_> = card.files.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
    ];
    assert_eq!(files, expected);
    let release = card.release.unwrap();
    assert!(release.files.is_empty() && release.version.is_empty());
    assert_eq!(release.lineage["dataset_sha256"], report.dataset_sha256);
    assert_eq!(release.lineage["options"]["batch"], 6);
    assert!(release.metrics["dev_loss"].as_f64() > Some(0.0));
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

/// What most runs are made of.
pub struct Ground {
    pub base: tempfile::TempDir,
    pub work: tempfile::TempDir,
    pub data: PathBuf,
    pub options: TrainingOptions,
}

impl Ground {
    pub async fn new(dev_share: f64) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let data = work.path().join("data");
        small::dataset(&data, dev_share).await?;
        Ok(Self {
            base: small::model()?,
            work,
            data,
            options: small::options(),
        })
    }

    pub fn run(&self, out: &Path, resume: bool) -> Result<Report, TrainingError> {
        run(self.base.path(), &self.data, out, &self.options, resume)
    }

    /// Cuts a run off after step 8: the checkpoints are those of steps 3, 4 and 6.
    pub fn cut_off(&self, out: &Path) {
        let panicked = std::panic::catch_unwind(|| {
            run_until(self.base.path(), &self.data, out, &self.options, false, 8)
        });
        assert!(panicked.is_err());
    }
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on_as_if_it_had_not_been() -> Result<()> {
    let ground = Ground::new(0.2).await?;
    let [whole, cut] = ["whole", "cut"].map(|name| ground.work.path().join(name).join("model"));
    let expected = ground.run(&whole, false)?;
    ground.cut_off(&cut);
    let resumed = ground.run(&cut, true)?;
    assert_eq!(resumed.model_version, expected.model_version);
    assert_eq!(losses(&cut)?, losses(&whole)?);
    Ok(())
}

#[tokio::test]
async fn a_lost_log_changes_nothing_of_the_model() -> Result<()> {
    let ground = Ground::new(0.2).await?;
    let [whole, cut] = ["whole", "cut"].map(|name| ground.work.path().join(name).join("model"));
    let expected = ground.run(&whole, false)?;
    ground.cut_off(&cut);
    let log = cut.join("log.jsonl");
    std::fs::remove_file(&log)?;
    // What is there and can't be read is not taken for nothing.
    std::fs::create_dir(&log)?;
    let error = ground.run(&cut, true).unwrap_err();
    assert!(matches!(error, TrainingError::Read { .. }), "{error}");
    std::fs::remove_dir(&log)?;
    let resumed = ground.run(&cut, true)?;
    assert_eq!(resumed.model_version, expected.model_version);
    assert!(!resumed.stopped_early, "{resumed:?}");
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
    let layout = ParameterLayout::new(&ModelConfig::read(base.path())?);
    let dataset = Dataset::read(&data)?;
    let request = Run {
        base: base.path(),
        dataset: &dataset,
        out: &out,
        options: &options,
        device: &Device::Cpu,
        resume: false,
    };
    // Parameters by the steps before them: after each step there is still the checkpoint before it.
    let mut seen = HashMap::new();
    let report = train(&request, &mut |_| {
        if let Ok((parameters, _, state)) = checkpoint::read(&out, layout.len()) {
            seen.insert(state.steps, parameters);
        }
    })?;
    assert!(report.stopped_early, "{report:?}");
    let best = report.best.unwrap();
    assert!(best.steps < report.steps);
    let kept = layout.read(&report.model)?;
    assert!(kept == seen[&best.steps], "not the best step's parameters");
    let (last, _, state) = checkpoint::read(&out, layout.len())?;
    assert_eq!(state.steps, report.steps);
    assert!(kept != last, "the last step's parameters");
    assert!(
        losses(&out)?
            .iter()
            .any(|line| line.starts_with(&format!("{} null {}", best.steps, best.loss)))
    );
    Ok(())
}
