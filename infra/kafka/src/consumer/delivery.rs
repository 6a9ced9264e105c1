//! A record on its way through a handler.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::shared::Shared;
use super::tracker::Epoch;
use crate::Record;

/// A record that was handed to a handler. [`Delivery::ack`] finishes it, from any thread, at any
/// time, in any order. Dropped without that, it holds its partition's offset back: the record comes
/// again after the next assignment or start.
#[must_use = "a delivery that is not acknowledged holds its partition's offset back"]
pub struct Delivery {
    record: Record,
    epoch: Epoch,
    shared: Arc<Shared>,
    acknowledged: bool,
}

impl Delivery {
    pub(super) fn new(record: Record, epoch: Epoch, shared: Arc<Shared>) -> Self {
        Self {
            record,
            epoch,
            shared,
            acknowledged: false,
        }
    }

    /// The record is finished: indexed, or dead-lettered, or nothing had to be done.
    ///
    /// After a rebalance took the partition away this is counted and changes nothing.
    pub fn ack(mut self) {
        self.acknowledged = true;
    }

    /// Which assignment of the partition it belongs to.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether the partition is still ours. Work on a record of a lost partition may stop early;
    /// its new owner does it too.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.shared.is_current(&self.record, self.epoch)
    }
}

impl Deref for Delivery {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let partition = (
            std::mem::take(&mut self.record.topic),
            self.record.partition,
        );
        self.shared.end_delivery(
            &partition,
            self.epoch,
            self.record.offset,
            self.acknowledged,
        );
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({} epoch {})", self.record.origin(), self.epoch)
    }
}
