//! Bodies of `POST /v1/notices`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_producers::fuzzing::notices(data));
