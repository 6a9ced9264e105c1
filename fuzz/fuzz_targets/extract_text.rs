//! Text formats that are read without a child process.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_vectorizer::extract::fuzzing::text(data));
