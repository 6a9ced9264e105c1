//! What an item says of itself in words: the fields that affinities are kept for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::item::Item;

/// Longer values are passed over, bytes: no label is that long, and a profile keeps its values.
pub const MAX_VALUE_BYTES: usize = 256;
/// Values of one field of one item that are read; later ones are passed over.
pub const MAX_VALUES: usize = 64;

/// A field with words for values, by its name in declarations: `categories`, `tags`, `key_phrases`,
/// `language`, or `metadata.` and a key of the item's metadata, whose values stand on a line each, or
/// between commas where there is one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Field {
    /// The item's categories.
    Categories,
    /// Its tags.
    Tags,
    /// The phrases that mark its text.
    KeyPhrases,
    /// Its language, ISO 639-1.
    Language,
    /// What its metadata has under this key.
    Metadata(String),
}

/// Not the name of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown field `{0}`; known: categories, tags, key_phrases, language, metadata.KEY")]
pub struct UnknownField(pub String);

impl Field {
    /// Calls `each` with the item's values in order; surrounding blanks are left off, empty and
    /// overlong values are passed over.
    pub fn values<'a>(&self, item: &Item<'a>, mut each: impl FnMut(&'a str)) {
        let mut left = MAX_VALUES;
        let mut one = |value: &'a str| {
            let value = value.trim();
            if left > 0 && !value.is_empty() && value.len() <= MAX_VALUE_BYTES {
                left -= 1;
                each(value);
            }
        };
        let many = match self {
            Self::Categories => item.categories,
            Self::Tags => item.tags,
            Self::KeyPhrases => item.key_phrases,
            Self::Language => return item.language.into_iter().for_each(one),
            Self::Metadata(key) => {
                if let Some(values) = item.metadata.get(key) {
                    split(values).for_each(one);
                }
                return;
            }
        };
        many.iter()
            .take(4 * MAX_VALUES)
            .for_each(|value| one(value));
    }
}

/// The values of a text, as signals have them: one a line, or between commas where there is one line.
pub(crate) fn split(values: &str) -> impl Iterator<Item = &str> {
    let separator = if values.contains('\n') { '\n' } else { ',' };
    values.split(separator).take(4 * MAX_VALUES)
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Categories => f.write_str("categories"),
            Self::Tags => f.write_str("tags"),
            Self::KeyPhrases => f.write_str("key_phrases"),
            Self::Language => f.write_str("language"),
            Self::Metadata(key) => write!(f, "metadata.{key}"),
        }
    }
}

impl FromStr for Field {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "categories" => Ok(Self::Categories),
            "tags" => Ok(Self::Tags),
            "key_phrases" => Ok(Self::KeyPhrases),
            "language" => Ok(Self::Language),
            _ => match name.strip_prefix("metadata.") {
                Some(key) if !key.is_empty() && key.len() <= MAX_VALUE_BYTES => {
                    Ok(Self::Metadata(key.to_owned()))
                }
                _ => Err(UnknownField(name.chars().take(64).collect())),
            },
        }
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.to_string()
    }
}

impl TryFrom<String> for Field {
    type Error = UnknownField;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}
