//! Any bytes as a PDF, through the child process. Also compiled into the fuzz target `extract_pdf`.

use std::sync::LazyLock;
use std::time::Duration;

use millrace_vectorizer::ExtractorCommand;
use millrace_vectorizer::extract::{ExtractLimits, Extractor};

const LIMITS: ExtractLimits = ExtractLimits {
    max_text_bytes: 1 << 16,
    memory_bytes: 256 << 20,
    timeout: Duration::from_secs(10),
    workers: 1,
    readers: 1,
};

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
});

/// Whatever the parser does, the caller has a text within its limit or an error that is the
/// document's own.
pub fn pdf(bytes: &[u8], worker: ExtractorCommand) {
    let extractor = Extractor::new(worker, LIMITS);
    let bytes = bytes.to_vec().into();
    let read = extractor.extract(bytes, Some("application/pdf"), "file:///x.pdf");
    match RUNTIME.block_on(read) {
        Ok((_, extracted)) => {
            assert!(extracted.text.len() as u64 <= LIMITS.max_text_bytes);
        }
        Err(error) => assert!(!error.is_transient(), "{error}"),
    }
}
