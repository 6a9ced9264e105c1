//! Answers to bulk requests.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_index::opensearch::fuzzing::bulk_answer(data));
