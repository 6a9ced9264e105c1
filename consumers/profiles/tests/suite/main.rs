//! Profiles from their topic to their reader, on the embedded broker and folder (`embedded::`) and on
//! the real Kafka and Redis (`real::`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod profiles;
mod stack;

millrace_stateful::on_both_targets! {
    profiles: [
        a_click_is_read_from_its_users_profile,
        an_origin_is_applied_once_and_a_moved_committed_offset_changes_nothing,
        what_cannot_be_read_is_a_dead_letter,
        a_second_member_takes_partitions_over_and_nothing_applies_twice,
        a_rebuilt_generation_has_the_same_profiles_and_live_feedback_goes_on,
        a_rebuild_ends_where_retention_has_left_a_partition_nothing,
        a_rebuild_that_is_cut_off_leaves_the_live_generation_serving,
    ],
}
