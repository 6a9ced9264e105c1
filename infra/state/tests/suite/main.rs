//! What every store must do, on a folder (`embedded::`) and on the real Redis (`real::`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod place;
mod stores;

/// One test a scenario and store.
macro_rules! on_both {
    ($($scenario:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::stores::$scenario(&crate::place::Place::embedded()?).await
                }
            )+
        }
        mod real {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::stores::$scenario(&crate::place::Place::real()?).await
                }
            )+
        }
    };
}

on_both! {
    a_commit_writes_all_and_moves_the_position,
    a_writer_that_was_replaced_is_refused,
    a_write_from_another_offset_is_refused_and_changes_nothing,
    partitions_tables_and_hours_are_apart,
    a_generation_is_built_beside_the_live_one_and_switched_to,
    states_of_two_consumers_do_not_meet,
    a_writer_goes_on_from_its_own_writes_until_another_claims,
}
