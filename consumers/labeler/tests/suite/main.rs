//! The labeler from its topics to its topic, on the embedded broker and folder (`embedded::`) and on the
//! real Kafka and Redis (`real::`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod crash;
mod labelling;
mod stack;

millrace_stateful::on_both_targets! {
    labelling: [
        an_answer_becomes_an_example_and_a_late_click_corrects_it,
        what_cannot_be_read_is_a_dead_letter,
        topics_that_are_not_partitioned_alike_are_refused,
    ],
}
