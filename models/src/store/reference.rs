//! How a model and its version are named.

use std::fmt;
use std::str::FromStr;

/// The version of a folder whose name holds none; what `torch-model-archiver` gives by default, too.
pub const UNVERSIONED: &str = "1.0";

/// Longest name or version, bytes: together they name a folder.
const MAX_BYTES: usize = 100;

/// A model by name, or one version of it: `NAME`, `NAME:VERSION` or `NAME/VERSION`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelReference {
    /// The model's name.
    pub name: String,
    /// The version; none means whichever there is.
    pub version: Option<String>,
}

/// A text that names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no model: NAME or NAME:VERSION of letters, digits, `.`, `_` and `-`, at most \
     {MAX_BYTES} each, not beginning with a dot"
)]
pub struct InvalidReference {
    /// The text.
    pub text: String,
}

impl FromStr for ModelReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (name, version) = match text.split_once([':', '/']) {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        // It becomes a folder's name: nothing that leads elsewhere, or is hidden.
        if ![Some(name), version].into_iter().flatten().all(is_part) {
            return Err(InvalidReference {
                text: text.chars().take(2 * MAX_BYTES).collect(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)?;
        match &self.version {
            Some(version) => write!(formatter, ":{version}"),
            None => Ok(()),
        }
    }
}

/// The model's name in a folder's: what comes before the version.
pub(crate) fn name_in(folder_name: &str) -> &str {
    folder_name.split(':').next().unwrap_or(folder_name)
}

fn is_part(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !part.is_empty()
        && part.len() <= MAX_BYTES
        && !part.starts_with('.')
        && part.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_version_are_one() {
        let read = |text: &str| text.parse::<ModelReference>();
        assert_eq!(read("emb/v2"), read("emb:v2"));
        assert_eq!(read("emb/v2").unwrap().to_string(), "emb:v2");
        assert_eq!(read("all-MiniLM-L6-v2").unwrap().version, None);
        for text in [
            "", "a:", ":b", "../a", "a:../b", "a/b/c", ".a", "a b", "a:.b", "ä",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&"a".repeat(101)).is_err());
    }
}
