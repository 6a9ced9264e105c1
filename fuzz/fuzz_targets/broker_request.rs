//! What a client sends on one connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    millrace_broker::fuzzing::requests(data, dir.path());
});
