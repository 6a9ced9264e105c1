//! A broker of its own for each test, and what stands on its topics.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_broker::{Broker, BrokerConfig};
use millrace_kafka::{
    Admin, KafkaConfig, Producer, ReadFrom, ReadUntil, Record, TopicReader, topics,
};
use millrace_objects::{ObjectStores, ObjectStoresConfig};
use millrace_producers::Publisher;
use millrace_schemas::{BehaviorEvent, DocumentNotice, decode};
use tempfile::TempDir;

pub struct Kafka {
    pub config: KafkaConfig,
    /// None of a real Kafka.
    _broker: Option<(Broker, TempDir)>,
}

impl Kafka {
    pub async fn start() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let broker = Broker::start(BrokerConfig::new(data.path()))?;
        let config = KafkaConfig {
            bootstrap: broker.bootstrap(),
            ..KafkaConfig::default()
        };
        Admin::connect(&config)?.create_declared().await?;
        Ok(Self {
            config,
            _broker: Some((broker, data)),
        })
    }

    /// Topics of its own on the real Kafka.
    pub async fn real() -> Result<Self> {
        let config = KafkaConfig {
            bootstrap: millrace_servers::kafka()?,
            topic_prefix: format!("{}.", millrace_servers::unique_name("producers")),
            ..KafkaConfig::default()
        };
        Admin::connect(&config)?.create_declared().await?;
        Ok(Self {
            config,
            _broker: None,
        })
    }

    pub fn publisher(&self) -> Result<Publisher> {
        Ok(Publisher::new(Producer::connect(&self.config)?))
    }

    pub async fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let topic = self.config.topic(topic);
        let reader = TopicReader::open(
            &self.config,
            &topic,
            &ReadFrom::Beginning,
            ReadUntil::PresentEnd,
        )
        .await?;
        Ok(reader.collect().await?)
    }

    /// All notices, by partition and offset.
    pub async fn notices(&self) -> Result<Vec<DocumentNotice>> {
        let records = self.records(topics::DOCUMENTS).await?;
        let decoded = |record: &Record| {
            let notice: DocumentNotice = decode(record.value.as_ref().context("a value")?)?;
            ensure!(
                record.key_text().as_deref() == Some(&notice.uri),
                "the key is the URI"
            );
            let event = record.event().context("CloudEvents headers")?;
            ensure!(
                event.traceparent.is_some() && event.time_ms == Some(notice.event_time_ms),
                "{event:?}"
            );
            Ok(notice)
        };
        records.iter().map(decoded).collect()
    }

    /// All behavior, by partition and offset.
    pub async fn behavior(&self) -> Result<Vec<BehaviorEvent>> {
        let records = self.records(topics::BEHAVIOR).await?;
        let decoded = |record: &Record| {
            let event: BehaviorEvent = decode(record.value.as_ref().context("a value")?)?;
            ensure!(
                record.key.as_deref() == Some(event.user_id.as_bytes()),
                "the key is the user"
            );
            Ok(event)
        };
        records.iter().map(decoded).collect()
    }

    /// Waits until the notices are as wanted.
    pub async fn notices_until(
        &self,
        wanted: impl Fn(&[DocumentNotice]) -> bool,
    ) -> Result<Vec<DocumentNotice>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let notices = self.notices().await?;
            if wanted(&notices) {
                return Ok(notices);
            }
            ensure!(
                Instant::now() < deadline,
                "not as wanted before the deadline: {notices:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A publisher whose brokers are not there.
pub fn publisher_without_brokers() -> Result<Publisher> {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = KafkaConfig {
        bootstrap: closed.to_string(),
        ..KafkaConfig::default()
    };
    Ok(Publisher::new(Producer::connect(&config)?))
}

pub fn stores(root: &Path) -> Result<ObjectStores> {
    Ok(ObjectStores::new(&ObjectStoresConfig {
        allowed_roots: vec![root.to_owned()],
        allowed_buckets: vec!["s3://docs".into()],
        s3: millrace_objects::S3Config {
            region: Some("us-east-1".into()),
            ..Default::default()
        },
        ..Default::default()
    })?)
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// The last segment of a URI.
pub fn name(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}

/// Serves `routes` for as long as the test runs; gives their address.
pub async fn serve(routes: axum::Router) -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

/// POST with these headers.
pub async fn post(
    url: &str,
    body: impl Into<reqwest::Body>,
    headers: &[(&str, &str)],
) -> Result<reqwest::Response> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = headers
        .iter()
        .fold(client.post(url), |request, (name, value)| {
            request.header(*name, *value)
        });
    Ok(request.body(body).send().await?)
}

/// One gzip member.
pub fn gzip(body: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}
