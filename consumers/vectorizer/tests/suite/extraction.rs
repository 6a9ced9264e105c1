//! The extraction worker on good, broken and hostile files.

use std::time::{Duration, Instant};

use anyhow::Result;
use millrace_vectorizer::ExtractorCommand;
use millrace_vectorizer::extract::{
    ExtractError, ExtractLimits, ExtractedText, Extractor, MediaType,
};

use crate::hostile;
use crate::stack::{fixture, worker};

const LIMITS: ExtractLimits = ExtractLimits {
    max_text_bytes: 1 << 20,
    memory_bytes: 512 << 20,
    timeout: Duration::from_secs(60),
    workers: 2,
    readers: 2,
};

async fn read(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    limits: ExtractLimits,
) -> Result<ExtractedText, ExtractError> {
    let extractor = Extractor::new(worker(), limits);
    let bytes: Vec<u8> = bytes.into();
    extractor
        .extract(bytes.into(), None, &format!("file:///{name}"))
        .await
        .map(|(_, extracted)| extracted)
}

#[tokio::test]
async fn a_pdf_gives_its_text_and_properties() -> Result<()> {
    for name in ["tides.pdf", "readable-by-all.pdf"] {
        let read = read(name, fixture(name), LIMITS).await?;
        assert!(
            read.text.contains("Tides are caused by the moon."),
            "{name}: {:?}",
            read.text
        );
        assert!(
            read.text
                .contains("Spring tides come at new and full moon."),
            "{name}: {:?}",
            read.text
        );
        assert_eq!(read.title.as_deref(), Some("About tides"));
        assert_eq!(read.tags, ["sea", "moon"]);
        assert_eq!(read.published_at_ms, Some(1_714_564_800_000));
    }
    Ok(())
}

#[tokio::test]
async fn a_docx_gives_its_text_and_properties() -> Result<()> {
    let read = read("harbour.docx", fixture("harbour.docx"), LIMITS).await?;
    assert_eq!(
        read.text,
        "The harbour & the old town.\nSalt and herring.\t1100–1300"
    );
    assert_eq!(read.title.as_deref(), Some("Harbours"));
    assert_eq!(
        (read.tags, read.categories),
        (
            vec!["trade".to_owned(), "sea".to_owned()],
            vec!["history".to_owned()]
        )
    );
    assert_eq!(read.published_at_ms, Some(1_714_564_800_000));
    Ok(())
}

#[tokio::test]
async fn an_html_page_is_read_in_its_declared_charset() -> Result<()> {
    let page = b"<html><head><meta charset=gb18030><title>\xbb\xfa\xc6\xf7\xd1\xa7\xcf\xb0</title></head><body>\xbb\xfa\xc6\xf7\xd1\xa7\xcf\xb0</body></html>";
    let read = read("page.html", page.as_slice(), LIMITS).await?;
    assert_eq!(
        (read.title.as_deref(), read.text.as_str()),
        (Some("机器学习"), "机器学习")
    );
    Ok(())
}

#[tokio::test]
async fn a_zip_bomb_is_refused_by_what_it_decompresses_to() {
    let error = read("bomb.docx", fixture("bomb.docx"), LIMITS)
        .await
        .unwrap_err();
    assert_eq!(error.error_type(), "expands_too_far");
    assert!(error.to_string().contains("8388608"), "{error}");

    // Where as much is allowed it would only seem to be a document without text.
    let large = ExtractLimits {
        max_text_bytes: 16 << 20,
        ..LIMITS
    };
    let error = read("bomb.docx", fixture("bomb.docx"), large)
        .await
        .unwrap_err();
    assert_eq!(error.error_type(), "expands_too_far", "{error}");
}

#[tokio::test]
async fn encrypted_and_broken_files_are_told_apart() {
    let encrypted_docx = [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".as_slice(), &[0; 512]].concat();
    for (name, bytes, error_type) in [
        ("encrypted.pdf", fixture("encrypted.pdf"), "encrypted"),
        ("broken.pdf", fixture("broken.pdf"), "malformed_document"),
        ("encrypted.docx", encrypted_docx, "encrypted"),
        (
            "broken.docx",
            fixture("harbour.docx")[..400].to_vec(),
            "malformed_document",
        ),
    ] {
        let error = read(name, bytes, LIMITS).await.unwrap_err();
        assert_eq!(error.error_type(), error_type, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_document_that_takes_too_long_is_given_up_in_time() {
    let limits = ExtractLimits {
        timeout: Duration::from_millis(500),
        ..LIMITS
    };
    let started = Instant::now();
    let error = read("deep.html", "<div>".repeat(1_000_000), limits)
        .await
        .unwrap_err();
    assert_eq!(error, ExtractError::TimedOut { limit_ms: 500 });
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_document_that_takes_too_much_memory_is_given_up() {
    let limits = ExtractLimits {
        memory_bytes: 128 << 20,
        max_text_bytes: 64 << 20,
        ..LIMITS
    };
    let error = read("wide.html", "<p>a</p>".repeat(2_000_000), limits)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ExtractError::OutOfMemory {
            limit_bytes: 128 << 20
        }
    );
}

#[tokio::test]
async fn too_much_text_is_refused_here_and_in_the_worker() {
    let limits = ExtractLimits {
        max_text_bytes: 10,
        ..LIMITS
    };
    for (name, bytes) in [
        ("a.txt", b"more than ten bytes".to_vec()),
        ("tides.pdf", fixture("tides.pdf")),
        ("harbour.docx", fixture("harbour.docx")),
    ] {
        let error = read(name, bytes, limits).await.unwrap_err();
        assert_eq!(
            error,
            ExtractError::TextTooLarge { limit_bytes: 10 },
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_cannot_start_is_not_the_documents_fault() {
    let command = ExtractorCommand {
        program: "/nonexistent/worker".into(),
        args: Vec::new(),
    };
    let extractor = Extractor::new(command, LIMITS);
    let error = extractor
        .extract(fixture("tides.pdf").into(), Some("application/pdf"), "x")
        .await
        .unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("/nonexistent/worker"),
        "{error}"
    );
    let text = extractor
        .extract(b"plain"[..].into(), None, "x")
        .await
        .map(|(media_type, _)| media_type);
    assert_eq!(
        text,
        Ok(MediaType::PlainText),
        "what needs no worker is read without one"
    );
}

#[test]
fn the_corpus_of_pdfs_is_contained() {
    millrace_fuzz::replay("extract_pdf", |bytes| hostile::pdf(bytes, worker()));
}
