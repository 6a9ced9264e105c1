//! Records' headers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_schemas::fuzzing::event_headers(data));
