//! What users did, as obligations.

use millrace_schemas::{BehaviorKind, DocId};

/// Users whose behavior is told of.
const USERS: u32 = 12;
const KINDS: [BehaviorKind; 5] = [
    BehaviorKind::Expose,
    BehaviorKind::Expose,
    BehaviorKind::Click,
    BehaviorKind::Click,
    BehaviorKind::Buy,
];

/// One event, to be counted once however often it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behavior {
    /// Of this event alone.
    pub event_id: String,
    /// Who.
    pub user_id: String,
    /// The document that it is about.
    pub uri: String,
    /// What happened.
    pub kind: BehaviorKind,
    /// The item's place, from 1.
    pub position: Option<i32>,
    /// Event time against the clock, ms.
    pub skew_ms: i64,
    /// For each copy: how late it is posted, ms.
    pub late_ms: Vec<u64>,
}

impl Behavior {
    /// Draws what happens to the document `uri`.
    pub(super) fn draw(rng: &mut fastrand::Rng, drawn: u64, uri: String) -> Self {
        let copies = if rng.u32(..4) == 0 { rng.u32(2..4) } else { 1 };
        let late_ms = (0..copies)
            .map(|_| match rng.u32(..5) {
                0 => rng.u64(100..3_000),
                _ => 0,
            })
            .collect();
        let skew_ms = match rng.u32(..8) {
            0 => rng.i64(1_000..120_000),
            1 => -rng.i64(60_000..3 * 3_600_000),
            _ => 0,
        };
        Self {
            event_id: format!("judge-{drawn}"),
            user_id: format!("user-{}", rng.u32(..USERS)),
            uri,
            kind: KINDS[rng.usize(..KINDS.len())],
            position: (rng.u32(..3) > 0).then(|| rng.i32(1..12)),
            skew_ms,
            late_ms,
        }
    }

    /// The item that it is joined with.
    #[must_use]
    pub fn item_id(&self) -> String {
        DocId::from_uri(&self.uri).to_string()
    }
}
