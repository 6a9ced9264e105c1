//! Files of behavior.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, TryStreamExt};
use millrace_kafka::topics;
use millrace_producers::behavior::file::{BehaviorFile, FileRow};
use millrace_producers::behavior::{
    BehaviorConfig, BehaviorRow, MAX_ROW_BYTES, PublishedRow, RowReader, Told,
};
use millrace_producers::corpus::{Corpus, CorpusItem};
use millrace_producers::{Publisher, Rejection};
use millrace_schemas::{BehaviorEvent, BehaviorKind, DocId};

use crate::fixture::{Kafka, now_ms};

fn reader() -> Result<RowReader> {
    Ok(RowReader::new(&BehaviorConfig {
        item_uri: Some("file:///films.jsonl.gz#{item}".into()),
        ..BehaviorConfig::default()
    })?)
}

async fn rows(path: &Path) -> Result<Vec<FileRow>> {
    let batches = BehaviorFile::open(path, None)?.rows(reader()?);
    let batches: Vec<Vec<FileRow>> = batches.try_collect().await?;
    Ok(batches.into_iter().flatten().collect())
}

/// Publishes a file; counts by kind, passed over and reason.
async fn publish(publisher: &Publisher, path: &Path) -> Result<BTreeMap<String, usize>> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let passed_over = std::sync::Mutex::new(BTreeMap::new());
    let rows = BehaviorFile::open(path, None)?.rows(reader()?);
    let rows = rows.flat_map(|batch| {
        let mut outgoing = vec![];
        for row in batch.unwrap() {
            match row.told {
                Ok(Told::Events(events)) => {
                    outgoing.extend(events.into_iter().map(|e| BehaviorRow::Event(Box::new(e))));
                }
                Ok(Told::PassedOver(what)) => {
                    *passed_over.lock().unwrap().entry(what).or_default() += 1;
                }
                Err(rejection) => outgoing.push(BehaviorRow::Rejected(rejection)),
            }
        }
        futures::stream::iter(outgoing)
    });
    let mut published = std::pin::pin!(publisher.publish_behavior_all(rows, None));
    while let Some(row) = published.next().await {
        let name = match row? {
            PublishedRow::Event(kind) => kind.as_str(),
            PublishedRow::Rejected(error_type) => error_type,
        };
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    let passed_over = passed_over.lock().unwrap();
    for (name, count) in &*passed_over {
        let name: &str = name;
        counts.insert(name.to_owned(), *count);
    }
    Ok(counts)
}

fn rejections(rows: &[FileRow]) -> Vec<(u64, &Rejection)> {
    rows.iter()
        .filter_map(|row| Some((row.number, row.told.as_ref().err()?)))
        .collect()
}

