//! Any order, any repetition: a model says what the index must hold.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use millrace_index::Record;
use millrace_schemas::{DocId, DocumentEvent, DocumentNotice, DocumentVersion};

use crate::stack::{DEADLINE, Stack, Target, eventually, now_ms, on_both_targets, text};

on_both_targets! {
    any_order_and_repetition_of_events_ends_in_the_newest_and_a_replay_changes_nothing,
}

const DOCUMENTS: usize = 4;
const VERSIONS: i64 = 7;
const CHUNKS: u32 = 12;

/// Events of several documents, each with its content: what the newest says is what must be there.
fn events(stack: &Stack) -> Vec<DocumentNotice> {
    let began = now_ms() - 3_600_000;
    let event = |document: usize, version: i64| {
        let mut notice = stack.notice("corpus.jsonl");
        notice.uri = format!("{}#{document}", notice.uri);
        notice.event_time_ms = began + version * 1_000;
        // Two documents end removed, one of them after it had come back.
        let removed = match document {
            0 => version == VERSIONS - 1,
            1 => version == 2 || version == VERSIONS - 1,
            2 => version == 3,
            _ => false,
        };
        if removed {
            notice.event = DocumentEvent::Removed;
        } else {
            let sentences = usize::try_from(version * 37 % 60).unwrap_or(0) + 1;
            notice.content = Some(format!("Version {version}. {}", text(sentences)).into_bytes());
        }
        notice
    };
    (0..DOCUMENTS)
        .flat_map(|document| (0..VERSIONS).map(move |version| (document, version)))
        .map(|(document, version)| event(document, version))
        .collect()
}

async fn any_order_and_repetition_of_events_ends_in_the_newest_and_a_replay_changes_nothing(
    target: Target,
) -> Result<()> {
    let mut stack = Stack::running_on(target).await?;
    let events = events(&stack);
    // A fixed seed: a failure comes again.
    let mut random = fastrand::Rng::with_seed(4);
    let mut sent: Vec<&DocumentNotice> = events.iter().collect();
    for _ in 0..events.len() {
        sent.push(&events[random.usize(..events.len())]);
    }
    random.shuffle(&mut sent);
    for notice in &sent {
        stack.publish(notice).await?;
    }
    await_outcomes(&stack, sent.len()).await?;
    let contents = contents(&stack, &events).await?;
    is_the_newest(&stack, &events, &contents).await?;

    for round in 1..=2 {
        ensure!(stack.stop(DEADLINE).await == 0);
        stack.group += "-again";
        stack.start().await?;
        await_outcomes(&stack, sent.len() * (round + 1)).await?;
        let replayed = self::contents(&stack, &events).await?;
        is_the_newest(&stack, &events, &replayed).await?;
        are_equal(&replayed, &contents)?;
    }
    Ok(())
}

/// Each delivery has one, superseded and stale ones too.
async fn await_outcomes(stack: &Stack, count: usize) -> Result<()> {
    eventually("every event has its outcome", async || {
        Ok(stack.outcomes().await?.len() >= count)
    })
    .await?;
    let outcomes = stack.outcomes().await?.len();
    ensure!(
        outcomes == count,
        "{outcomes} outcomes of {count} deliveries"
    );
    ensure!(stack.dead_letters().await?.is_empty());
    Ok(())
}

/// Header and live chunks of each document. Tombstones of chunks may carry any version up to that of
/// the header, so they are no part of what must be equal.
async fn contents(
    stack: &Stack,
    events: &[DocumentNotice],
) -> Result<BTreeMap<String, Vec<Record>>> {
    let mut contents = BTreeMap::new();
    for notice in events {
        if contents.contains_key(&notice.uri) {
            continue;
        }
        let doc_id = DocId::from_uri(&notice.uri);
        let mut ids = vec![doc_id.to_string()];
        ids.extend((0..CHUNKS).map(|number| doc_id.chunk(number)));
        let records = stack.index.fetch(&ids, true).await?.into_iter().flatten();
        let records = records.filter(|record| record.is_header() || !record.deleted);
        contents.insert(notice.uri.clone(), records.collect());
    }
    Ok(contents)
}

async fn is_the_newest(
    stack: &Stack,
    events: &[DocumentNotice],
    contents: &BTreeMap<String, Vec<Record>>,
) -> Result<()> {
    let signals = stack.last_signals().await?;
    for (uri, records) in contents {
        let newest = events
            .iter()
            .filter(|event| event.uri == *uri)
            .max_by_key(|event| event.event_time_ms)
            .context("no event")?;
        let (header, chunks) = records.split_first().context("no header")?;
        let version = DocumentVersion::from(header.version);
        ensure!(
            version.event_time_ms() == newest.event_time_ms,
            "{header:?}"
        );
        let key = format!("{}@{}", header.doc_id, stack.encoder.version());
        let signal = signals.get(&key).context("no signal")?;
        ensure!(
            (signal.document_version, signal.deleted) == (header.version, header.deleted),
            "{signal:?}\n{header:?}"
        );
        let Some(content) = &newest.content else {
            ensure!(header.deleted && chunks.is_empty(), "{records:?}");
            continue;
        };
        ensure!(!header.deleted && header.chunk_count == Some(u32::try_from(chunks.len())?));
        ensure!(chunks.iter().all(|chunk| chunk.version == header.version));
        let content = std::str::from_utf8(content)?;
        for chunk in chunks {
            let text = chunk.text.as_deref().context("no text")?;
            ensure!(content.contains(text), "not of the newest version: {text}");
        }
        ensure!(
            chunks[0]
                .text
                .as_deref()
                .is_some_and(|text| content.starts_with(text))
        );
    }
    Ok(())
}

/// Equal but for the last bits of a vector, which depend on what was embedded beside it.
fn are_equal(
    one: &BTreeMap<String, Vec<Record>>,
    other: &BTreeMap<String, Vec<Record>>,
) -> Result<()> {
    let plain = |record: &Record| Record {
        vector: None,
        ..record.clone()
    };
    for (a, b) in one.values().flatten().zip(other.values().flatten()) {
        ensure!(plain(a) == plain(b), "{a:?}\n{b:?}");
        let (a, b) = (a.vector.as_deref(), b.vector.as_deref());
        let differs = a.unwrap_or_default().iter().zip(b.unwrap_or_default());
        let worst = differs.fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        ensure!(
            a.map(<[f32]>::len) == b.map(<[f32]>::len) && worst < 1e-5,
            "{worst}"
        );
    }
    ensure!(one.values().flatten().count() == other.values().flatten().count());
    Ok(())
}
