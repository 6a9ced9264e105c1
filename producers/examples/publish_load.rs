//! Publishes notices with inline texts at a fixed rate, for `make bench-backlog`.
//!
//!     publish_load BOOTSTRAP TOPIC_PREFIX URI TEXTS RATE SECONDS
//!
//! TEXTS holds one JSON string a line; they go round. Each notice is a document of its own, `URI#n`.
//! Ends with one line of JSON: how many the brokers have acknowledged, in how many seconds.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_kafka::{KafkaConfig, Producer};
use millrace_producers::{Noticed, Publisher};
use millrace_schemas::{DocumentEvent, DocumentNotice, Layout};

const SLICE: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, prefix, uri, texts, rate, seconds] = arguments.as_slice() else {
        anyhow::bail!("usage: publish_load BOOTSTRAP TOPIC_PREFIX URI TEXTS RATE SECONDS");
    };
    let texts: Vec<String> = std::fs::read_to_string(texts)
        .with_context(|| format!("can't read {texts}"))?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(!texts.is_empty(), "there is no text");
    let (rate, seconds): (u32, u32) = (rate.parse()?, seconds.parse()?);
    let publisher = Publisher::new(Producer::connect(&KafkaConfig {
        bootstrap: bootstrap.clone(),
        topic_prefix: prefix.clone(),
        ..KafkaConfig::default()
    })?);
    let count = usize::try_from(u64::from(rate) * u64::from(seconds))?;
    let started = Instant::now();
    let notices = stream::iter(0..count).then(|number| {
        let due =
            started + Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX) / rate;
        let notice = notice(uri, number, &texts[number % texts.len()]);
        async move {
            // Timers are no finer than a millisecond: a slice of notices goes out together.
            if let Some(early) = due
                .checked_duration_since(Instant::now())
                .filter(|early| *early > SLICE)
            {
                tokio::time::sleep(early).await;
            }
            Noticed::Document(Box::new(notice))
        }
    });
    let acknowledged = publisher
        .publish_all(notices)
        .try_fold(0_usize, |done, _| async move { Ok(done + 1) })
        .await?;
    println!(
        r#"{{"acknowledged":{acknowledged},"seconds":{:.1}}}"#,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn notice(uri: &str, number: usize, text: &str) -> DocumentNotice {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    DocumentNotice {
        uri: format!("{uri}#{number}"),
        event: DocumentEvent::Created,
        event_time_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        etag: None,
        size_bytes: i64::try_from(text.len()).ok(),
        media_type: Some("text/plain".to_owned()),
        content: Some(text.as_bytes().to_vec()),
        title: None,
        layout: Layout::Passage,
        metadata: BTreeMap::new(),
        min_version: None,
        source: "load".to_owned(),
    }
}
