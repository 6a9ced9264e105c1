//! The reconciler from outside: every kind of difference is found and put right, on both targets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_index::{
    BulkAction, EmbeddedIndex, IndexSpec, ItemOutcome, OpenSearchConfig, OpenSearchIndex, Record,
    SearchIndex,
};
use millrace_kafka::{KafkaConfig, Producer};
use millrace_objects::ObjectUri;
use millrace_schemas::{DocId, DocumentVersion, EventHeaders, Origin, Signal};
use serde_json::Value;

use crate::harness::{Pipeline, Target, eventually, gzip, on_both_targets, text};

const LONG: Duration = Duration::from_secs(60);

on_both_targets!(
    every_class_is_found_and_repaired,
    a_late_signal_of_a_zombie_is_put_right,
    lines_of_a_corpus_come_change_and_go,
    an_empty_store_is_not_believed,
    a_store_out_of_reach_makes_no_orphans,
    a_dead_letter_is_not_tried_for_ever,
);

fn uri(path: &std::path::Path) -> anyhow::Result<String> {
    Ok(ObjectUri::file(path)?.to_string())
}

/// Runs `reconcile`; its JSON and its exit code.
pub fn reconcile(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<(Value, i32)> {
    let output = pipeline.output(&[&["reconcile"], arguments].concat())?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no report: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((report, output.status.code().context("killed")?))
}

/// What the report counts, without what is zero.
fn counts(report: &Value) -> anyhow::Result<Vec<(String, u64)>> {
    let counts = report["counts"].as_object().context("counts")?;
    Ok(counts
        .iter()
        .filter_map(|(class, count)| Some((class.clone(), count.as_u64().filter(|n| *n > 0)?)))
        .collect())
}

pub fn found(report: &Value, expected: &[(&str, u64)]) -> anyhow::Result<()> {
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(c, n)| ((*c).to_owned(), *n))
        .collect();
    expected.sort();
    ensure!(counts(report)? == expected, "{report:#}");
    Ok(())
}

/// Repairs, then compares: nothing is left, and a second repair publishes nothing.
pub fn repaired_for_good(pipeline: &Pipeline, root: &str, repairs: u64) -> anyhow::Result<Value> {
    let (report, code) = reconcile(pipeline, &[root, "--repair"])?;
    ensure!(
        code == 0 && report["repaired"]["documents"] == repairs,
        "{report:#}"
    );
    let (again, code) = reconcile(pipeline, &[root, "--repair"])?;
    found(&again, &[])?;
    ensure!(code == 0 && again["repaired"].is_null(), "{again:#}");
    Ok(report)
}

/// The pipeline's insides while no command runs, to make what only a fault makes.
struct Inside {
    runtime: tokio::runtime::Runtime,
    index: Arc<dyn SearchIndex>,
    model_version: String,
}

