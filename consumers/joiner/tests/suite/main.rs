//! The joiner as a whole on the embedded broker and folder (`embedded::`) and on the real Kafka and
//! Redis (`real::`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod joining;
mod rebuilding;
mod stack;

millrace_stateful::on_both_targets! {
    joining: [
        behavior_becomes_feedback_and_counts,
        what_cannot_be_read_is_a_dead_letter,
        a_moved_committed_offset_changes_nothing,
        a_second_joiner_takes_partitions_over_and_nothing_counts_twice,
        topics_that_are_not_partitioned_alike_are_refused,
    ],
    rebuilding: [
        a_rebuilt_state_counts_the_same_and_publishes_nothing_as_new,
        a_rebuild_ends_where_retention_has_left_a_partition_nothing,
    ],
}
