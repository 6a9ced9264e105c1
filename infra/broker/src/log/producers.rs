//! What idempotent producers wrote last, to recognise a retry and to refuse a gap.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::batch::{BatchHeader, sequence_after};

/// So many batches a producer may have in flight (`max.in.flight.requests.per.connection`), so so
/// many may come again.
const REMEMBERED_BATCHES: usize = 5;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    recent: VecDeque<Written>,
    last_append_ms: i64,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is in the log already, from this offset on.
    Duplicate {
        base_offset: i64,
    },
}

/// Why a batch must not be appended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    #[error("a newer epoch of this producer has written")]
    Fenced,
    #[error("the sequence leaves a gap")]
    OutOfOrder,
}

impl SequenceError {
    pub fn is_fenced(self) -> bool {
        self == SequenceError::Fenced
    }
}

impl Producers {
    /// Judges a batch before it is written.
    pub fn judge(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        // An unknown producer may start anywhere: retention may have taken what it wrote before.
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(SequenceError::Fenced);
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 {
                Ok(Verdict::Append)
            } else {
                Err(SequenceError::OutOfOrder)
            };
        }
        let same = |written: &&Written| {
            written.first_sequence == header.base_sequence
                && written.last_sequence == header.last_sequence()
        };
        if let Some(written) = producer.recent.iter().find(same) {
            return Ok(Verdict::Duplicate {
                base_offset: written.base_offset,
            });
        }
        let expected = producer
            .recent
            .back()
            .map_or(0, |last| sequence_after(last.last_sequence, 1));
        if header.base_sequence == expected {
            Ok(Verdict::Append)
        } else {
            Err(SequenceError::OutOfOrder)
        }
    }

    /// Remembers a batch that is in the log.
    pub fn note(&mut self, header: &BatchHeader, appended_ms: i64) {
        let producer = self.by_id.entry(header.producer_id).or_default();
        producer.last_append_ms = producer.last_append_ms.max(appended_ms);
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.recent.clear();
        }
        if header.is_control() {
            return;
        }
        producer.recent.push_back(Written {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
        });
        if producer.recent.len() > REMEMBERED_BATCHES {
            producer.recent.pop_front();
        }
    }

    /// Forgets producers that wrote nothing since `before_ms`.
    pub fn forget_idle(&mut self, before_ms: i64, in_transaction: impl Fn(i64) -> bool) {
        self.by_id
            .retain(|id, producer| producer.last_append_ms >= before_ms || in_transaction(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, records: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            bytes: 100,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: 9,
            producer_epoch: epoch,
            base_sequence,
            record_count: records,
        }
    }

    #[test]
    fn a_retry_is_a_duplicate_and_a_gap_is_refused() {
        let mut producers = Producers::default();
        producers.note(&batch(0, 0, 3, 100), 1);
        producers.note(&batch(0, 3, 2, 103), 1);
        assert_eq!(
            producers.judge(&batch(0, 0, 3, 0)),
            Ok(Verdict::Duplicate { base_offset: 100 })
        );
        assert_eq!(producers.judge(&batch(0, 5, 1, 0)), Ok(Verdict::Append));
        assert_eq!(
            producers.judge(&batch(0, 6, 1, 0)),
            Err(SequenceError::OutOfOrder)
        );
        assert_eq!(
            producers.judge(&batch(0, 0, 2, 0)),
            Err(SequenceError::OutOfOrder)
        );
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old() {
        let mut producers = Producers::default();
        producers.note(&batch(0, 0, 3, 0), 1);
        assert_eq!(
            producers.judge(&batch(1, 3, 1, 0)),
            Err(SequenceError::OutOfOrder)
        );
        assert_eq!(producers.judge(&batch(1, 0, 1, 0)), Ok(Verdict::Append));
        producers.note(&batch(1, 0, 1, 3), 2);
        assert_eq!(
            producers.judge(&batch(0, 3, 1, 0)),
            Err(SequenceError::Fenced)
        );
    }

    #[test]
    fn sequences_continue_after_the_largest() {
        let mut producers = Producers::default();
        producers.note(&batch(0, i32::MAX, 1, 0), 1);
        assert_eq!(producers.judge(&batch(0, 0, 1, 0)), Ok(Verdict::Append));
    }
}