impl Inside {
    fn open(pipeline: &Pipeline, target: Target) -> anyhow::Result<Self> {
        let info = pipeline.index_description()?;
        let word = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        let name = word("writes").trim_end_matches("-000001").to_owned();
        let spec = IndexSpec {
            name,
            generation: 1,
            dimension: info["dimension"].as_u64().context("dimension")? as usize,
            model_version: word("model_version"),
            model_fingerprint: word("model_fingerprint"),
            engine: millrace_index::KnnEngine::Lucene,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let index: Arc<dyn SearchIndex> = match target {
            Target::Embedded => Arc::new(EmbeddedIndex::open(pipeline.path("data/index"))?),
            Target::Real => Arc::new(OpenSearchIndex::new(OpenSearchConfig::new([
                millrace_servers::opensearch()?,
            ]))?),
        };
        runtime.block_on(index.ensure(&spec))?;
        Ok(Self {
            runtime,
            index,
            model_version: spec.model_version,
        })
    }

    fn write(&self, actions: Vec<BulkAction>) -> anyhow::Result<()> {
        let outcomes = self.runtime.block_on(self.index.bulk(actions))?;
        ensure!(
            outcomes.iter().all(|o| *o == ItemOutcome::Indexed),
            "{outcomes:?}"
        );
        Ok(self.runtime.block_on(self.index.refresh())?)
    }

    fn header(&self, uri: &str) -> anyhow::Result<Record> {
        let id = DocId::from_uri(uri).to_string();
        let found = self.runtime.block_on(self.index.get(&[id]))?;
        found.into_iter().next().flatten().context("no header")
    }

    fn tombstone(&self, uri: &str, version: i64) -> BulkAction {
        let id = DocId::from_uri(uri).to_string();
        BulkAction::Tombstone {
            doc_id: id.clone(),
            id,
            chunk: None,
            version,
            uri: uri.to_owned(),
        }
    }

    /// Publishes a signal as a writer that knows nothing better would.
    fn signal(&self, pipeline: &Pipeline, uri: &str, version: i64) -> anyhow::Result<()> {
        let signal = Signal {
            item_id: DocId::from_uri(uri).to_string(),
            uri: uri.to_owned(),
            document_version: version,
            model_version: self.model_version.clone(),
            vector: vec![0.0; 4],
            title: None,
            language: None,
            media_type: "text/plain".to_owned(),
            categories: Vec::new(),
            tags: Vec::new(),
            key_phrases: Vec::new(),
            near_duplicate_hash: 0,
            published_at_ms: None,
            deleted: false,
            etag: Some("superseded".to_owned()),
            size_bytes: Some(1),
            metadata: BTreeMap::new(),
            origin: Origin {
                topic: "test".to_owned(),
                partition: 0,
                offset: 0,
            },
        };
        pipeline.with_kafka(|kafka: KafkaConfig| {
            self.runtime.block_on(async {
                let event = EventHeaders {
                    id: uri.to_owned(),
                    source: "test".to_owned(),
                    type_: "millrace.signals.updated".to_owned(),
                    time_ms: None,
                    traceparent: None,
                };
                let producer = Producer::connect(&kafka)?;
                producer
                    .send(&signal.key(), Some(&signal.item_id), &signal, &event)
                    .await?;
                Ok(())
            })
        })
    }
}

fn every_class_is_found_and_repaired(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    for name in [
        "same",
        "stale",
        "orphaned",
        "behind",
        "unsignalled",
        "ahead",
    ] {
        pipeline.write(
            &format!("docs/{name}.txt"),
            format!("A document that is going to be {name}.\n"),
        )?;
    }
    let docs = pipeline.path("docs");
    let root = text(&docs)?;
    pipeline.ingest(&docs)?;
    let (report, code) = reconcile(&pipeline, &[root])?;
    found(&report, &[])?;
    ensure!(
        code == 0 && report["objects"] == 6 && report["documents"] == 6,
        "{report:#}"
    );

    pipeline.write(
        "docs/missing.txt",
        "A whale song recorded in the deep ocean.\n",
    )?;
    pipeline.write(
        "docs/stale.txt",
        "The volcano wakes after a century of sleep.\n",
    )?;
    let signal_missing = pipeline.write("docs/signal_missing.txt", "Nobody told of this.\n")?;
    std::fs::remove_file(docs.join("orphaned.txt"))?;
    std::fs::remove_file(docs.join("unsignalled.txt"))?;
    {
        let inside = Inside::open(&pipeline, target)?;
        let behind = inside.header(&uri(&docs.join("behind.txt"))?)?;
        inside.signal(&pipeline, &behind.uri, behind.version - 1)?;
        let ahead = inside.header(&uri(&docs.join("ahead.txt"))?)?;
        inside.signal(&pipeline, &ahead.uri, ahead.version + 1)?;
        // Killed between index and signal, and its notice lost.
        let gone = uri(&docs.join("unsignalled.txt"))?;
        let version = inside.header(&gone)?.version + 1;
        let unsignalled = uri(&signal_missing)?;
        let id = DocId::from_uri(&unsignalled).to_string();
        let header = Record {
            id: id.clone(),
            doc_id: id,
            version: behind.version,
            etag: Some(file_tag(&signal_missing)?),
            chunk_count: Some(0),
            uri: unsignalled,
            ..behind
        };
        inside.write(vec![
            inside.tombstone(&gone, version),
            BulkAction::upsert(header),
        ])?;
    }

    let file = pipeline.path("differences.jsonl");
    let (report, code) = reconcile(&pipeline, &[root, "--dry-run", "--report", text(&file)?])?;
    let expected = [
        ("missing", 1),
        ("stale", 1),
        ("orphaned", 1),
        ("signal_missing", 1),
        ("signal_behind", 1),
        ("signal_ahead", 1),
        ("removal_unsignalled", 1),
    ];
    found(&report, &expected)?;
    ensure!(code == 1 && report["repaired"].is_null(), "{report:#}");
    let told = std::fs::read_to_string(file)?;
    ensure!(
        told.lines().count() == 7 && told.contains("\"class\":\"orphaned\""),
        "{told}"
    );

    let report = repaired_for_good(&pipeline, root, 7)?;
    found(&report, &expected)?;
    ensure!(pipeline.search("sounds of sea mammals")?[0] == "missing.txt");
    ensure!(pipeline.search("eruption")?[0] == "stale.txt");
    let all = pipeline.json(&["search", "document", "--mode", "text", "-k", "20"])?;
    ensure!(!all.to_string().contains("orphaned.txt"), "{all}");
    let inside = Inside::open(&pipeline, target)?;
    let header = inside.header(&uri(&signal_missing)?)?;
    ensure!(
        header.chunk_count == Some(1),
        "it was written again: {header:?}"
    );
    Ok(())
}

fn file_tag(path: &std::path::Path) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path)?;
    let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(format!("{}-{mtime_ns}-{}", meta.len(), meta.ino()))
}

