//! The finished model: the base's folder with other weights, and a card that says where they come from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use super::folder::Identity;
use super::{Report, Run};
use crate::error::TrainingError;
use crate::parameters::ParameterLayout;
use crate::tensors::{self, Content, TensorOut};

const WEIGHTS: &str = "model.safetensors";
const CARD: &str = "README.md";

/// Writes the model's folder beside its place and moves it there.
pub(super) fn write(
    run: &Run<'_>,
    identity: &Identity,
    layout: &ParameterLayout,
    parameters: &[f32],
    report: &Report,
) -> Result<(), TrainingError> {
    let folder = &report.model;
    let mut staging = folder.clone().into_os_string();
    staging.push(".partial");
    let staging = PathBuf::from(staging);
    let failed = |path: &Path, source| TrainingError::Write {
        path: path.to_owned(),
        source,
    };
    // What an earlier attempt left behind.
    for old in [&staging, folder] {
        if old.exists() {
            std::fs::remove_dir_all(old).map_err(|error| failed(old, error))?;
        }
    }
    copy(run.base, &staging).map_err(|error| failed(&staging, error))?;
    let path = staging.join(WEIGHTS);
    write_weights(&run.base.join(WEIGHTS), &path, layout, parameters)?;
    let path = staging.join(CARD);
    std::fs::write(&path, card(run, identity, report)).map_err(|error| failed(&path, error))?;
    std::fs::rename(&staging, folder).map_err(|error| failed(folder, error))
}

/// Copies all but the weights and the card, which are of the base alone.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else if name != WEIGHTS && name != CARD {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Every tensor of the base's file, under its own name, with the trained values where there are some:
/// what is not trained (a pooler that sentence vectors do not go through) stays as it is.
fn write_weights(
    base: &Path,
    path: &Path,
    layout: &ParameterLayout,
    parameters: &[f32],
) -> Result<(), TrainingError> {
    let wrong = |reason: String| TrainingError::Checkpoint {
        path: base.to_owned(),
        reason,
    };
    let bytes = std::fs::read(base).map_err(|error| wrong(error.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let plain = name.strip_prefix("bert.").unwrap_or(name);
        let trained = layout.places().iter().find(|place| place.name == plain);
        tensors.push(TensorOut {
            name: name.to_owned(),
            shape: view.shape().to_vec(),
            content: match trained {
                Some(place) => Content::Floats(&parameters[place.range.clone()]),
                None => Content::Stored(view.dtype(), view.data()),
            },
        });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let metadata = BTreeMap::from([("format", "pt".to_owned())]);
    tensors::write(path, &tensors, &metadata).map_err(|source| TrainingError::Write {
        path: path.to_owned(),
        source,
    })
}

fn card(run: &Run<'_>, identity: &Identity, report: &Report) -> String {
    let options = run.options;
    let counts = run.dataset.manifest.counts;
    let base = run.base.file_name().unwrap_or_default().to_string_lossy();
    let name = report
        .model
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let dimensions = if options.dimensions.is_empty() {
        "the whole vectors".to_owned()
    } else {
        format!("vectors cut to any of {:?}", options.dimensions)
    };
    let best = report.best.map_or_else(
        || "without a dev split".to_owned(),
        |best| {
            format!(
                "dev loss {:.4}, its best, after {} steps",
                best.loss, best.steps
            )
        },
    );
    format!(
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n\
         # {name}\n\n\
         A sentence encoder: {base}, fine-tuned by Millrace.\n\n\
         | | |\n|---|---|\n\
         | base | {base}, fingerprint `{}` |\n\
         | data | {} triples from {} ({} passages); manifest SHA-256 `{}` |\n\
         | loss | symmetric in-batch softmax, scale {}, over {dimensions} |\n\
         | steps | {} of {} triples with {} hard negatives, cut at {} tokens, seed {} |\n\
         | AdamW | learning rate {:e}, {:.0} % warm-up, linear decay, weight decay {} |\n\
         | training loss | {:.4} (first ten steps), {:.4} (last ten) |\n\
         | judged | {best} |\n",
        identity.base,
        counts.train,
        run.dataset.manifest.source,
        counts.passages,
        identity.dataset,
        options.scale,
        report.steps,
        options.batch,
        options.negatives,
        options.max_tokens,
        options.seed,
        options.learning_rate,
        100.0 * options.warm_up,
        options.weight_decay,
        report.first_loss,
        report.last_loss,
    )
}