/// All of RankLens through a broker and back: 222,276 events, ten seconds of an unoptimised build.
#[tokio::test(flavor = "multi_thread")]
async fn ranklens_is_published_whole() -> Result<()> {
    let path = millrace_servers::shared_data("ranklens/events.jsonl.gz")?;
    let kafka = Kafka::start().await?;
    let counts = publish(&kafka.publisher()?, &path).await?;
    let expected = [
        ("click", 36_156),
        ("expose", 7_755 * 24),
        ("metarank_item", 2_512),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, BTreeMap::from(expected));

    let events = kafka.behavior().await?;
    assert_eq!(events.len(), 36_156 + 7_755 * 24);
    let distinct =
        |of: fn(&BehaviorEvent) -> &str| events.iter().map(of).collect::<HashSet<_>>().len();
    assert_eq!(distinct(|e| &e.user_id), 1_693);
    assert_eq!(distinct(|e| &e.event_id), events.len());
    let mut rankings: HashMap<&str, Vec<i32>> = HashMap::new();
    for event in events.iter().filter(|e| e.kind == BehaviorKind::Expose) {
        let id = event.request_id.as_deref().context("the ranking")?;
        rankings
            .entry(id)
            .or_default()
            .push(event.position.context("a position")?);
    }
    assert_eq!(rankings.len(), 7_755);
    let in_order: Vec<i32> = (1..=24).collect();
    ensure!(
        rankings.values().all(|positions| *positions == in_order),
        "order is kept"
    );
    ensure!(
        events
            .iter()
            .filter(|e| e.kind == BehaviorKind::Click)
            .all(|e| e
                .request_id
                .as_deref()
                .is_some_and(|id| rankings.contains_key(id))),
        "every click names its ranking"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_row_is_a_dead_letter_as_it_came() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rows.jsonl");
    let good = |user: &str| {
        format!(
            r#"{{"user_id":"{user}","item":"1","kind":"click","event_time_ms":{}}}"#,
            now_ms()
        )
    };
    let long = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(2 << 20));
    let glance = good("u").replace("click", "glance");
    let file = [
        good("a").as_bytes(),
        b"not json",
        b"",
        glance.as_bytes(),
        long.as_bytes(),
        b"{\"kind\":\"\xFF\"}",
        good("b").as_bytes(),
    ]
    .join(&b'\n');
    std::fs::write(&path, file)?;
    let counts = publish(&kafka.publisher()?, &path).await?;
    let expected = [
        ("click", 2),
        ("malformed_json", 1),
        ("not_utf8", 1),
        ("row_too_long", 1),
        ("unknown_kind", 1),
    ];
    assert_eq!(
        counts,
        BTreeMap::from(expected.map(|(n, c)| (n.to_owned(), c)))
    );
    let dead = kafka.records(topics::BEHAVIOR_DLQ).await?;
    let told: Vec<_> = dead
        .iter()
        .map(|d| {
            let header =
                |name| String::from_utf8_lossy(d.header(name).unwrap_or_default()).into_owned();
            (
                header("dlq.row"),
                header("dlq.error.type"),
                d.value.as_ref().map_or(0, bytes::Bytes::len),
            )
        })
        .collect();
    let expected = [
        ("2", "malformed_json", 8),
        ("4", "unknown_kind", glance.len()),
        ("5", "row_too_long", MAX_ROW_BYTES),
        ("6", "not_utf8", 12),
    ];
    let expected = expected.map(|(row, reason, bytes)| (row.to_owned(), reason.to_owned(), bytes));
    assert_eq!(told, expected);
    let origin = dead[0].header("__connect.errors.topic").unwrap_or_default();
    ensure!(origin.ends_with(b"/rows.jsonl"), "{origin:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_has_a_column_for_each_field() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let now = now_ms();
    let own = format!(
        "user_id,item,kind,event_time_ms,position,note\r\nu1,1,click,{now},3,\"a, \"\"b\"\"\"\r\nu2,2,glance,{now},,\r\nu3\r\nu4,4,like,{now},,\r\n"
    );
    let airec = format!(
        "user_id,item_id,bhv_type,bhv_time,bhv_value\nu1,1,stay,{},2.5\n",
        now / 1000
    );
    let mut packed = GzEncoder::new(vec![], Compression::best());
    packed.write_all(own.as_bytes())?;
    let packed = packed.finish()?;
    // Neither name tells what it is.
    for (name, content) in [
        ("own.csv", own.as_bytes()),
        ("own.csv.gz", &packed),
        ("own", &packed),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content)?;
        let rows = rows(&path).await?;
        let numbers: Vec<u64> = rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers, [2, 3, 4, 5], "{name}");
        let Ok(Told::Events(first)) = &rows[0].told else {
            anyhow::bail!("{:?}", rows[0]);
        };
        assert_eq!(
            (first[0].position, &first[0].attributes["note"]),
            (Some(3), &"a, \"b\"".to_owned())
        );
        let told: Vec<_> = rejections(&rows)
            .iter()
            .map(|(number, r)| {
                (
                    *number,
                    r.error_type,
                    String::from_utf8_lossy(&r.raw).into_owned(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (3, "unknown_kind", format!("u2,2,glance,{now},,")),
                (4, "malformed_row", "u3".to_owned())
            ]
        );
    }
    let path = folder.path().join("airec.csv");
    std::fs::write(&path, airec)?;
    let rows = rows(&path).await?;
    ensure!(
        matches!(&rows[0].told, Ok(Told::Events(events)) if events[0].value == Some(2.5) && events[0].source == "airec"),
        "{rows:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_on_says_where() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cut.jsonl.gz");
    let row = format!(
        r#"{{"user_id":"u","item":"1","kind":"click","event_time_ms":{}}}"#,
        now_ms()
    );
    let mut encoder = GzEncoder::new(vec![], Compression::none());
    for _ in 0..1_000 {
        writeln!(encoder, "{row}")?;
    }
    let whole = encoder.finish()?;
    std::fs::write(&path, &whole[..whole.len() / 2])?;
    let batches: Vec<_> = BehaviorFile::open(&path, None)?
        .rows(reader()?)
        .collect()
        .await;
    let (last, before) = batches.split_last().context("batches")?;
    let read: usize = before
        .iter()
        .map(|batch| batch.as_ref().map_or(0, Vec::len))
        .sum();
    let error = last.as_ref().err().context("the last one is an error")?;
    ensure!(read > 0 && error.row == read as u64, "{read} {error:?}");
    ensure!(
        BehaviorFile::open(folder.path(), None).is_err(),
        "a folder is no file"
    );
    ensure!(BehaviorFile::open(&folder.path().join("none"), None).is_err());
    Ok(())
}

/// A line of a corpus and the item of an event about it are one document.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_the_document_that_the_corpus_made() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a corpus.jsonl");
    std::fs::write(&path, r#"{"_id":"7 & #ü","text":"x"}"#)?;
    let corpus = Corpus::open(&path, 0)?.context("a corpus")?;
    let uris: Vec<String> = corpus
        .map(|item| match item {
            Ok(CorpusItem::Document(notice)) => Ok(notice.uri),
            other => anyhow::bail!("{other:?}"),
        })
        .collect::<Result<_>>()?;
    let reader = RowReader::new(&BehaviorConfig {
        item_uri: Some(format!("{}#{{item}}", path.display())),
        ..BehaviorConfig::default()
    })?;
    let row = format!(
        r#"{{"user_id":"u","item":"7 & #ü","kind":"click","event_time_ms":{}}}"#,
        now_ms()
    );
    let told = reader.read_json(row.as_bytes(), now_ms())?;
    ensure!(
        matches!(&told, Told::Events(events) if events[0].item_id == DocId::from_uri(&uris[0]).as_str()),
        "{told:?} {uris:?}"
    );
    Ok(())
}

mod real {
    use super::*;

    /// On a real Kafka: what is published is there, once, in the order of each user.
    #[tokio::test(flavor = "multi_thread")]
    async fn behavior_reaches_a_real_kafka() -> Result<()> {
        let kafka = Kafka::real().await?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rows.jsonl");
        let mut file = std::fs::File::create(&path)?;
        for n in 0..2_000 {
            let user = n % 7;
            writeln!(
                file,
                r#"{{"user_id":"u{user}","item":"{n}","kind":"click","event_time_ms":{}}}"#,
                now_ms()
            )?;
        }
        writeln!(file, "broken")?;
        let counts = publish(&kafka.publisher()?, &path).await?;
        assert_eq!((counts["click"], counts["malformed_json"]), (2_000, 1));
        let mut last: HashMap<String, i32> = HashMap::new();
        let events = kafka.behavior().await?;
        assert_eq!(events.len(), 2_000);
        for event in events {
            let n: i32 = event.item.parse()?;
            let before = last.insert(event.user_id, n);
            ensure!(
                before.is_none_or(|before| before < n),
                "{before:?} before {n}"
            );
        }
        assert_eq!(kafka.records(topics::BEHAVIOR_DLQ).await?.len(), 1);
        Ok(())
    }
}
