//! The finished model: the base's folder with other weights, a card and a release file that say where
//! they come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use millrace_models::store::{RELEASE_FILE, Release, model_files};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::folder::Identity;
use super::{Report, Run};
use crate::durable;
use crate::error::TrainingError;
use crate::parameters::ParameterLayout;
use crate::tensors::{self, Content, TensorOut};

const WEIGHTS: &str = "model.safetensors";
const CARD: &str = "README.md";
/// What is of the base alone.
const OF_THE_BASE: [&str; 3] = [WEIGHTS, CARD, RELEASE_FILE];

/// Writes the model's folder beside its place and moves it there. A model of an earlier attempt stays
/// until then.
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
    let written = remove(&staging)
        .and_then(|()| fill(&staging, run, identity, layout, parameters, report))
        .and_then(|()| remove(folder))
        .and_then(|()| durable::rename(&staging, folder).map_err(|error| failed(folder, error)));
    if written.is_err() {
        // Half a model is of no use to anybody, and may be what fills the disk.
        let _ = std::fs::remove_dir_all(&staging);
    }
    written
}

fn failed(path: &Path, source: io::Error) -> TrainingError {
    TrainingError::Write {
        path: path.to_owned(),
        source,
    }
}

fn remove(folder: &Path) -> Result<(), TrainingError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(folder, error)),
        _ => Ok(()),
    }
}

fn fill(
    staging: &Path,
    run: &Run<'_>,
    identity: &Identity,
    layout: &ParameterLayout,
    parameters: &[f32],
    report: &Report,
) -> Result<(), TrainingError> {
    copy(run.base, staging)?;
    let path = staging.join(WEIGHTS);
    write_weights(&run.base.join(WEIGHTS), &path, layout, parameters)?;
    let release = release(run, identity, report);
    let release = serde_json::to_vec_pretty(&release).map_err(io::Error::from);
    let release = release.map_err(|error| failed(&staging.join(RELEASE_FILE), error))?;
    let card = card(run, identity, report);
    for (name, text) in [(RELEASE_FILE, release.as_slice()), (CARD, card.as_bytes())] {
        let path = staging.join(name);
        durable::replace(&path, |out| io::Write::write_all(out, text))
            .map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Copies what the model store takes for a model's files: a folder may hold much else, such as the
/// weights in other formats, and they would be of the base.
fn copy(from: &Path, to: &Path) -> Result<(), TrainingError> {
    for inside in model_files(from)? {
        if OF_THE_BASE.iter().any(|name| inside == Path::new(name)) {
            continue;
        }
        let (path, target) = (from.join(&inside), to.join(&inside));
        let mut file = File::open(&path).map_err(|source| TrainingError::Read { path, source })?;
        std::fs::create_dir_all(durable::parent(&target))
            .and_then(|()| durable::replace(&target, |out| io::copy(&mut file, out).map(drop)))
            .map_err(|error| failed(&target, error))?;
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

/// What the model store keeps of a version beside its files; it completes the rest on import.
fn release(run: &Run<'_>, identity: &Identity, report: &Report) -> Release {
    let told = |value: Value| -> Map<String, Value> {
        let told = value.as_object().cloned().unwrap_or_default();
        told.into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect()
    };
    Release {
        metrics: told(json!({
            "steps": report.steps,
            "first_loss": report.first_loss,
            "last_loss": report.last_loss,
            "dev_loss": report.best.map(|best| best.loss),
        })),
        lineage: told(json!({
            "base": name_of(run.base),
            "base_fingerprint": identity.base,
            "dataset": run.dataset.manifest.source,
            "dataset_sha256": identity.dataset,
            "options": identity.options,
            "device": identity.device,
        })),
        ..Release::default()
    }
}

fn name_of(folder: &Path) -> String {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = real.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn card(run: &Run<'_>, identity: &Identity, report: &Report) -> String {
    let options = run.options;
    let counts = run.dataset.manifest.counts;
    let (base, name) = (name_of(run.base), name_of(&report.model));
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
