//! How behavior is read.

use std::collections::BTreeMap;

use millrace_objects::UriError;
use serde::Deserialize;

use super::collector::CollectorConfig;

/// How behavior is read, whatever way it comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BehaviorConfig {
    /// The object that an upstream item id names: a URI with `{item}` in it, such as
    /// `oss://films/{item}.txt`, or `file:///data/films.jsonl.gz#{item}` for lines of a corpus.
    /// Default none: items are then document ids or URIs.
    pub item_uri: Option<String>,
    /// Older events are refused, in days; default 3,650. What is older is mostly another unit or a
    /// clock that was never set.
    pub max_age_days: u32,
    /// Kinds by further names, such as `wishlist = "collect"`; Metarank's interaction types and
    /// UBI's actions are free text. Default none beyond the usual ones of each dialect.
    pub kinds: BTreeMap<String, String>,
    /// The endpoint `POST /v1/events`.
    pub collector: CollectorConfig,
}

impl Default for BehaviorConfig {
    fn default() -> Self {
        Self {
            item_uri: None,
            max_age_days: 3650,
            kinds: BTreeMap::new(),
            collector: CollectorConfig::default(),
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum BehaviorConfigError {
    /// A template without `{item}`, or with two.
    #[error("behavior.item_uri is {template:?}; expected a URI with {{item}} in it once")]
    NoPlaceholder {
        /// As configured.
        template: String,
    },
    /// A template that makes no URI.
    #[error("behavior.item_uri is {template:?}, which names no object")]
    ItemUri {
        /// As configured.
        template: String,
        /// Why.
        #[source]
        source: UriError,
    },
    /// A body may be larger than all bodies together.
    #[error(
        "behavior.collector.max_in_flight_bytes is {in_flight_bytes}, less than the {largest_bytes} \
         that one body may have"
    )]
    NoRoom {
        /// As configured.
        in_flight_bytes: usize,
        /// What it must be at least.
        largest_bytes: usize,
    },
    /// Not the id of an AIRec instance.
    #[error("airec.instance is {instance:?}; expected 1 to 64 letters, digits, `-`, `_` and `.`")]
    Instance {
        /// As configured.
        instance: String,
    },
    /// A name mapped to what is no kind.
    #[error("behavior.kinds maps {name:?} to {kind:?}, which is no kind of behavior")]
    Kind {
        /// The name.
        name: String,
        /// What it is mapped to.
        kind: String,
    },
}
