//! Lists of feature declarations.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_features::fuzzing::feature_declarations(data));
