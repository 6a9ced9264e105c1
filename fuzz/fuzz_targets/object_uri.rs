//! Names of objects.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_objects::fuzzing::object_uri(data));
