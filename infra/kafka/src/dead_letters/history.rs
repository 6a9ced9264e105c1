//! How often a record was replayed, and where it failed first: told by the headers that a replay adds,
//! which stay with the record when it fails again.

use bytes::Bytes;
use millrace_schemas::Origin;
use serde::Serialize;

use super::headers;

/// A name and a value.
pub(super) type Header = (String, Option<Bytes>);

/// Times of replays that a record carries, the last ones: its headers must not grow without end.
const MAX_TIMES: usize = 16;

/// What a record tells of its replays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayHistory {
    /// How often it was published again.
    pub count: u32,
    /// Where it failed first.
    pub first_origin: Option<Origin>,
    /// When it failed first, ms since 1970.
    pub first_failed_at_ms: Option<i64>,
    /// When it was published again, ms since 1970: the last 16 times.
    pub replayed_at_ms: Vec<i64>,
}

impl ReplayHistory {
    /// Of the record with these headers; none where no replay published it.
    pub(super) fn of(headers: &[Header]) -> Self {
        let (_, added) = split(headers);
        let text = |name: &str| {
            let (_, value) = added.iter().find(|(added, _)| added == name)?;
            std::str::from_utf8(value.as_deref()?).ok()
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
        let first_origin = text(headers::FIRST_TOPIC).and_then(|topic| {
            Some(Origin {
                topic: topic.to_owned(),
                partition: number(headers::FIRST_PARTITION)?.try_into().ok()?,
                offset: number(headers::FIRST_OFFSET)?,
            })
        });
        let times = text(headers::REPLAYED_AT).unwrap_or_default().split(',');
        Self {
            count: text(headers::REPLAY_COUNT)
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
            first_origin,
            first_failed_at_ms: number(headers::FIRST_FAILED_AT),
            replayed_at_ms: times.filter_map(|time| time.parse().ok()).collect(),
        }
    }

    /// The history after one more replay.
    fn replayed(mut self, at_ms: i64) -> Self {
        self.count = self.count.saturating_add(1);
        self.replayed_at_ms.push(at_ms);
        let spare = self.replayed_at_ms.len().saturating_sub(MAX_TIMES);
        self.replayed_at_ms.drain(..spare);
        self
    }
}

/// The headers of a record that is published again: those that it had when it failed first, byte for
/// byte, and those that tell of its replays.
pub(super) fn replayed_headers(
    failed: &[Header],
    known: ReplayHistory,
    from: &Origin,
    at_ms: i64,
) -> Vec<Header> {
    let history = known.replayed(at_ms);
    let first = history.first_origin.unwrap_or_else(|| from.clone());
    let times: Vec<String> = history
        .replayed_at_ms
        .iter()
        .map(ToString::to_string)
        .collect();
    let values = [
        first.topic,
        first.partition.to_string(),
        first.offset.to_string(),
        history.first_failed_at_ms.unwrap_or(at_ms).to_string(),
        history.count.to_string(),
        times.join(","),
        from.to_string(),
    ];
    let (original, _) = split(failed);
    let added = headers::REPLAY
        .into_iter()
        .zip(values)
        .map(|(name, value)| (name.to_owned(), Some(Bytes::from(value))));
    original.iter().cloned().chain(added).collect()
}

/// The dead letter that a record was published again from, as the text of its position.
pub(super) fn replayed_from(headers: &[Header]) -> Option<&str> {
    let (_, added) = split(headers);
    std::str::from_utf8(added.last()?.1.as_deref()?).ok()
}

/// The headers before those of a replay, and those.
fn split(headers: &[Header]) -> (&[Header], &[Header]) {
    let at = headers.len().saturating_sub(headers::REPLAY.len());
    let (before, last) = headers.split_at(at);
    let names = last.iter().map(|(name, _)| name.as_str());
    if names.eq(headers::REPLAY) {
        (before, last)
    } else {
        (headers, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64) -> Origin {
        Origin {
            topic: "documents.dlq".to_owned(),
            partition: 0,
            offset,
        }
    }

    fn first() -> ReplayHistory {
        ReplayHistory {
            first_origin: Some(Origin {
                topic: "documents".to_owned(),
                partition: 3,
                offset: 17,
            }),
            first_failed_at_ms: Some(1_000),
            ..ReplayHistory::default()
        }
    }

    fn original() -> Vec<Header> {
        vec![
            ("twice".to_owned(), Some(Bytes::from_static(b"\xFF"))),
            ("absent".to_owned(), None),
            ("twice".to_owned(), Some(Bytes::new())),
            // Its producer's own, which is no replay.
            (headers::REPLAY_COUNT.to_owned(), Some("7".into())),
        ]
    }

    #[test]
    fn a_replay_keeps_the_headers_and_counts() {
        assert_eq!(ReplayHistory::of(&original()), ReplayHistory::default());
        let once = replayed_headers(&original(), first(), &letter(5), 2_000);
        assert_eq!(once[..original().len()], original());
        let history = ReplayHistory::of(&once);
        assert_eq!(
            (history.count, &history.replayed_at_ms[..]),
            (1, &[2_000][..])
        );
        assert_eq!(history.first_origin, first().first_origin);
        assert_eq!(history.first_failed_at_ms, Some(1_000));
        assert_eq!(replayed_from(&once), Some("documents.dlq/0@5"));

        // It fails again and is replayed again: one block of headers, the first origin.
        let twice = replayed_headers(&once, history, &letter(9), 3_000);
        assert_eq!(twice.len(), once.len());
        assert_eq!(twice[..original().len()], original());
        let history = ReplayHistory::of(&twice);
        assert_eq!(
            (history.count, &history.replayed_at_ms[..]),
            (2, &[2_000, 3_000][..])
        );
        assert_eq!(history.first_origin, first().first_origin);
        assert_eq!(history.first_failed_at_ms, Some(1_000));
        assert_eq!(replayed_from(&twice), Some("documents.dlq/0@9"));
    }

    #[test]
    fn times_do_not_grow_without_end() {
        let (mut failed, mut history) = (original(), first());
        for n in 0..40 {
            failed = replayed_headers(&failed, history, &letter(n), n);
            history = ReplayHistory::of(&failed);
        }
        assert_eq!(history.count, 40);
        assert_eq!(history.replayed_at_ms, (24..40).collect::<Vec<i64>>());
    }

    #[test]
    fn hostile_headers_are_no_history() {
        let hostile: Vec<Header> = headers::REPLAY
            .into_iter()
            .map(|name| (name.to_owned(), Some(Bytes::from_static(b"\xFF,\x1B[2J"))))
            .collect();
        assert_eq!(ReplayHistory::of(&hostile), ReplayHistory::default());
        assert_eq!(replayed_from(&hostile), None);
        let absent: Vec<Header> = headers::REPLAY
            .into_iter()
            .map(|name| (name.to_owned(), None))
            .collect();
        assert_eq!(ReplayHistory::of(&absent), ReplayHistory::default());
        let counted = ReplayHistory {
            count: u32::MAX,
            ..first()
        };
        let replayed = replayed_headers(&hostile, counted, &letter(0), 1);
        assert_eq!(ReplayHistory::of(&replayed).count, u32::MAX);
    }
}
