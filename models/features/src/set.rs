//! Declarations that belong together: the columns of a row, and the version that names them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sha2::{Digest, Sha256};

use crate::declaration::{DeclarationError, FeatureDeclaration, FeatureKind};
use crate::defaults;
use crate::field::Field;
use crate::profile::ProfileSettings;
use crate::spec::FeatureSpec;

/// Most features of a row.
pub const MAX_FEATURES: usize = 500;

/// Raised whenever the same declarations begin to compute other values: a model trained on the
/// former ones must not be served the latter.
const COMPUTATION: u32 = 1;

/// The features of a row, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSet {
    declarations: Vec<FeatureDeclaration>,
    /// For each declaration with a field of words: which of the set's fields it is.
    fields: Vec<Option<usize>>,
    version: String,
}

impl FeatureSet {
    /// These features in this order, over vectors of this embedding version.
    ///
    /// # Errors
    /// [`DeclarationError`], naming the feature.
    pub fn new(
        declarations: Vec<FeatureDeclaration>,
        embedding_version: &str,
    ) -> Result<Self, DeclarationError> {
        if !(1..=MAX_FEATURES).contains(&declarations.len()) {
            return Err(DeclarationError::Count {
                count: declarations.len(),
                most: MAX_FEATURES,
            });
        }
        let mut names = HashSet::new();
        for declaration in &declarations {
            declaration.check()?;
            if !names.insert(declaration.name.as_str()) {
                return Err(DeclarationError::Twice {
                    name: declaration.name.clone(),
                });
            }
        }
        Ok(Self {
            version: version(&declarations, embedding_version),
            fields: numbered_fields(&declarations),
            declarations,
        })
    }

    /// The features where none are declared.
    #[must_use]
    pub fn default_for(embedding_version: &str) -> Self {
        let declarations = defaults::declarations();
        Self {
            version: version(&declarations, embedding_version),
            fields: numbered_fields(&declarations),
            declarations,
        }
    }

    /// The columns of a row and their version.
    #[must_use]
    pub fn spec(&self) -> FeatureSpec {
        FeatureSpec {
            version: self.version.clone(),
            names: self.names().map(str::to_owned).collect(),
        }
    }

    /// Names the declarations, the embedding version and how they are computed: 16 hex digits.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Names of the columns, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.declarations
            .iter()
            .map(|declared| declared.name.as_str())
    }

    /// The declarations, in order.
    #[must_use]
    pub fn declarations(&self) -> &[FeatureDeclaration] {
        &self.declarations
    }

    /// Values of a row, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty set can't be made")]
    pub fn len(&self) -> usize {
        self.declarations.len()
    }

    /// The declarations, each with the number of its field of words among those of the set.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&FeatureDeclaration, Option<usize>)> {
        self.declarations.iter().zip(self.fields.iter().copied())
    }

    /// Whether one of them reads what the upstream system says of users.
    #[must_use]
    pub fn reads_user_fields(&self) -> bool {
        let mut kinds = self.declarations.iter().map(|declared| &declared.kind);
        kinds.any(FeatureKind::reads_user_fields)
    }

    /// What profiles have to keep for these features.
    #[must_use]
    pub fn profile_settings(&self) -> ProfileSettings {
        let fields = self
            .declarations
            .iter()
            .filter_map(|declared| words(&declared.kind).cloned());
        // Recall searches for words of interest, whatever ranks.
        let searched = [Field::Categories, Field::Tags, Field::KeyPhrases];
        let fields: BTreeSet<Field> = fields.chain(searched).collect();
        ProfileSettings {
            fields: fields.into_iter().collect(),
            ..ProfileSettings::default()
        }
    }
}

/// The field that affinities of this kind are of.
fn words(kind: &FeatureKind) -> Option<&Field> {
    match kind {
        FeatureKind::Affinity { field, .. } | FeatureKind::ResidualAffinity { field, .. } => {
            Some(field)
        }
        _ => None,
    }
}

fn numbered_fields(declarations: &[FeatureDeclaration]) -> Vec<Option<usize>> {
    let mut numbers = BTreeMap::new();
    let number = |declared: &FeatureDeclaration| {
        let next = numbers.len();
        words(&declared.kind).map(|field| *numbers.entry(field.clone()).or_insert(next))
    };
    declarations.iter().map(number).collect()
}

fn version(declarations: &[FeatureDeclaration], embedding_version: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(COMPUTATION.to_le_bytes());
    // With its length, so that no two pairs make one text.
    hash.update(embedding_version.len().to_le_bytes());
    hash.update(embedding_version);
    // As they would be written, in the order of the fields: words of configuration, which stay.
    hash.update(serde_json::to_vec(declarations).expect("words and numbers are JSON"));
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
