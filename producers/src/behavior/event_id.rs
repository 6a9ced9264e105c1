//! The id of an event whose upstream system gives none.

use millrace_schemas::BehaviorEvent;
use sha2::{Digest, Sha256};

/// 128 bits of a SHA-256 over all fields of the event but its id, as 32 hex digits.
///
/// So a row that is delivered twice is one event, in whichever file, request or order it comes.
/// The other side of it: two events that are equal in every field are one. AIRec's `bhv_time` is in
/// seconds, so two clicks of one user on one item in one second, without an id, count once.
#[must_use]
pub fn derive(event: &BehaviorEvent) -> String {
    let mut hash = Sha256::new();
    // Each part with its length before it: `ab`, `c` is another event than `a`, `bc`.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for text in [
        event.source.as_str(),
        &event.user_id,
        &event.item_id,
        &event.item,
        event.kind.as_str(),
    ] {
        part(text.as_bytes());
    }
    part(&event.event_time_ms.to_le_bytes());
    // An absent part differs from every present one: no text begins with this byte.
    let absent: &[u8] = &[0xFF];
    part(
        event
            .value
            .map(f64::to_le_bytes)
            .as_ref()
            .map_or(absent, |bytes| bytes.as_slice()),
    );
    part(
        event
            .position
            .map(i32::to_le_bytes)
            .as_ref()
            .map_or(absent, |bytes| bytes.as_slice()),
    );
    for text in [&event.request_id, &event.trace_info, &event.scene_id] {
        part(text.as_ref().map_or(absent, |text| text.as_bytes()));
    }
    for (name, value) in &event.attributes {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    hex::encode(&hash.finalize()[..16])
}
