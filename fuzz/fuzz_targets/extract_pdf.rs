//! PDF, through the child process.

#![no_main]

// The same check as the vectorizer's suite makes, which cannot be taken from a library either.
#[path = "../../consumers/vectorizer/tests/suite/hostile.rs"]
mod hostile;

use millrace_vectorizer::{ExtractorCommand, extract_worker_main};

libfuzzer_sys::fuzz_target!(
    init: {
        // This program is its own extraction worker, as the binary is.
        let mut arguments = std::env::args().skip(1);
        if arguments.next().as_deref() == Some("extract-worker") {
            let _status = extract_worker_main(&arguments.next().unwrap_or_default());
            #[expect(clippy::disallowed_methods, reason = "libFuzzer's main would go on")]
            std::process::exit(0);
        }
    },
    |data: &[u8]| {
        let command = ExtractorCommand::this_program().expect("a path of its own");
        hostile::pdf(data, command);
    }
);
