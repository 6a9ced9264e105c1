//! Texts to be cut.

#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tokenizer.json");
    millrace_vectorizer::chunk::fuzzing::chunks(data, &tokenizer);
});
