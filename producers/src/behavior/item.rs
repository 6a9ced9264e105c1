//! From an upstream system's item to the document that signals speak of.
//!
//! | the item is | the document |
//! |---|---|
//! | 32 lower-case hex digits | that is its id already |
//! | a URI (`://` in it), or a path (`/` at its start) | the one at that URI |
//! | anything else | the one at the configured template with the item in its place |

use millrace_objects::ObjectUri;
use millrace_schemas::DocId;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{RowError, beginning};
use super::{BehaviorConfig, BehaviorConfigError};

const PLACEHOLDER: &str = "{item}";

/// What stands for itself in a key: a slash of an item is one of the key.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Finds the document of an item.
#[derive(Clone, Debug)]
pub struct ItemDocuments {
    template: Option<Template>,
}

#[derive(Clone, Debug)]
enum Template {
    /// A record inside an object: the item is the fragment, as lines of a corpus have it.
    Record(ObjectUri),
    /// An object of its own.
    Object { before: String, after: String },
}

impl ItemDocuments {
    /// By the configured template.
    ///
    /// # Errors
    /// The template has no `{item}`, or names no object.
    pub fn new(config: &BehaviorConfig) -> Result<Self, BehaviorConfigError> {
        let Some(template) = &config.item_uri else {
            return Ok(Self { template: None });
        };
        let invalid = |source| BehaviorConfigError::ItemUri {
            template: template.clone(),
            source,
        };
        let (before, after) = template
            .split_once(PLACEHOLDER)
            .filter(|(_, after)| !after.contains(PLACEHOLDER))
            .ok_or_else(|| BehaviorConfigError::NoPlaceholder {
                template: template.clone(),
            })?;
        let template = match before.strip_suffix('#').filter(|_| after.is_empty()) {
            Some(object) => Template::Record(ObjectUri::parse(object).map_err(invalid)?),
            None => Template::Object {
                before: before.to_owned(),
                after: after.to_owned(),
            },
        };
        // An item that no name refuses: what is wrong now is the template.
        template.uri("1").map_err(invalid)?;
        Ok(Self {
            template: Some(template),
        })
    }

    /// The document of `item`.
    ///
    /// # Errors
    /// The item is an upstream id and no template is set, or the URI it makes names no object.
    pub fn resolve(&self, item: &str) -> Result<DocId, RowError> {
        if let Some(id) = DocId::parse(item) {
            return Ok(id);
        }
        let uri = if item.contains("://") || item.starts_with('/') {
            ObjectUri::parse(item)
        } else {
            match &self.template {
                Some(template) => template.uri(item),
                None => {
                    return Err(RowError::NoItemUri {
                        item: beginning(item),
                    });
                }
            }
        };
        let uri = uri.map_err(RowError::ItemUri)?;
        Ok(DocId::from_uri(&uri.to_string()))
    }
}

impl Template {
    fn uri(&self, item: &str) -> Result<ObjectUri, millrace_objects::UriError> {
        match self {
            Self::Record(object) => object.clone().with_fragment(item),
            Self::Object { before, after } => {
                let item = utf8_percent_encode(item, ENCODED);
                ObjectUri::parse(&format!("{before}{item}{after}"))
            }
        }
    }
}
