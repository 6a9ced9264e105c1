//! Which offset may be stored: the one below which everything received is finished.
//!
//! Invariants, each a property test under its name:
//! - INV-1 the stored offset never passes the first unfinished one.
//! - INV-2 it never goes back within an epoch.
//! - INV-3 after all acknowledgements, in any order, it is last + 1.
//! - INV-4 gaps in offsets (compaction, aborted transactions) hold nothing up.
//! - INV-5 a dead epoch changes nothing.

use std::collections::{BTreeSet, HashMap};

/// A partition: topic and number.
pub(crate) type TopicPartition = (String, i32);

/// One assignment of one partition. Never used again within the process.
pub(crate) type Epoch = u64;

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The record is finished.
    Counted,
    /// The partition was revoked since, or assigned anew: whoever has it now reads the record again.
    DeadEpoch,
}

/// Follows all assigned partitions.
#[derive(Debug, Default)]
pub(crate) struct OffsetTracker {
    partitions: HashMap<TopicPartition, Offsets>,
    last_epoch: Epoch,
}

/// Only *unfinished* offsets are kept: one slow record among a million finished ones costs one
/// entry.
#[derive(Debug)]
struct Offsets {
    epoch: Epoch,
    unfinished: BTreeSet<i64>,
    /// One more than the last received, at first where its owner begins; absent where neither is known.
    end: Option<i64>,
    /// The offset last handed out for storing; at first the first received, which is where the
    /// partition was resumed and needs no storing, or the one before where its owner begins.
    stored: Option<i64>,
}

impl Offsets {
    fn position(&self) -> Option<i64> {
        self.unfinished.first().copied().or(self.end)
    }
}

impl OffsetTracker {
    /// Begins an epoch of `partition`; an earlier one dies.
    pub(crate) fn assign(&mut self, partition: TopicPartition) -> Epoch {
        self.last_epoch += 1;
        let epoch = self.last_epoch;
        let offsets = Offsets {
            epoch,
            unfinished: BTreeSet::new(),
            end: None,
            stored: None,
        };
        self.partitions.insert(partition, offsets);
        epoch
    }

    /// Begins an epoch at `offset`, which its owner keeps, and which the group may have missed when the
    /// owner was cut off before: it is to be stored, though no record may ever come behind it.
    pub(crate) fn begin_at(&mut self, partition: &TopicPartition, epoch: Epoch, offset: i64) {
        if let Some(offsets) = self.partitions.get_mut(partition)
            && offsets.epoch == epoch
        {
            offsets.end = Some(offset);
            offsets.stored = Some(offset - 1);
        }
    }

    /// Ends the partition's epoch.
    pub(crate) fn revoke(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
    }

