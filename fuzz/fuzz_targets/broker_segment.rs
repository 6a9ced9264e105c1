//! The segment that a broker finds when it starts.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    millrace_broker::fuzzing::segment(data, dir.path());
});
