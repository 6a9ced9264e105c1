//! A schema and what it wrote.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_kafka::fuzzing::registry_answer(data));
