//! Document ids are stable; versions order events by time, then by offset.

use millrace_schemas::{DocId, DocumentVersion, VersionError};
use proptest::prelude::*;

#[test]
fn the_id_of_a_uri_never_changes() {
    let id = DocId::from_uri("oss://bucket/key");
    assert_eq!(id.as_str(), "b0150f43927acf4ed9a32d3af0b8f90b");
    assert_eq!(id.chunk(3), format!("{id}#3"));
    assert_eq!(DocId::parse(id.as_str()), Some(id.clone()));
    for other in [
        "",
        "4711",
        &id.as_str()[1..],
        &id.as_str().to_uppercase(),
        &format!("{id}0"),
    ] {
        assert_eq!(DocId::parse(other), None, "{other}");
    }
}

#[test]
fn a_version_from_the_future_is_refused() {
    let now_ms = 1_700_000_000_000;
    let limit = now_ms + DocumentVersion::MAX_AHEAD_MS;
    assert!(DocumentVersion::checked(limit, 0, now_ms).is_ok());
    let error = DocumentVersion::checked(limit + 1, 0, now_ms).unwrap_err();
    assert_eq!(
        error,
        VersionError::InFuture {
            event_time_ms: limit + 1,
            ahead_ms: 300_001
        }
    );
    assert_eq!(error.error_type(), "version_in_future");
    assert!(DocumentVersion::checked(i64::MAX, 0, i64::MIN).is_err());
    assert_eq!(
        DocumentVersion::checked(-1, 0, now_ms),
        Err(VersionError::BeforeEpoch { event_time_ms: -1 })
    );
}

const LAST_MS: i64 = i64::MAX >> 20;

proptest! {
    #[test]
    fn a_later_event_has_the_higher_version(a in 0..LAST_MS, b in 0..LAST_MS, x in 0..i64::MAX, y in 0..i64::MAX) {
        prop_assume!(a != b);
        prop_assert_eq!(DocumentVersion::new(a, x) < DocumentVersion::new(b, y), a < b);
    }

    #[test]
    fn in_one_millisecond_the_later_offset_wins(time in 0..=LAST_MS, base in 0..i64::MAX >> 20, x in 0..1_i64 << 20, y in 0..1_i64 << 20) {
        let (first, second) = (base << 20 | x, base << 20 | y);
        let order = DocumentVersion::new(time, first).cmp(&DocumentVersion::new(time, second));
        prop_assert_eq!(order, x.cmp(&y));
    }

    #[test]
    fn no_version_is_negative_and_the_time_comes_back(time: i64, offset: i64) {
        let version = DocumentVersion::new(time, offset);
        prop_assert!(version.get() >= 0);
        prop_assert_eq!(version.event_time_ms(), time.clamp(0, LAST_MS));
    }
}
