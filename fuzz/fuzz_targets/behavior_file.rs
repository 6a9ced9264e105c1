//! Files of behavior.

#![no_main]

libfuzzer_sys::fuzz_target!(
    |data: &[u8]| millrace_producers::behavior::fuzzing::behavior_file(data)
);
