//! What the state holds of a partition's join, by name.

use millrace_state::{Position, Table};

/// One value: watermark and the like.
pub(crate) const PROGRESS: Table = Table::new("progress");
/// Signals by item.
pub(crate) const SIGNALS: Table = Table::new("signals");
/// Counters by item.
pub(crate) const COUNTERS: Table = Table::new("counters");
/// Behavior that waits for its signal, by offset.
pub(crate) const WAITING: Table = Table::new("waiting");
/// Events that were seen, by id.
pub(crate) const SEEN: Table = Table::new("seen");
/// The ids that are forgotten; each hour of event time is a part.
pub(crate) const FORGETTING: Table = Table::new("forgetting");

/// The next offset of each topic; `None` where nothing was read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// Of `behavior.by-item`.
    pub behavior: Option<i64>,
    /// Of `signals`.
    pub signals: Option<i64>,
}

const BEHAVIOR_SOURCE: &str = "behavior.by-item";
const SIGNALS_SOURCE: &str = "signals";

impl From<&Position> for Offsets {
    fn from(position: &Position) -> Self {
        Self {
            behavior: position.get(BEHAVIOR_SOURCE),
            signals: position.get(SIGNALS_SOURCE),
        }
    }
}

impl From<Offsets> for Position {
    fn from(offsets: Offsets) -> Self {
        Self::default()
            .with(BEHAVIOR_SOURCE, offsets.behavior)
            .with(SIGNALS_SOURCE, offsets.signals)
    }
}
