//! The labeler from its topics to its topic, on the embedded broker and folder (`embedded::`) and on the
//! real Kafka and Redis (`real::`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod labelling;
mod stack;

/// One test a scenario and store.
macro_rules! on_both {
    ($($scenario:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::labelling::$scenario(&millrace_stateful::testing::Place::embedded()?).await
                }
            )+
        }
        mod real {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::labelling::$scenario(&millrace_stateful::testing::Place::real()?).await
                }
            )+
        }
    };
}

on_both! {
    an_answer_becomes_an_example_and_a_late_click_corrects_it,
    what_cannot_be_read_is_a_dead_letter,
    topics_that_are_not_partitioned_alike_are_refused,
}
