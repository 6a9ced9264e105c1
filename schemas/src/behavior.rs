//! The topics `behavior`, `behavior.by-item` and `behavior.by-request`: what users did with items.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::codec::message;

/// What happened between a user and an item: `bhv_type` of AIRec's behavior table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BehaviorKind {
    /// The item was shown.
    Expose,
    /// It was opened.
    Click,
    /// It was liked.
    Like,
    /// A like was taken back, or it was disliked.
    Unlike,
    /// It was commented on.
    Comment,
    /// It was put among the user's favourites.
    Collect,
    /// The user stayed with it; the value is in seconds.
    Stay,
    /// It was passed on.
    Share,
    /// It was downloaded.
    Download,
    /// Its author was tipped.
    Tip,
    /// Its author or series was subscribed to.
    Subscribe,
    /// It was put into the cart.
    Cart,
    /// It was bought.
    Buy,
    /// It was rated; the value is the score.
    Evaluate,
    /// A kind that a newer writer has and this reader has not. Never written.
    #[serde(other)]
    Unknown,
}

/// Not the name of a [`BehaviorKind`] that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of behavior")]
pub struct UnknownBehaviorKind;

impl BehaviorKind {
    /// All kinds that are written.
    pub const ALL: [Self; 14] = [
        Self::Expose,
        Self::Click,
        Self::Like,
        Self::Unlike,
        Self::Comment,
        Self::Collect,
        Self::Stay,
        Self::Share,
        Self::Download,
        Self::Tip,
        Self::Subscribe,
        Self::Cart,
        Self::Buy,
        Self::Evaluate,
    ];

    /// The name on the wire, e.g. `click`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expose => "expose",
            Self::Click => "click",
            Self::Like => "like",
            Self::Unlike => "unlike",
            Self::Comment => "comment",
            Self::Collect => "collect",
            Self::Stay => "stay",
            Self::Share => "share",
            Self::Download => "download",
            Self::Tip => "tip",
            Self::Subscribe => "subscribe",
            Self::Cart => "cart",
            Self::Buy => "buy",
            Self::Evaluate => "evaluate",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for BehaviorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BehaviorKind {
    type Err = UnknownBehaviorKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or(UnknownBehaviorKind)
    }
}

/// What a user did with an item, or that it was shown to them. The record's key is the `user_id`,
/// so that one user's events stay in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BehaviorEvent {
    /// The same for the same event, however often it is delivered: consumers de-duplicate by it.
    pub event_id: String,
    /// Who.
    pub user_id: String,
    /// The item's document id, 32 hex digits: what `signals` is partitioned by.
    pub item_id: String,
    /// The item's id as the upstream system names it.
    pub item: String,
    /// What happened.
    pub kind: BehaviorKind,
    /// How much of it, e.g. seconds of a stay or the score of an evaluation. Finite.
    #[serde(default)]
    pub value: Option<f64>,
    /// When it happened, ms since 1970.
    pub event_time_ms: i64,
    /// The answer that showed the item: AIRec's `trace_id`, Metarank's ranking, UBI's query.
    #[serde(default)]
    pub request_id: Option<String>,
    /// AIRec's `trace_info`, handed back as the answer gave it.
    #[serde(default)]
    pub trace_info: Option<String>,
    /// The place in the caller's product, as AIRec's scenes.
    #[serde(default)]
    pub scene_id: Option<String>,
    /// The item's place in the answer, from 1.
    #[serde(default)]
    pub position: Option<i32>,
    /// What else the upstream system told.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The dialect that it came in: `own`, `airec`, `metarank`, `ubi`.
    #[serde(default)]
    pub source: String,
}

/// A behavior event on its way to its item's signal. The record's key is the event's `item_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BehaviorByItem {
    /// The event, unchanged.
    pub event: BehaviorEvent,
    /// Its record in `behavior`.
    pub origin: Origin,
}

/// A click on its way to the answer that it names. The record's key is the event's `request_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BehaviorByRequest {
    /// The event, unchanged.
    pub event: BehaviorEvent,
    /// Its record in `behavior`.
    pub origin: Origin,
}

message!(BehaviorEvent, "behavior", older: [], newest: "v1");
message!(BehaviorByItem, "behavior.by-item", older: [], newest: "v1");
message!(BehaviorByRequest, "behavior.by-request", older: [], newest: "v1");
