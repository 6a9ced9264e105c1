//! What a store has of a profile.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_features::fuzzing::stored_profile(data));
