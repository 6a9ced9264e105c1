//! One suite, two brokers: each check runs under the same name against the embedded broker
//! (`embedded::…`) and against a real Apache Kafka (`real::…`, found by `millrace_servers::kafka`).
//! Tests that look into the embedded broker's files or limits are in `only_embedded`.

mod checks;
mod client;
mod only_embedded;
mod raw;

/// Makes the tests of one target.
macro_rules! suite {
    ($target:ident, $start:path; $($family:ident :: $check:ident,)*) => {
        mod $target {
            $(
                #[test]
                fn $check() -> anyhow::Result<()> {
                    let target = $start()?;
                    crate::checks::$family::$check(&target)
                }
            )*
        }
    };
}

macro_rules! both {
    ($($checks:tt)*) => {
        suite!(embedded, crate::client::Target::embedded; $($checks)*);
        suite!(real, crate::client::Target::real; $($checks)*);
    };
}

both! {
    admin::create_topics_and_refuse_a_second,
    admin::refuse_bad_topic_names_and_settings,
    admin::describe_and_alter_configs,
    admin::incremental_alter_configs_keep_the_rest,
    admin::create_partitions,
    admin::delete_topics,
    admin::recreated_topic_is_empty,
    admin::delete_records_moves_the_low_watermark,
    admin::missing_topic_is_not_created,
    admin::describe_cluster_names_the_broker,
    records::keys_headers_and_times_survive,
    records::idempotent_produce_survives_retry,
    records::idempotent_gap_is_refused,
    records::parallel_idempotent_producers_lose_nothing,
    records::gzip_round_trip,
    records::snappy_round_trip,
    records::lz4_round_trip,
    records::zstd_round_trip,
    records::large_messages,
    records::oversized_batch_is_refused,
    records::corrupt_batch_is_refused,
    records::compacted_topic_needs_keys,
    records::watermarks,
    records::offsets_for_times,
    records::offsets_for_times_inside_a_compressed_batch,
    records::assign_seek_and_tail,
    groups::cooperative_members_join_split_and_leave,
    groups::range_members_join_split_and_leave,
    groups::crashed_member_is_replaced,
    groups::static_member_comes_back_without_a_rebalance,
    groups::commit_and_resume,
    groups::committed_offsets_and_lag,
    groups::list_and_describe_groups,
    groups::delete_group_forgets_offsets,
    groups::offset_delete_spares_subscribed_topics,
    groups::zombie_commit_is_refused,
    transactions::commit_with_offsets,
    transactions::aborted_records_are_hidden,
    transactions::open_transaction_holds_readers_back,
    transactions::second_producer_fences_the_first,
    transactions::abandoned_transaction_times_out,
}
