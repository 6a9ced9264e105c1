//! From pairs to a dataset's folder.

use std::collections::HashSet;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;

use super::files::{self, DEV, TRAIN};
use super::manifest::{Counts, FileSum, MANIFEST, Manifest};
use super::negatives::hard_negatives;
use super::split::split;
use super::{Pair, Source, Triple};
use crate::durable;
use crate::error::DatasetError;

/// How a dataset is built.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildOptions {
    /// Ranks of BM25, from 1 over what does not answer the query, that hard negatives are taken from.
    /// The first are often answers that nobody judged.
    pub negative_ranks: RangeInclusive<usize>,
    /// Share of the queries that judge.
    pub dev_share: f64,
    /// Of the split, where pairs have no times.
    pub seed: u64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            negative_ranks: 1..=20,
            dev_share: 0.1,
            seed: 0,
        }
    }
}

impl BuildOptions {
    fn validate(&self) -> Result<(), DatasetError> {
        let (first, last) = (*self.negative_ranks.start(), *self.negative_ranks.end());
        let refuse = |option, found, rule| {
            Err(DatasetError::Option {
                option,
                found,
                rule,
            })
        };
        if first == 0 || last < first || last > 1_000 {
            let found = format!("{first}-{last}");
            return refuse("negative_ranks", found, "give FIRST-LAST within 1 to 1000");
        }
        if !(0.0..1.0).contains(&self.dev_share) {
            let found = self.dev_share.to_string();
            return refuse("dev_share", found, "give 0 to less than 1");
        }
        Ok(())
    }
}

/// Finds hard negatives, splits, and writes the folder; `progress` is told queries done and in all.
///
/// The folder is there whole or not at all: it is filled beside its place and moved there.
///
/// # Errors
/// [`DatasetError::NoPairs`] where nothing is left to learn from; [`DatasetError::SourceChanged`] where
/// the source was written to meanwhile; [`DatasetError::Write`], also where the folder is there already.
pub async fn build(
    source: Source,
    options: &BuildOptions,
    folder: &Path,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Manifest, DatasetError> {
    options.validate()?;
    let failed = |path: &Path, source| DatasetError::Write {
        path: path.to_owned(),
        source,
    };
    if folder.exists() {
        let there = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there already");
        return Err(failed(folder, there));
    }
    let read = source.pairs.len();
    let pairs = once_each(source.pairs);
    let mut counts = Counts {
        passages: source.passages.len(),
        duplicates: read - pairs.len(),
        incomplete: source.incomplete,
        ..Counts::default()
    };
    let queries: HashSet<&str> = pairs.iter().map(|pair| pair.query.as_str()).collect();
    counts.queries = queries.len();
    let negatives =
        hard_negatives(&pairs, &source.passages, &options.negative_ranks, progress).await?;
    let triples = |pairs: Vec<Pair>| -> Vec<Triple> {
        let triples = pairs.into_iter().map(|pair| Triple {
            negatives: negatives.get(&pair.query).cloned().unwrap_or_default(),
            query: pair.query,
            positive: pair.positive,
        });
        triples.collect()
    };
    let (train, dev, by) = split(pairs, options.dev_share, options.seed);
    let (train, dev) = (triples(train), triples(dev));
    if train.is_empty() {
        return Err(DatasetError::NoPairs {
            why: format!("the dev split took all {} of them", dev.len()),
        });
    }
    (counts.train, counts.dev) = (train.len(), dev.len());
    counts.negatives = train
        .iter()
        .chain(&dev)
        .map(|triple| triple.negatives.len())
        .sum();

    let parent = durable::parent(folder);
    std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
    let staging = tempfile::Builder::new()
        .prefix(".dataset-")
        .tempdir_in(parent)
        .map_err(|error| failed(parent, error))?;
    // A folder in it, as a temporary one is nobody else's to read and would stay so.
    let staged = staging.path().join("data");
    std::fs::create_dir(&staged).map_err(|error| failed(&staged, error))?;
    let mut own = Vec::new();
    for (name, triples) in [(TRAIN, &train), (DEV, &dev)] {
        let path = staged.join(name);
        files::write(&path, triples)?;
        own.push(FileSum {
            path: name.into(),
            ..FileSum::of(&path)?
        });
    }
    let manifest = Manifest {
        format: 1,
        source: source.kind.to_owned(),
        read: source.files,
        files: own,
        counts,
        split: by,
        dev_share: options.dev_share,
        negative_ranks: [
            *options.negative_ranks.start(),
            *options.negative_ranks.end(),
        ],
    };
    for file in &manifest.read {
        if FileSum::of(&file.path)? != *file {
            return Err(DatasetError::SourceChanged {
                path: file.path.clone(),
            });
        }
    }
    let path = staged.join(MANIFEST);
    let json = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(&path, error.into()))?;
    durable::replace(&path, |out| out.write_all(&json)).map_err(|error| failed(&path, error))?;
    durable::rename(&staged, folder).map_err(|error| failed(folder, error))?;
    Ok(manifest)
}

/// The first of pairs with one query and one passage.
fn once_each(mut pairs: Vec<Pair>) -> Vec<Pair> {
    let mut seen = HashSet::new();
    pairs.retain(|pair| seen.insert((pair.query.clone(), pair.positive.clone())));
    pairs
}
