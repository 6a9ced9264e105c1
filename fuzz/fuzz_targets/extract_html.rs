//! HTML.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_vectorizer::extract::fuzzing::html(data));