/// A process that slept through its session wakes up and publishes what it had in hand.
fn a_late_signal_of_a_zombie_is_put_right(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let path = pipeline.write("docs/a.txt", "The first edition.\n")?;
    let docs = pipeline.path("docs");
    pipeline.ingest(&docs)?;
    let first = Inside::open(&pipeline, target)?
        .header(&uri(&path)?)?
        .version;
    pipeline.write("docs/a.txt", "The second edition, revised.\n")?;
    pipeline.ingest(&docs)?;
    let second = {
        let inside = Inside::open(&pipeline, target)?;
        inside.signal(&pipeline, &uri(&path)?, first)?;
        inside.header(&uri(&path)?)?.version
    };
    ensure!(second > first);
    let (report, code) = reconcile(&pipeline, &[text(&docs)?])?;
    found(&report, &[("signal_behind", 1)])?;
    ensure!(
        code == 1 && report["examples"]["signal_behind"][0] == uri(&path)?,
        "{report:#}"
    );
    repaired_for_good(&pipeline, text(&docs)?, 1)?;
    let inside = Inside::open(&pipeline, target)?;
    let header = inside.header(&uri(&path)?)?;
    ensure!(
        header.version == second,
        "a signal again needs no new version: {header:?}"
    );
    Ok(())
}

fn lines_of_a_corpus_come_change_and_go(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let line = |id: &str, words: &str| format!("{{\"_id\":\"{id}\",\"text\":\"{words}\"}}\n");
    let same = line("same 1", "Bread rises overnight.");
    let corpus: PathBuf = pipeline.write(
        "docs/c.jsonl",
        line("goes", "Here today.") + &same + &line("changes", "Before."),
    )?;
    let docs = pipeline.path("docs");
    pipeline.ingest(&docs)?;
    pipeline.write(
        "docs/c.jsonl",
        format!("{same}broken\n") + &line("changes", "Glaciers melt.") + &line("comes", "New."),
    )?;
    let expected = [("missing", 1), ("stale", 1), ("orphaned", 1)];
    let (report, code) = reconcile(&pipeline, &[text(&docs)?])?;
    found(&report, &expected)?;
    ensure!(
        code == 1 && report["left_out"] == 1 && report["objects"] == 3,
        "{report:#}"
    );
    repaired_for_good(&pipeline, text(&corpus)?, 3)?;
    ensure!(pipeline.search("ice and warming")?[0] == "c.jsonl#changes");
    let all = pipeline.json(&["search", "today", "--mode", "text"])?;
    ensure!(all["hits"].as_array().is_some_and(Vec::is_empty), "{all}");
    Ok(())
}

/// A disk that is not mounted is an empty folder.
fn an_empty_store_is_not_believed(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    for n in 0..4 {
        pipeline.write(&format!("docs/{n}.txt"), format!("Document {n} of four.\n"))?;
    }
    let docs = pipeline.path("docs");
    let root = text(&docs)?;
    pipeline.ingest(&docs)?;
    for n in 0..3 {
        std::fs::remove_file(docs.join(format!("{n}.txt")))?;
    }
    let (report, code) = reconcile(&pipeline, &[root, "--repair"])?;
    ensure!(
        code == 1 && report["repaired"]["withheld"]["removals"] == 3,
        "{report:#}"
    );
    ensure!(report["repaired"]["documents"] == 0, "{report:#}");
    let reason = report["repaired"]["withheld"]["reason"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        reason.contains("3 of 4") && reason.contains("--force"),
        "{reason}"
    );
    std::fs::remove_file(docs.join("3.txt"))?;
    let (report, code) = reconcile(&pipeline, &[root, "--repair", "--max-delete", "100"])?;
    ensure!(
        code == 1 && report["repaired"]["withheld"]["removals"] == 4,
        "{report:#}"
    );
    let (report, code) = reconcile(&pipeline, &[root, "--repair", "--force"])?;
    ensure!(
        code == 0 && report["repaired"]["removed"] == 4,
        "{report:#}"
    );
    repaired_for_good_is_clean(&pipeline, root)
}

fn repaired_for_good_is_clean(pipeline: &Pipeline, root: &str) -> anyhow::Result<()> {
    let (report, code) = reconcile(pipeline, &[root, "--repair"])?;
    found(&report, &[])?;
    ensure!(
        code == 0 && report["repaired"].is_null() && report["documents"] == 0,
        "{report:#}"
    );
    Ok(())
}

