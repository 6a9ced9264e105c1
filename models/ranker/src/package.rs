//! A trained ranker as one file: the model, what its features are, when it was trained and how good
//! it was.
//!
//! Three parts, one after the other: the line `millrace-ranker 1 sha256=<of all that follows>`, a line
//! of JSON, and LightGBM's text as LightGBM writes it (`tail -n +3` gives it back).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use millrace_features::FeatureSpec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::forest::{Forest, ForestError};

const MAGIC: &str = "millrace-ranker 1 sha256=";
/// Hex digits of the checksum that name a version.
const VERSION_DIGITS: usize = 12;

/// A trained ranker with what must be known of it before it may score.
#[derive(Clone, Debug)]
pub struct RankerModel {
    metadata: Metadata,
    text: String,
    forest: Forest,
    checksum: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    feature_version: String,
    feature_names: Vec<String>,
    trained_at_ms: i64,
    evaluation: serde_json::Value,
}

/// Why a model file can't be written or used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file could not be read or written.
    #[error("failed to {action} the ranker model `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no model of this crate's.
    #[error("`{}` is no ranker model: {reason}", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file was cut short or changed.
    #[error(
        "ranker model `{}` is damaged: its content has sha256 {found} instead of {expected}; train \
         it again or copy it anew", path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum that the file names.
        expected: String,
        /// The checksum of its content.
        found: String,
    },
    /// LightGBM's text can't be evaluated.
    #[error("the trees can't be evaluated")]
    Forest(#[from] ForestError),
    /// The trees were trained on other columns than are said to be their features.
    #[error(
        "feature {position} of the trees is {forest}, but {declared} is declared: rows would be \
         read in the wrong order"
    )]
    FeatureNames {
        /// Position of the first difference.
        position: usize,
        /// The trees' feature there, quoted, or `none`.
        forest: String,
        /// The declared one.
        declared: String,
    },
    /// The model was trained on other features than are computed now.
    #[error(
        "the model was trained on feature version {model}, but features of version {current} are \
         computed: train a model on those, or deploy the configuration of {model}"
    )]
    FeatureVersion {
        /// The model's version.
        model: String,
        /// The version in use.
        current: String,
    },
}

impl RankerModel {
    /// A model of LightGBM's text, however it was trained; `evaluation` is kept as it is.
    ///
    /// # Errors
    /// The text can't be evaluated, or its feature names are not the declared ones.
    pub fn new(
        features: FeatureSpec,
        text: String,
        trained_at_ms: i64,
        evaluation: serde_json::Value,
    ) -> Result<Self, PackageError> {
        let metadata = Metadata {
            feature_version: features.version,
            feature_names: features.names,
            trained_at_ms,
            evaluation,
        };
        let forest = Forest::parse(&text)?;
        check_names(forest.feature_names(), &metadata.feature_names)?;
        let checksum = checksum(&body(&metadata, &text));
        Ok(Self {
            metadata,
            text,
            forest,
            checksum,
        })
    }

    /// Writes the file; a reader sees the old one or the whole new one, also after a crash.
    ///
    /// # Errors
    /// [`PackageError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), PackageError> {
        let failed = |source| PackageError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::Builder::new()
            .prefix(".ranker-")
            .tempfile_in(folder)
            .map_err(failed)?;
        writeln!(file, "{MAGIC}{}", self.checksum).map_err(failed)?;
        file.write_all(body(&self.metadata, &self.text).as_bytes())
            .map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }

    /// Reads a file that [`save`](Self::save) wrote, for whoever computes these features.
    ///
    /// # Errors
    /// [`PackageError`]: the file is missing, damaged, of another format, or was trained on another
    /// feature version, both of which are then named.
    pub fn load(path: &Path, features: &FeatureSpec) -> Result<Self, PackageError> {
        let model = Self::inspect(path)?;
        if model.metadata.feature_version != features.version {
            return Err(PackageError::FeatureVersion {
                model: model.metadata.feature_version,
                current: features.version.clone(),
            });
        }
        check_names(model.forest.feature_names(), &features.names)?;
        Ok(model)
    }

    /// Reads a file to show what it is; to score with it, [`load`](Self::load) it.
    ///
    /// # Errors
    /// As [`load`](Self::load), whatever the feature version.
    pub fn inspect(path: &Path) -> Result<Self, PackageError> {
        let not_a_model = |reason: String| PackageError::NotAModel {
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|source| PackageError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let content =
            String::from_utf8(bytes).map_err(|_| not_a_model("it is not text".to_owned()))?;
        let (head, body) = content.split_once('\n').unwrap_or((&content, ""));
        let Some(expected) = head.strip_prefix(MAGIC) else {
            return Err(not_a_model(format!("it does not begin with `{MAGIC}`")));
        };
        let found = checksum(body);
        if found != expected {
            return Err(PackageError::Checksum {
                path: path.to_owned(),
                expected: expected.to_owned(),
                found,
            });
        }
        let (metadata, text) = body.split_once('\n').unwrap_or((body, ""));
        let metadata: Metadata = serde_json::from_str(metadata)
            .map_err(|error| not_a_model(format!("its second line: {error}")))?;
        let features = FeatureSpec {
            version: metadata.feature_version,
            names: metadata.feature_names,
        };
        let (trained_at_ms, evaluation) = (metadata.trained_at_ms, metadata.evaluation);
        Self::new(features, text.to_owned(), trained_at_ms, evaluation)
    }

    /// Names the model in answers and impressions: `ranker@` and the beginning of its checksum.
    #[must_use]
    pub fn version(&self) -> String {
        format!("ranker@{}", &self.checksum[..VERSION_DIGITS])
    }

    /// The trees.
    #[must_use]
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Version of the features that it was trained on.
    #[must_use]
    pub fn feature_version(&self) -> &str {
        &self.metadata.feature_version
    }

    /// When it was trained, in milliseconds of Unix time.
    #[must_use]
    pub fn trained_at_ms(&self) -> i64 {
        self.metadata.trained_at_ms
    }

    /// How good it was when it was trained, as whoever trained it put it.
    #[must_use]
    pub fn evaluation(&self) -> &serde_json::Value {
        &self.metadata.evaluation
    }

    /// LightGBM's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn body(metadata: &Metadata, text: &str) -> String {
    // Strings, numbers and a JSON value: nothing of it can fail to serialise.
    let metadata = serde_json::json!(metadata);
    format!("{metadata}\n{text}")
}

fn checksum(body: &str) -> String {
    millrace_downloads::hex(&Sha256::digest(body))
}

fn check_names(forest: &[String], declared: &[String]) -> Result<(), PackageError> {
    let quoted = |names: &[String], position: usize| {
        let name = names.get(position);
        name.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"))
    };
    let differs = (0..forest.len().max(declared.len()))
        .find(|&position| forest.get(position) != declared.get(position));
    match differs {
        None => Ok(()),
        Some(position) => Err(PackageError::FeatureNames {
            position,
            forest: quoted(forest, position),
            declared: quoted(declared, position),
        }),
    }
}
