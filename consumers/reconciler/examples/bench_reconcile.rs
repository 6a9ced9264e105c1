//! Compares one million documents: lines of a real corpus with their signals on a real (embedded)
//! broker, and headers that are computed, since an index of a million documents is not what is
//! measured. Ends with one line of JSON; `make bench-reconcile` runs it.
//!
//! `bench_reconcile [documents]`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use millrace_broker::{Broker, BrokerConfig};
use millrace_index::BoxError;
use millrace_kafka::{Admin, KafkaConfig, Producer};
use millrace_objects::{ObjectStores, ObjectStoresConfig, ObjectUri};
use millrace_reconciler::{Class, Header, Headers, Reconciler, ReconcilerOptions};
use millrace_schemas::{DocId, DocumentVersion, EventHeaders, Origin, Signal};
use serde_json::json;
use sha2::{Digest, Sha256};

const MODEL: &str = "bench";
/// One in so many is missing in the index, another one stale, another one behind.
const DIFFERS: u64 = 1_000;

fn line(number: u64) -> String {
    let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!(
        "{{\"_id\":\"{number:09}\",\"text\":\"Document {number} tells of {word:016x} and of the sea.\"}}"
    )
}

fn version(number: u64) -> i64 {
    DocumentVersion::new(1_700_000_000_000, i64::try_from(number).unwrap_or(0)).get()
}

/// What an index of the corpus would hold.
struct Computed {
    corpus: String,
    documents: u64,
}

impl Computed {
    fn header(&self, number: u64) -> Option<Header> {
        let text = match number % DIFFERS {
            1 => return None,
            2 => "another line".to_owned(),
            _ => line(number),
        };
        Some(Header {
            uri: format!("{}#{number:09}", self.corpus),
            version: version(number),
            etag: Some(format!(
                "sha256:{}",
                hex::encode(Sha256::digest(text.as_bytes()))
            )),
            deleted: false,
        })
    }

    fn number(&self, uri: &str) -> Option<u64> {
        uri.strip_prefix(&self.corpus)?
            .strip_prefix('#')?
            .parse()
            .ok()
    }
}

#[async_trait]
impl Headers for Computed {
    async fn refresh(&self) -> Result<(), BoxError> {
        Ok(())
    }

    async fn page(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Header>, BoxError> {
        if uri_prefix != format!("{}#", self.corpus) {
            return Ok(Vec::new());
        }
        let from = after
            .and_then(|uri| self.number(uri))
            .map_or(0, |number| number + 1);
        let numbers = from..self.documents;
        Ok(numbers
            .filter_map(|number| self.header(number))
            .take(limit)
            .collect())
    }

    async fn get(&self, doc_ids: &[String]) -> Result<Vec<Option<Header>>, BoxError> {
        // Only differences are asked for again; they are found by trying.
        let differs = (0..self.documents).filter(|number| (1..4).contains(&(number % DIFFERS)));
        let by_id: std::collections::HashMap<String, u64> = differs
            .map(|number| {
                let uri = format!("{}#{number:09}", self.corpus);
                (DocId::from_uri(&uri).to_string(), number)
            })
            .collect();
        Ok(doc_ids
            .iter()
            .map(|id| self.header(*by_id.get(id)?))
            .collect())
    }
}

fn signal(corpus: &str, number: u64) -> Signal {
    let uri = format!("{corpus}#{number:09}");
    let behind = number % DIFFERS == 3;
    let mut random = fastrand::Rng::with_seed(number);
    Signal {
        item_id: DocId::from_uri(&uri).to_string(),
        uri,
        document_version: version(number) - i64::from(behind),
        model_version: MODEL.to_owned(),
        vector: (0..384).map(|_| random.f32() - 0.5).collect(),
        title: None,
        language: Some("en".to_owned()),
        media_type: "text/plain".to_owned(),
        categories: Vec::new(),
        tags: Vec::new(),
        key_phrases: vec!["of the sea".to_owned()],
        near_duplicate_hash: 0,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: BTreeMap::new(),
        origin: Origin {
            topic: "bench".to_owned(),
            partition: 0,
            offset: 0,
        },
    }
}

async fn publish(kafka: &KafkaConfig, corpus: &str, documents: u64) -> Result<()> {
    let producer = Producer::connect(kafka)?;
    let event = EventHeaders {
        id: "bench".to_owned(),
        source: "bench".to_owned(),
        type_: "millrace.signals.updated".to_owned(),
        time_ms: None,
        traceparent: None,
    };
    stream::iter(0..documents)
        .map(|number| {
            let (producer, event) = (producer.clone(), event.clone());
            let signal = signal(corpus, number);
            async move {
                producer
                    .send(&signal.key(), Some(&signal.item_id), &signal, &event)
                    .await
                    .map(drop)
            }
        })
        .buffer_unordered(2_000)
        .try_collect::<()>()
        .await?;
    Ok(())
}

fn memory_mib(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .with_context(|| format!("no {field} in /proc/self/status"))?
        .parse()?;
    Ok(kib / 1024.0)
}

#[tokio::main]
async fn main() -> Result<()> {
    let documents: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("corpus.jsonl");
    let mut out = BufWriter::new(File::create(&path)?);
    for number in 0..documents {
        writeln!(out, "{}", line(number))?;
    }
    out.flush()?;
    let broker = Broker::start(BrokerConfig::new(folder.path().join("broker")))?;
    let kafka = KafkaConfig {
        bootstrap: broker.bootstrap(),
        ..KafkaConfig::default()
    };
    Admin::connect(&kafka)?.create_declared().await?;
    let root = ObjectUri::file(&path)?;
    let preparing = Instant::now();
    publish(&kafka, &root.to_string(), documents).await?;
    let prepared_seconds = preparing.elapsed().as_secs_f64();

    // The peak from here on: publishing has its own.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before_mib = memory_mib("VmRSS")?;
    let allowed = ObjectStoresConfig {
        allowed_roots: vec![path],
        ..ObjectStoresConfig::default()
    };
    let reconciler = Reconciler {
        stores: ObjectStores::new(&allowed)?,
        headers: Arc::new(Computed {
            corpus: root.to_string(),
            documents,
        }),
        kafka,
        options: ReconcilerOptions {
            temp_dir: folder.path().to_owned(),
            ..ReconcilerOptions::new(MODEL, "bench")
        },
    };
    let compared = reconciler.compare(&root, &|_| {}).await?;
    let report = &compared.report;
    let peak_mib = memory_mib("VmHWM")?;
    let each = |remainder: u64| (documents + DIFFERS - 1 - remainder) / DIFFERS;
    for (class, remainder) in [
        (Class::Missing, 1),
        (Class::Stale, 2),
        (Class::SignalBehind, 3),
    ] {
        ensure!(report.count(class) == each(remainder), "{report:#?}");
    }
    ensure!(
        report.objects == documents && report.signals == documents,
        "{report:#?}"
    );
    let figures = json!({
        "documents": documents,
        "differences": report.differences,
        "seconds": report.seconds,
        "documents_per_second": documents as f64 / report.seconds,
        "peak_rss_mib": peak_mib,
        "rss_before_mib": before_mib,
        "prepared_seconds": prepared_seconds,
    });
    writeln!(std::io::stdout(), "{figures}")?;
    Ok(())
}
