//! Bad input: a dead letter that says why, and the next document passes.

use anyhow::Result;
use millrace_kafka::DeadLetter;
use millrace_schemas::OutcomeKind;

use crate::stack::{Stack, fixture, now_ms};

fn is(letter: &DeadLetter, stage: &str, error_type: &str, says: &str) {
    assert_eq!(
        (letter.stage.as_str(), letter.error_type.as_str()),
        (stage, error_type),
        "{}",
        letter.message
    );
    assert!(
        letter.message.contains(says),
        "{:?} does not say {says:?}",
        letter.message
    );
    assert!(
        letter.original.value.is_some(),
        "the original bytes are kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_document_is_a_dead_letter_with_its_reason_and_stops_no_other() -> Result<()> {
    let mut stack = Stack::idle().await?;
    stack.config.max_document_bytes = 11 << 20;
    stack.start().await?;
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    for (name, content, stage, error_type, says) in [
        ("empty.txt", Vec::new(), "fetch", "empty_object", "no bytes"),
        (
            "blank.txt",
            b" \n\t ".to_vec(),
            "extract",
            "no_text",
            "no text",
        ),
        (
            "large.txt",
            vec![b'a'; 12 << 20],
            "fetch",
            "object_too_large",
            "limit is 11534336",
        ),
        (
            "picture.png",
            png.to_vec(),
            "extract",
            "unsupported_media_type",
            "image/png",
        ),
        (
            "lying.txt",
            png.to_vec(),
            "extract",
            "binary_content",
            "image/png",
        ),
        (
            "encrypted.pdf",
            fixture("encrypted.pdf"),
            "extract",
            "encrypted",
            "without a password",
        ),
        (
            "broken.pdf",
            fixture("broken.pdf"),
            "extract",
            "malformed_document",
            "PDF",
        ),
        (
            "broken.docx",
            b"PK\x03\x04 not really".to_vec(),
            "extract",
            "malformed_document",
            "DOCX",
        ),
        (
            "broken.json",
            b"{\"a\": ".to_vec(),
            "extract",
            "malformed_document",
            "JSON",
        ),
        (
            "line.txt",
            "ten megabytes on one line "
                .repeat(10 * 1024 * 1024 / 26)
                .into_bytes(),
            "chunk",
            "too_many_chunks",
            "chunk.max_chunks",
        ),
    ] {
        let letter = stack.refused(&stack.put(name, content)?).await?;
        is(&letter, stage, error_type, says);
        assert!(
            !letter.message.contains("ten megabytes"),
            "messages hold no document text"
        );
    }
    let good = stack
        .settle(&stack.put("good.txt", "A document like any other.")?)
        .await?;
    assert_eq!(good.outcome, OutcomeKind::Indexed);
    let stats = stack.handle().stats();
    assert_eq!(
        (stats.dead_lettered, stats.indexed, stats.signals),
        (10, 1, 1)
    );
    assert_eq!(stats.dead_letters_by_stage["extract"], 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_not_read() -> Result<()> {
    let stack = Stack::running().await?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(secret.path(), "secret")?;
    let mut notice = stack.notice("a.txt");
    notice.uri = format!("file://{}", secret.path().display());
    is(
        &stack.refused(&notice).await?,
        "fetch",
        "object_not_allowed",
        "not allowed",
    );
    notice.uri = "ftp://host/a.txt".to_owned();
    is(
        &stack.refused(&notice).await?,
        "fetch",
        "invalid_uri",
        "ftp",
    );
    assert_eq!(stack.index.count().await?.documents, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_another_charset_than_declared_is_read_all_the_same() -> Result<()> {
    let stack = Stack::running().await?;
    let mut notice = stack.put("a.txt", b"Le caf\xe9 de la gare est ferm\xe9 l'\xe9t\xe9, \xe0 cause de la chaleur. Les habitants du quartier le regrettent, mais ils comprennent la d\xe9cision du patron.")?;
    notice.media_type = Some("text/plain; charset=utf-8".to_owned());
    assert_eq!(stack.settle(&notice).await?.outcome, OutcomeKind::Indexed);
    let signals = stack.signals().await?;
    assert_eq!(signals[0].language.as_deref(), Some("fr"));
    let id = millrace_schemas::DocId::from_uri(&notice.uri).chunk(0);
    let chunk = stack.index.get(&[id]).await?.remove(0).unwrap();
    assert!(
        chunk
            .text
            .unwrap()
            .starts_with("Le café de la gare est fermé l'été, à cause de la chaleur. Les")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_notices_are_dead_letters_byte_for_byte() -> Result<()> {
    let stack = Stack::running().await?;
    for (value, error_type) in [
        (
            b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08rest".as_slice(),
            "unknown_fingerprint",
        ),
        (b"\x7fnothing", "unknown_framing"),
        (b"{\"uri\":", "malformed_value"),
        (b"\0\0\0\0\x01x", "registry_not_configured"),
    ] {
        let origin = stack.publish_raw("file:///x", value).await?;
        let letter = stack.dead_letter(&origin).await?;
        is(&letter, "decode", error_type, "");
        assert_eq!(letter.original.value.as_deref(), Some(value));
        assert_eq!(
            letter.original.key.as_deref(),
            Some(b"file:///x".as_slice())
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_from_the_future_does_not_pin_a_document() -> Result<()> {
    let stack = Stack::running().await?;
    let mut notice = stack.put("a.txt", "From tomorrow.")?;
    notice.event_time_ms = now_ms() + 86_400_000;
    is(
        &stack.refused(&notice).await?,
        "decode",
        "version_in_future",
        "ahead of this clock",
    );
    assert_eq!(stack.header("a.txt").await?, None);
    notice.event_time_ms = now_ms();
    assert_eq!(stack.settle(&notice).await?.outcome, OutcomeKind::Indexed);
    Ok(())
}
