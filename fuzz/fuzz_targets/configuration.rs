//! `millrace.toml`.

#![no_main]

// The binary has no library to take it from.
#[path = "../../src/config/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the binary uses the rest")]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzzing::configuration(data));