fn a_store_out_of_reach_makes_no_orphans(target: Target) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(target)?;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for (key, value) in [
        ("ENDPOINT", format!("http://{closed}")),
        ("REGION", "us-east-1".to_owned()),
        ("ACCESS_KEY_ID", "id".to_owned()),
        ("SECRET_ACCESS_KEY", "secret".to_owned()),
    ] {
        pipeline.set(&format!("MILLRACE_OBJECTS__S3__{key}"), &value);
    }
    let docs = pipeline.write("docs/a.txt", "A document to be copied.\n")?;
    pipeline.ingest(&docs)?;
    {
        let inside = Inside::open(&pipeline, target)?;
        let bucket = "s3://bucket/a.txt";
        let id = DocId::from_uri(bucket).to_string();
        let header = Record {
            id: id.clone(),
            doc_id: id,
            uri: bucket.to_owned(),
            ..inside.header(&uri(&docs)?)?
        };
        inside.write(vec![BulkAction::upsert(header)])?;
    }
    for arguments in [
        &["s3://bucket"][..],
        &["s3://bucket", "--repair", "--force"],
    ] {
        let error = pipeline.failure(&[&["reconcile"], arguments].concat())?;
        ensure!(
            error.contains("cannot list s3://bucket/, so nothing was compared"),
            "{error}"
        );
    }
    // A hole in the listing: the rest is compared and repaired, and nothing is an orphan.
    pipeline.write("docs/goes.txt", "This one goes.\n")?;
    pipeline.ingest(&pipeline.path("docs"))?;
    std::fs::remove_file(pipeline.path("docs/goes.txt"))?;
    let lines: String = (0..2_000_u64)
        .map(|n| format!("{{\"_id\":\"{n}\",\"text\":\"{}\"}}\n", n * n * 7_919))
        .collect();
    let cut = gzip(lines.as_bytes())?;
    let corpus = pipeline.write("docs/corpus.jsonl.gz", &cut[..cut.len() - 9])?;
    let docs = pipeline.path("docs");
    let (report, code) = reconcile(&pipeline, &[text(&docs)?])?;
    ensure!(code == 1 && report["counts"]["orphaned"] == 0, "{report:#}");
    let reason = report["incomplete"].as_str().unwrap_or_default();
    ensure!(reason.contains("corpus.jsonl.gz"), "{report:#}");
    std::fs::remove_file(corpus)?;
    let (report, _) = reconcile(&pipeline, &[text(&docs)?])?;
    found(&report, &[("orphaned", 1)])
}

/// Poison stays one dead letter, however often it is compared.
fn a_dead_letter_is_not_tried_for_ever(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    pipeline.write("docs/good.txt", "A readable document.\n")?;
    pipeline.write("docs/bad.pdf", "%PDF-1.4 and nothing of one")?;
    let docs = pipeline.path("docs");
    let summary = pipeline.ingest(&docs)?;
    ensure!(summary["dead_lettered"] == 1, "{summary}");
    let (report, code) = reconcile(&pipeline, &[text(&docs)?, "--repair"])?;
    found(&report, &[])?;
    ensure!(code == 0 && report["dead_lettered"] == 1, "{report:#}");
    let retry = [text(&docs)?, "--repair", "--retry-dead-letters"];
    let (report, code) = reconcile(&pipeline, &retry)?;
    found(&report, &[("missing", 1)])?;
    ensure!(
        code == 1 && report["repaired"]["dead_lettered"] == 1,
        "{report:#}"
    );
    // Another version of it is another matter.
    pipeline.write("docs/bad.pdf", "%PDF-1.4 and something else")?;
    let (report, _) = reconcile(&pipeline, &[text(&docs)?])?;
    found(&report, &[("missing", 1)])
}

/// While `up` runs, the commands compare through it.
#[test]
fn a_running_up_is_compared_through() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.write("docs/a.txt", "The tide comes in.\n")?;
    let docs = pipeline.path("docs");
    let up = pipeline.up(&[])?;
    let (report, code) = reconcile(&pipeline, &[text(&docs)?])?;
    found(&report, &[("missing", 1)])?;
    ensure!(code == 1);
    repaired_for_good(&pipeline, text(&docs)?, 1)?;
    ensure!(pipeline.search("the sea")?[0] == "a.txt");
    // Its clock and ours are one; what was written is not from the future.
    let version = eventually("the version is told", LONG, || {
        let status = pipeline.json(&["status", text(&docs.join("a.txt"))?])?;
        Ok(status["indexed"]["version"].as_i64())
    })?;
    ensure!(DocumentVersion::from(version).event_time_ms() > 0);
    drop(up);
    Ok(())
}
