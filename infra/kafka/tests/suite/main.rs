//! The Kafka client against running brokers: the same scenarios by name on the embedded broker
//! (`embedded::`) and on the real Kafka (`real::`, whose address `millrace-servers` knows).

#![allow(clippy::unwrap_used)]

mod cluster;
mod registry;
mod restarts;
mod scenarios;

/// One test a scenario and target.
macro_rules! on_both {
    ($($module:ident: [$($scenario:ident),+ $(,)?]),+ $(,)?) => {
        mod embedded {
            $(mod $module {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::scenarios::$module::$scenario(&crate::cluster::Cluster::embedded()?).await
                }
            )+})+
        }
        mod real {
            $(mod $module {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::scenarios::$module::$scenario(&crate::cluster::Cluster::real()?).await
                }
            )+})+
        }
    };
}

on_both! {
    consuming: [
        everything_is_consumed_and_a_restart_resumes_after_it,
        an_unacknowledged_delivery_holds_the_offset_and_comes_again,
        a_full_queue_pauses_and_a_slow_handler_keeps_its_membership,
        a_missing_topic_is_waited_for,
    ],
    rebalancing: [
        two_members_lose_nothing_and_double_nothing_acknowledged,
        a_late_acknowledgement_from_a_dead_epoch_is_ignored,
        a_shutdown_drains_and_commits,
        a_shutdown_ends_at_its_deadline,
        an_evicted_member_stops_and_says_so,
        a_member_that_leaves_before_it_has_partitions_is_gone,
        members_that_leave_during_rebalances_come_to_their_end,
    ],
    positions_of_the_caller: [
        a_held_partition_starts_where_its_owner_says,
        where_its_owner_begins_is_committed_though_nothing_comes,
        a_partition_begun_again_starts_again,
        partitions_move_to_a_second_member,
        chosen_partitions_are_read_without_a_group,
    ],
    producing: [
        a_signal_is_partitioned_by_its_item,
        our_partition_is_librdkafkas,
        a_record_that_is_too_large_is_rejected,
        a_traceparent_travels,
        a_registry_frames_what_is_sent,
    ],
    dead_letters: [
        a_dead_letter_is_the_original_byte_for_byte,
        an_unwritable_topic_is_waited_for,
        the_same_failure_is_counted_once,
    ],
    lag: [
        lag_is_told_in_records_and_seconds,
        groups_at_different_offsets_are_read_at_once,
        offsets_of_a_group_without_members_can_be_moved,
    ],
    redriving: [
        a_replay_is_the_original_and_carries_its_history,
        a_replay_that_was_cut_off_is_recovered,
        a_position_tells_of_a_replay_that_is_under_way,
    ],
    replaying: [
        a_copy_has_every_byte_and_its_partition,
        a_replay_is_found_where_it_was,
    ],
    administering: [
        processes_that_start_together_make_the_topics_once,
        declared_topics_are_made_once,
        a_reader_stops_at_the_end_it_saw,
        a_reader_begins_where_it_is_told,
        a_reader_follows,
    ],
}

mod against_kafkas_own_commands {
    mod real {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn lag_figures_are_those_of_kafkas_own_command() -> anyhow::Result<()> {
            crate::scenarios::lag::lag_figures_are_those_of_kafkas_own_command(
                &crate::cluster::Cluster::real()?,
            )
            .await
        }
    }
}
