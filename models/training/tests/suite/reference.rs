//! Against PyTorch: `tests/reference/make.py` recorded its losses on the same batches.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Result;
use candle_core::Device;
use millrace_models::{ModelConfig, ModelStore};
use millrace_training::{
    AdamWOptions, Batch, ContrastiveLoss, Moments, Network, ParameterLayout, Trainer,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Step {
    queries: usize,
    sequences: Vec<Vec<u32>>,
    learning_rate: f64,
    loss: f32,
}

/// The folder of all-MiniLM-L6-v2, fetched once where this user has none.
fn model_folder() -> &'static PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = ModelStore::from_env().unwrap();
        runtime
            .block_on(store.pull("all-MiniLM-L6-v2", &mut |_, _| {}))
            .unwrap_or_else(|error| panic!("this test needs the real model: {error}"))
    });
    &FOLDER
}

#[test]
fn the_first_twenty_losses_are_those_of_pytorch() -> Result<()> {
    let steps: Vec<Step> = serde_json::from_str(include_str!("../reference/losses.json"))?;
    assert_eq!(steps.len(), 20);
    let config = ModelConfig::read(model_folder())?;
    let layout = ParameterLayout::new(&config);
    assert_eq!(layout.places().len(), 101);
    let parameters = layout.read(model_folder())?;
    let moments = Moments::zero(parameters.len());
    let loss = ContrastiveLoss {
        scale: 20.0,
        dimensions: vec![config.hidden_size],
    };
    let network = Network::new(&config, &layout, &Device::Cpu, 2)?;
    let options = AdamWOptions::default();
    let mut trainer = Trainer::new(network, layout, parameters, moments, loss, options);
    for (number, step) in (1..).zip(&steps) {
        let batch = Batch {
            sequences: step.sequences.iter().map(Vec::as_slice).collect(),
            queries: step.queries,
            masked: Vec::new(),
        };
        let loss = trainer.step(&batch, number, step.learning_rate)?;
        let error = (loss - step.loss).abs();
        assert!(error < 1e-4, "step {number}: {loss} against {}", step.loss);
    }
    // It learns: the last losses would be lower than the first on any batches of one kind.
    let mean = |steps: &[Step]| steps.iter().map(|step| step.loss).sum::<f32>() / 5.0;
    assert!(mean(&steps[15..]) < mean(&steps[..5]));
    Ok(())
}
