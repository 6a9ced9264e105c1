//! What fuzzing asks of the broker. Compiled for fuzzing and for the tests that replay the corpora.
//! Each check works in an empty folder that its caller makes.

pub use crate::journal::fuzzing::journal;
pub use crate::log::fuzzing::segment;
pub use crate::server::fuzzing::requests;

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, check: fn(&[u8], &Path)) {
        millrace_fuzz::replay(target, |input| {
            let dir = tempfile::tempdir().expect("a folder");
            check(input, dir.path());
        });
    }

    #[test]
    fn the_corpus_of_requests() {
        replay("broker_request", super::requests);
    }

    #[test]
    fn the_corpus_of_segments() {
        replay("broker_segment", super::segment);
    }

    #[test]
    fn the_corpus_of_journals() {
        replay("broker_journal", super::journal);
    }
}
