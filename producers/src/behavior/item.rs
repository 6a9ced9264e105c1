//! From an upstream system's item to the document that signals speak of.
//!
//! | the item is | the document |
//! |---|---|
//! | 32 lower-case hex digits | that is its id already |
//! | a URI (`://` in it), or a path (`/` at its start) | the one at that URI |
//! | anything else | the one at the configured template with the item in its place |
//!
//! In AIRec's tables an item is always named by its row: 32 hex digits are a name there like any
//! other, and without a template the document is the row itself ([`crate::airec::item_uri`]).

use millrace_objects::ObjectUri;
use millrace_schemas::DocId;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::{RowError, beginning};
use super::{BehaviorConfig, BehaviorConfigError};
use crate::airec::item_uri;

const PLACEHOLDER: &str = "{item}";
/// Stands for the item where a template's normal form is looked at; nothing of it is ever encoded.
const MARKER: &str = "xMillraceItemx";

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
    /// Whether items are names of AIRec's tables, and never ids of documents.
    of_tables: bool,
}

#[derive(Clone, Debug)]
enum Template {
    /// A record inside an object: the item is the fragment, as lines of a corpus have it.
    Record(ObjectUri),
    /// An object of its own.
    Object { before: String, after: String },
    /// A row of the item table of this instance.
    Row { instance: String },
}

impl ItemDocuments {
    /// By the configured template.
    ///
    /// # Errors
    /// The template has no `{item}`, or names no object.
    pub fn new(config: &BehaviorConfig) -> Result<Self, BehaviorConfigError> {
        let Some(template) = &config.item_uri else {
            return Ok(Self {
                template: None,
                of_tables: false,
            });
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
            None => match item_uri::parse(&template.replace(PLACEHOLDER, MARKER)) {
                Some((instance, item)) if item == MARKER => Template::Row { instance },
                _ => Template::Object {
                    before: before.to_owned(),
                    after: after.to_owned(),
                },
            },
        };
        // An item that no name refuses: what is wrong now is the template.
        template.uri("1").map_err(invalid)?;
        Ok(Self {
            template: Some(template),
            of_tables: false,
        })
    }

    /// The same for the names that an AIRec instance's tables use.
    #[must_use]
    pub fn of_instance(&self, instance: &str) -> Self {
        let row = || Template::Row {
            instance: instance.to_owned(),
        };
        Self {
            template: Some(self.template.clone().unwrap_or_else(row)),
            of_tables: true,
        }
    }

    /// The document of `item`.
    ///
    /// # Errors
    /// The item is an upstream id and no template is set, or the URI it makes names no object.
    pub fn resolve(&self, item: &str) -> Result<DocId, RowError> {
        if !self.of_tables
            && let Some(id) = DocId::parse(item)
        {
            return Ok(id);
        }
        Ok(DocId::from_uri(&self.uri(item)?))
    }

    /// The URI of the document of `item`, in its normal form.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn uri(&self, item: &str) -> Result<String, RowError> {
        if let Some((instance, item)) = item_uri::parse(item) {
            return Ok(item_uri::item_uri(&instance, &item));
        }
        let uri = if item.contains("://") || item.starts_with('/') {
            ObjectUri::parse(item).map(|uri| uri.to_string())
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
        uri.map_err(RowError::ItemUri)
    }

    /// How the upstream system names the document at `uri`: the item that resolves to it, which is
    /// the URI itself where no shorter name does.
    #[must_use]
    pub fn item(&self, uri: &str) -> String {
        let item = self.template.as_ref().and_then(|it| it.item(uri));
        item.filter(|item| self.uri(item).is_ok_and(|named| named == uri))
            .unwrap_or_else(|| uri.to_owned())
    }
}

impl Template {
    fn uri(&self, item: &str) -> Result<String, millrace_objects::UriError> {
        let uri = match self {
            Self::Record(object) => object.clone().with_fragment(item)?,
            Self::Object { before, after } => {
                let item = utf8_percent_encode(item, ENCODED);
                ObjectUri::parse(&format!("{before}{item}{after}"))?
            }
            Self::Row { instance } => return Ok(item_uri::item_uri(instance, item)),
        };
        Ok(uri.to_string())
    }

    /// The item that may have made this URI.
    fn item(&self, uri: &str) -> Option<String> {
        let form = self.uri(MARKER).ok()?;
        let (before, after) = form.split_once(MARKER)?;
        let item = uri.strip_prefix(before)?.strip_suffix(after)?;
        let item = percent_decode_str(item).decode_utf8().ok()?;
        (!item.is_empty()).then(|| item.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(template: &str) -> ItemDocuments {
        let config = BehaviorConfig {
            item_uri: Some(template.to_owned()),
            ..BehaviorConfig::default()
        };
        ItemDocuments::new(&config).unwrap()
    }

    #[test]
    fn an_item_is_found_again_by_its_uri() {
        for template in [
            "oss://films/a/{item}.txt",
            "file:///films.jsonl.gz#{item}",
            "airec://shop/item/{item}",
        ] {
            let documents = documents(template);
            for item in ["7", "a b", "ü#%", "x.txt"] {
                let uri = documents.uri(item).unwrap();
                assert_eq!(documents.item(&uri), item, "{uri}");
            }
            let other = "s3://elsewhere/7";
            assert_eq!(documents.item(other), other);
            assert_eq!(documents.uri(other).unwrap(), other);
        }
    }

    #[test]
    fn a_name_of_a_table_is_no_id_of_a_document() {
        let id = DocId::from_uri("file:///a").to_string();
        let own = ItemDocuments::new(&BehaviorConfig::default()).unwrap();
        assert_eq!(own.resolve(&id).unwrap().as_str(), id);
        assert!(own.resolve("7").is_err());
        let shop = own.of_instance("shop");
        let uri = shop.uri(&id).unwrap();
        assert_eq!(uri, format!("airec://shop/item/{id}"));
        assert_eq!(shop.resolve(&id).unwrap(), DocId::from_uri(&uri));
        assert_eq!(shop.item(&uri), id);
        // Behavior over other routes names the row by its URI.
        assert_eq!(own.resolve(&uri).unwrap(), DocId::from_uri(&uri));
    }
}
