//! Bodies of `POST /v1/events`.

#![no_main]

libfuzzer_sys::fuzz_target!(
    |data: &[u8]| millrace_producers::behavior::fuzzing::behavior_body(data)
);
