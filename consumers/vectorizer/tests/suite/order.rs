//! Late, doubled and disordered notices end in what is there.

use anyhow::Result;
use millrace_schemas::{DocId, DocumentEvent, OutcomeKind};

use crate::stack::{Stack, Target, now_ms, on_both_targets, text};

on_both_targets! {
    a_late_older_version_with_more_chunks_leaves_none,
    a_late_notice_of_a_changed_object_brings_the_object_as_it_is,
    a_removed_document_stays_removed,
    the_same_event_twice_ends_in_the_same_state,
    of_many_notices_for_one_object_the_last_decides,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_version_leaves_no_chunk_of_the_longer_one() -> Result<()> {
    let stack = Stack::running().await?;
    let long = stack.settle(&stack.put("a.txt", text(200))?).await?;
    assert!(long.chunks > 5, "{long:?}");
    let short = stack.settle(&stack.put("a.txt", text(5))?).await?;
    assert_eq!((short.outcome, short.chunks), (OutcomeKind::Indexed, 1));
    assert_eq!(stack.live_chunks("a.txt", 40).await?, [0]);
    assert_eq!(stack.index.count().await?.documents, 1);
    Ok(())
}

async fn a_late_older_version_with_more_chunks_leaves_none(target: Target) -> Result<()> {
    let stack = Stack::running_on(target).await?;
    // Inline, so that the late notice really carries the old content.
    let mut new = stack.notice("a.txt");
    new.uri += "#1";
    new.content = Some(text(5).into_bytes());
    let mut old = new.clone();
    old.content = Some(text(200).into_bytes());
    old.event_time_ms -= 60_000;
    assert_eq!(stack.settle(&new).await?.outcome, OutcomeKind::Indexed);
    assert_eq!(stack.settle(&old).await?.outcome, OutcomeKind::Stale);
    assert_eq!(
        stack.live_chunks("a.txt#1", 40).await?,
        Vec::<u32>::new(),
        "the URI is encoded"
    );
    let doc_id = DocId::from_uri(&new.uri);
    let ids: Vec<String> = (0..40).map(|number| doc_id.chunk(number)).collect();
    let live = stack
        .index
        .get(&ids)
        .await?
        .into_iter()
        .flatten()
        .filter(|chunk| !chunk.deleted)
        .count();
    assert_eq!(live, 1);
    let signals = stack.signals().await?;
    assert_eq!(signals.len(), 1, "a stale version has no signal");
    Ok(())
}

async fn a_late_notice_of_a_changed_object_brings_the_object_as_it_is(
    target: Target,
) -> Result<()> {
    let stack = Stack::running_on(target).await?;
    let first = stack
        .settle(&stack.put("a.txt", "The first content.")?)
        .await?;
    // A clock that was behind: the object is newer than the index, its event looks older.
    let mut late = stack.put("a.txt", "The second content, of a slow clock.")?;
    late.event_time_ms = now_ms() - 3_600_000;
    let second = stack.settle(&late).await?;
    assert_eq!(
        (second.outcome, second.version),
        (OutcomeKind::Indexed, first.version + 1)
    );
    let chunk = stack
        .index
        .get(&[DocId::from_uri(&late.uri).chunk(0)])
        .await?
        .remove(0)
        .unwrap();
    assert_eq!(
        chunk.text.as_deref(),
        Some("The second content, of a slow clock.")
    );
    // Once more: now the index has what the object has.
    assert_eq!(stack.settle(&late).await?.outcome, OutcomeKind::Stale);
    assert_eq!(
        stack.header("a.txt").await?.unwrap().version,
        second.version
    );
    Ok(())
}

async fn a_removed_document_stays_removed(target: Target) -> Result<()> {
    let mut stack = Stack::running_on(target).await?;
    let created = stack.put("a.txt", text(100))?;
    let chunks = stack.settle(&created).await?.chunks;
    assert!(chunks > 2);
    let removed = stack.settle(&stack.delete("a.txt")?).await?;
    assert_eq!(removed.outcome, OutcomeKind::Removed);
    assert!(stack.header("a.txt").await?.unwrap().deleted);
    assert!(stack.live_chunks("a.txt", 40).await?.is_empty());
    let mut late = created.clone();
    late.event_time_ms -= 10;
    for restart in [false, true] {
        if restart {
            stack.stop(crate::stack::DEADLINE).await;
            stack.start().await?;
        }
        assert_eq!(stack.settle(&late).await?.outcome, OutcomeKind::Stale);
        assert!(stack.header("a.txt").await?.unwrap().deleted);
        assert!(stack.live_chunks("a.txt", 40).await?.is_empty());
    }
    let last = stack.last_signals().await?;
    assert!(
        last.values()
            .all(|signal| signal.deleted && signal.vector.is_empty()),
        "{last:?}"
    );
    // The name may come to life again.
    assert_eq!(
        stack
            .settle(&stack.put("a.txt", "Back again.")?)
            .await?
            .outcome,
        OutcomeKind::Indexed
    );
    assert_eq!(stack.live_chunks("a.txt", 40).await?, [0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_an_object_that_is_there_is_not_one() -> Result<()> {
    let stack = Stack::running().await?;
    let mut notice = stack.put("a.txt", "Still here.")?;
    notice.event = DocumentEvent::Removed;
    assert_eq!(stack.settle(&notice).await?.outcome, OutcomeKind::Indexed);
    assert!(!stack.header("a.txt").await?.unwrap().deleted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_is_a_removal_and_a_changed_one_is_read_as_it_is() -> Result<()> {
    let stack = Stack::running().await?;
    stack.settle(&stack.put("gone.txt", "Here today.")?).await?;
    let mut notice = stack.delete("gone.txt")?;
    notice.event = DocumentEvent::Created;
    assert_eq!(stack.settle(&notice).await?.outcome, OutcomeKind::Removed);
    assert!(stack.header("gone.txt").await?.unwrap().deleted);

    let mut notice = stack.put("changed.txt", "What is there now.")?;
    notice.etag = Some("the tag of an older version".to_owned());
    assert_eq!(stack.settle(&notice).await?.outcome, OutcomeKind::Indexed);
    let header = stack.header("changed.txt").await?.unwrap();
    assert!(
        header
            .etag
            .is_some_and(|etag| etag != "the tag of an older version")
    );
    Ok(())
}

async fn the_same_event_twice_ends_in_the_same_state(target: Target) -> Result<()> {
    let stack = Stack::running_on(target).await?;
    let mut notice = stack.put("a.txt", text(60))?;
    // The same version, as a delivery after a crash has it: a repair's version above both.
    notice.min_version = Some(millrace_schemas::DocumentVersion::new(now_ms() + 60_000, 0).get());
    let first = stack.settle(&notice).await?;
    let state = stack.state(&["a.txt"]).await?;
    let second = stack.settle(&notice).await?;
    assert_eq!(
        (second.outcome, second.version),
        (OutcomeKind::Indexed, first.version)
    );
    assert_eq!(stack.state(&["a.txt"]).await?, state);
    let signals = stack.signals().await?;
    assert_eq!(
        signals.len(),
        2,
        "a repeat of the same version repeats the signal"
    );
    assert_eq!(signals[0].vector, signals[1].vector);
    assert_eq!(
        signals[0].near_duplicate_hash,
        signals[1].near_duplicate_hash
    );
    Ok(())
}

async fn of_many_notices_for_one_object_the_last_decides(target: Target) -> Result<()> {
    let stack = Stack::running_on(target).await?;
    let mut origins = Vec::new();
    for number in 0..40 {
        let mut notice = stack.put(
            "a.txt",
            format!("Content number {number}. {}", text(number)),
        )?;
        notice.event_time_ms += number as i64;
        origins.push(stack.publish(&notice).await?);
    }
    let mut superseded = 0;
    for origin in &origins {
        match stack.outcome(origin).await?.outcome {
            OutcomeKind::Superseded => superseded += 1,
            OutcomeKind::Indexed | OutcomeKind::Stale => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(superseded > 0, "some were moot before they were read");
    assert_eq!(
        stack.outcome(origins.last().unwrap()).await?.outcome,
        OutcomeKind::Indexed
    );
    let header = stack.header("a.txt").await?.unwrap();
    let chunk = stack
        .index
        .get(&[DocId::from_uri(&stack.uri("a.txt")).chunk(0)])
        .await?
        .remove(0)
        .unwrap();
    assert!(chunk.text.unwrap().starts_with("Content number 39."));
    assert_eq!(
        stack.live_chunks("a.txt", 40).await?.len(),
        header.chunk_count.unwrap() as usize
    );
    Ok(())
}
