//! What a row of features holds, as a model and whoever computes rows must agree on it.

/// The columns of a feature row, in order, under the version of their declarations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSpec {
    /// Hash of the features' declarations and of the embedding version
    /// ([`FeatureSet::spec`](crate::FeatureSet::spec)); compared as it is.
    pub version: String,
    /// Names of the columns.
    pub names: Vec<String>,
}