    /// Notes a record as received. `false` where its offset is not above all received so far in
    /// this epoch: the log was cut or made anew, so the caller must begin a new epoch.
    #[must_use]
    pub(crate) fn received(&mut self, partition: &TopicPartition, offset: i64) -> bool {
        match self.partitions.get_mut(partition) {
            Some(offsets) if offsets.end.is_none_or(|end| offset >= end) => {
                offsets.unfinished.insert(offset);
                offsets.end = Some(offset + 1);
                offsets.stored.get_or_insert(offset);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes a record as finished. Twice is the same as once.
    pub(crate) fn finished(
        &mut self,
        partition: &TopicPartition,
        epoch: Epoch,
        offset: i64,
    ) -> Finished {
        match self.partitions.get_mut(partition) {
            Some(offsets) if offsets.epoch == epoch => {
                offsets.unfinished.remove(&offset);
                Finished::Counted
            }
            Some(_) | None => Finished::DeadEpoch,
        }
    }

    /// The offset to resume from: everything received below it is finished. Absent until something
    /// was received, unless its owner said where it begins.
    pub(crate) fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.position()
    }

    /// Records received and not finished.
    pub(crate) fn unfinished(&self, partition: &TopicPartition) -> usize {
        self.partitions
            .get(partition)
            .map_or(0, |offsets| offsets.unfinished.len())
    }

    /// The partitions whose position has moved since it was last taken, with the offset to store.
    pub(crate) fn take_storable(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut storable = Vec::new();
        for (partition, offsets) in &mut self.partitions {
            let Some(position) = offsets.position() else {
                continue;
            };
            if offsets.stored.is_some_and(|stored| position > stored) {
                offsets.stored = Some(position);
                storable.push((partition.clone(), position));
            }
        }
        storable
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition() -> TopicPartition {
        ("documents".to_owned(), 0)
    }

    /// What happens to a partition: records with gaps between them, and acknowledgements by index
    /// into what was received so far.
    #[derive(Clone, Debug)]
    enum Step {
        Receive { gap: i64 },
        Finish { which: prop::sample::Index },
        Store,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..5_i64).prop_map(|gap| Step::Receive { gap }),
            3 => any::<prop::sample::Index>().prop_map(|which| Step::Finish { which }),
            1 => Just(Step::Store),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// The slow and obvious form of the tracker, beside the real one.
    #[derive(Default)]
    struct Model {
        received: Vec<(i64, bool)>,
        stored: Vec<i64>,
    }

    fn play(start: i64, steps: &[Step]) -> (OffsetTracker, Epoch, Model) {
        let mut tracker = OffsetTracker::default();
        let epoch = tracker.assign(partition());
        let mut model = Model::default();
        let mut next = start;
        for step in steps {
            match step {
                Step::Receive { gap } => {
                    next += gap;
                    assert!(tracker.received(&partition(), next));
                    model.received.push((next, false));
                    next += 1;
                }
                Step::Finish { which } if !model.received.is_empty() => {
                    let record = which.get_mut(&mut model.received);
                    record.1 = true;
                    assert_eq!(
                        tracker.finished(&partition(), epoch, record.0),
                        Finished::Counted
                    );
                }
                Step::Finish { .. } => {}
                Step::Store => model
                    .stored
                    .extend(tracker.take_storable().iter().map(|(_, at)| at)),
            }
        }
        model
            .stored
            .extend(tracker.take_storable().iter().map(|(_, at)| at));
        (tracker, epoch, model)
    }

    proptest! {
        #[test]
        fn inv_1_the_stored_offset_never_passes_the_first_unfinished(start in 0..1000_i64, steps in steps()) {
            let (tracker, _, model) = play(start, &steps);
            let first_unfinished = model.received.iter().find(|(_, done)| !done).map(|(offset, _)| *offset);
            if let (Some(first), Some(stored)) = (first_unfinished, model.stored.last()) {
                prop_assert!(*stored <= first);
            }
            let expected = first_unfinished.or(model.received.last().map(|(offset, _)| offset + 1));
            prop_assert_eq!(tracker.position(&partition()), expected);
        }

        #[test]
        fn inv_2_it_never_goes_back_within_an_epoch(start in 0..1000_i64, steps in steps()) {
            let (_, _, model) = play(start, &steps);
            prop_assert!(model.stored.is_sorted_by(|a, b| a < b), "{:?}", model.stored);
        }

        #[test]
        fn inv_3_after_all_acknowledgements_in_any_order_it_is_last_plus_one(
            offsets in prop::collection::btree_set(0..10_000_i64, 1..200).prop_map(Vec::from_iter),
            order in any::<prop::sample::Index>(),
            shuffled in Just(()).prop_perturb(|(), rng| rng),
        ) {
            let mut rng = shuffled;
            let mut tracker = OffsetTracker::default();
            let epoch = tracker.assign(partition());
            for offset in &offsets {
                prop_assert!(tracker.received(&partition(), *offset));
            }
            let mut shuffled = offsets.clone();
            for i in (1..shuffled.len()).rev() {
                shuffled.swap(i, rng.random_range(0..=i));
            }
            // An acknowledgement may come twice.
            shuffled.push(*order.get(&offsets));
            let mut last = None;
            for offset in &shuffled {
                tracker.finished(&partition(), epoch, *offset);
                last = tracker.take_storable().pop().or(last);
            }
            prop_assert_eq!(last, Some((partition(), offsets[offsets.len() - 1] + 1)));
        }

        #[test]
        fn inv_4_gaps_in_offsets_hold_nothing_up(start in 0..1000_i64, gaps in prop::collection::vec(0..1000_i64, 1..50)) {
            let mut tracker = OffsetTracker::default();
            let epoch = tracker.assign(partition());
            let mut offset = start;
            for gap in gaps {
                offset += gap;
                prop_assert!(tracker.received(&partition(), offset));
                tracker.finished(&partition(), epoch, offset);
                prop_assert_eq!(tracker.take_storable(), vec![(partition(), offset + 1)]);
                offset += 1;
            }
        }

        #[test]
        fn inv_5_a_dead_epoch_changes_nothing(before in steps(), after in steps(), late in prop::collection::vec(any::<prop::sample::Index>(), 1..20)) {
            let (mut tracker, dead, old) = play(0, &before);
            prop_assume!(!old.received.is_empty());
            if late.len() % 2 == 0 {
                tracker.revoke(&partition());
            }
            let alive = tracker.assign(partition());
            let mut next = 0;
            for step in &after {
                if let Step::Receive { gap } = step {
                    next += gap;
                    prop_assert!(tracker.received(&partition(), next));
                    next += 1;
                }
            }
            let state = format!("{tracker:?}");
            for which in late {
                let (offset, _) = which.get(&old.received);
                prop_assert_eq!(tracker.finished(&partition(), dead, *offset), Finished::DeadEpoch);
            }
            prop_assert_eq!(format!("{tracker:?}"), state);
            prop_assert_ne!(dead, alive);
        }
    }

    #[test]
    fn a_log_that_went_back_asks_for_a_new_epoch() {
        let mut tracker = OffsetTracker::default();
        tracker.assign(partition());
        assert!(tracker.received(&partition(), 10));
        assert!(!tracker.received(&partition(), 3));
        tracker.assign(partition());
        assert!(tracker.received(&partition(), 3));
        assert!(
            !tracker.received(&("other".to_owned(), 0), 3),
            "not assigned"
        );
    }
}
