//! Handing out obligations, as upstream systems do: who gets no acknowledgement sends again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use millrace_kafka::{KafkaConfig, ProduceError, Producer, RawRecord, topics};
use millrace_schemas::{DocumentNotice, EventHeaders, Framing, encode};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::behavior::Behavior;
use super::ledger::{AcceptedNotice, Acknowledged, Ledger, ToldBehavior};
use super::poison::{Poison, PoisonForm, notice};
use super::{Notices, Obligation, mark};
use crate::object_server::{BUCKET, ObjectServer};

const SEND_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Hands out obligations and notes what was acknowledged.
#[derive(Clone)]
pub struct Delivery {
    http: reqwest::Client,
    notices_url: String,
    events_url: String,
    kafka: KafkaConfig,
    producer: Arc<Mutex<Producer>>,
    store: Arc<ObjectServer>,
    folder: PathBuf,
    ledger: Arc<Ledger>,
    last_event_time_ms: Arc<std::sync::Mutex<std::collections::HashMap<String, i64>>>,
}

impl Delivery {
    /// For the pipeline that takes notices at `notices_api`, behavior at `events_api`, and
    /// whose brokers `kafka` names.
    ///
    /// # Errors
    /// A client can't be made.
    pub fn new(
        notices_api: &str,
        events_api: &str,
        kafka: &KafkaConfig,
        store: Arc<ObjectServer>,
        folder: PathBuf,
        ledger: Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(15))
            .build()?;
        Ok(Self {
            http,
            notices_url: format!("{notices_api}/v1/notices"),
            events_url: format!("{events_api}/v1/events"),
            kafka: kafka.clone(),
            producer: Arc::new(Mutex::new(Producer::connect(kafka)?)),
            store,
            folder,
            ledger,
            last_event_time_ms: Arc::default(),
        })
    }

    /// Fulfils one obligation. Returns once it is acknowledged, however long that takes.
    ///
    /// # Errors
    /// The judge itself can't go on.
    pub async fn hand_out(&self, obligation: Obligation) -> anyhow::Result<()> {
        let kind = obligation.kind();
        if let Some(text) = obligation.text() {
            self.ledger.lock().marks.push(mark(text).to_owned());
        }
        match obligation {
            Obligation::PutObject { key, text, notices } => {
                let etag = self.store.put(&key, text);
                self.notify(&key, Some(&etag), &notices).await?;
            }
            Obligation::DeleteObject { key, notices } => {
                self.store.delete(&key);
                self.notify(&key, None, &notices).await?;
            }
            Obligation::Inline {
                uri,
                text,
                skew_ms,
                copies,
            } => {
                self.ledger.lock().inline.insert(uri.clone());
                let notice = notice(uri, now_ms() + skew_ms, text.map(String::into_bytes));
                for _ in 0..copies {
                    self.publish(&notice).await?;
                }
            }
            Obligation::File { name, text } => self.write_file(&name, &text)?,
            Obligation::Poison(poison) => self.poison(&poison).await?,
            Obligation::Behavior(behavior) => self.tell(behavior).await?,
        }
        self.ledger.acknowledged(kind);
        Ok(())
    }

    /// Posts the notices of a change, late ones after their delay, all to their acknowledgement.
    async fn notify(&self, key: &str, etag: Option<&str>, notices: &Notices) -> anyhow::Result<()> {
        let event_time_ms = self.event_time_ms(key, notices);
        let uri = object_uri(key);
        self.ledger.lock().objects.insert(key.to_owned());
        let body = s3_notice(BUCKET, key, etag, event_time_ms);
        let posts = notices.late_ms.iter().map(|&late_ms| {
            let body = &body;
            async move {
                tokio::time::sleep(Duration::from_millis(late_ms)).await;
                self.post(&self.notices_url, body, StatusCode::OK).await
            }
        });
        for answer in futures::future::try_join_all(posts).await? {
            if answer["accepted"] != 1 {
                self.ledger.violation(
                    "a correct notice is accepted",
                    &uri,
                    format!("it was answered {answer}"),
                );
            }
        }
        self.ledger.lock().accepted.insert(AcceptedNotice {
            uri,
            event_time_ms,
            etag: etag.map(str::to_owned),
        });
        Ok(())
    }

    fn event_time_ms(&self, key: &str, notices: &Notices) -> i64 {
        let mut last = self
            .last_event_time_ms
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let clock = now_ms() + notices.skew_ms;
        let time = match last.get(key) {
            Some(&before) if notices.same_time => before,
            _ => clock,
        };
        last.insert(key.to_owned(), time);
        time
    }

    async fn poison(&self, poison: &Poison) -> anyhow::Result<()> {
        match poison.form(now_ms()) {
            PoisonForm::Raw { key, value } => {
                self.note_poison(&key, poison);
                self.send(Bytes::from(key), value, None).await
            }
            PoisonForm::Notice(notice) => {
                // A notice from the future is of a document that is there: told by its time.
                if notice.uri.contains("poison") {
                    self.note_poison(&notice.uri, poison);
                }
                self.publish(&notice).await
            }
            PoisonForm::Object { key, content } => {
                self.note_poison(&object_uri(&key), poison);
                let etag = self.store.put(&key, content);
                let body = s3_notice(BUCKET, &key, Some(&etag), now_ms());
                self.post(&self.notices_url, &body, StatusCode::OK)
                    .await
                    .map(drop)
            }
            PoisonForm::Posted {
                body, mark, status, ..
            } => {
                let entry = (poison.clone(), false);
                self.ledger.lock().posted_poison.insert(mark.clone(), entry);
                let status = StatusCode::from_u16(status)?;
                self.post(&self.notices_url, &body, status).await?;
                let entry = (poison.clone(), true);
                self.ledger.lock().posted_poison.insert(mark, entry);
                Ok(())
            }
        }
    }

    /// Posts the copies of an event, all to their acknowledgement.
    async fn tell(&self, behavior: Behavior) -> anyhow::Result<()> {
        let event_time_ms = now_ms() + behavior.skew_ms;
        let body = json!({
            "event_id": behavior.event_id,
            "user_id": behavior.user_id,
            "item": behavior.uri,
            "kind": behavior.kind.as_str(),
            "event_time_ms": event_time_ms,
            "position": behavior.position,
        })
        .to_string();
        let event_id = behavior.event_id.clone();
        let told = ToldBehavior {
            behavior: behavior.clone(),
            event_time_ms,
            acknowledged: false,
        };
        self.ledger.lock().behavior.insert(event_id.clone(), told);
        let posts = behavior.late_ms.iter().map(|&late_ms| {
            let body = &body;
            async move {
                tokio::time::sleep(Duration::from_millis(late_ms)).await;
                self.post(&self.events_url, body, StatusCode::ACCEPTED)
                    .await
            }
        });
        for answer in futures::future::try_join_all(posts).await? {
            if answer["accepted"] != 1 {
                let found = format!("it was answered {answer}");
                self.ledger
                    .violation("a correct event is accepted", &event_id, found);
            }
        }
        if let Some(told) = self.ledger.lock().behavior.get_mut(&event_id) {
            told.acknowledged = true;
        }
        Ok(())
    }

    fn note_poison(&self, key: &str, poison: &Poison) {
        let mut promises = self.ledger.lock();
        promises.poison.insert(key.to_owned(), poison.clone());
    }

    fn write_file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        // Written beside and renamed, as careful writers do; what is hidden is not noticed.
        let staging = self.folder.join(format!(".{name}.new"));
        std::fs::write(&staging, text)
            .and_then(|()| std::fs::rename(&staging, self.folder.join(name)))
            .with_context(|| format!("can't write {name} into the watched folder"))?;
        let mut promises = self.ledger.lock();
        promises.files.insert(name.to_owned(), text.to_owned());
        Ok(())
    }

    /// Posts until the answer has the wanted status; what is answered otherwise is sent again.
    async fn post(&self, url: &str, body: &str, wanted: StatusCode) -> anyhow::Result<Value> {
        loop {
            let sent = self
                .http
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_owned())
                .send()
                .await;
            match sent {
                Ok(response) if response.status() == wanted => {
                    // The status alone is the acknowledgement, but a cut body tells nothing.
                    if let Ok(answer) = response.json().await {
                        return Ok(answer);
                    }
                }
                Ok(response) if response.status().is_client_error() => {
                    let status = response.status();
                    let answer = response.text().await.unwrap_or_default();
                    bail!("{status} was answered to {body}: {answer}");
                }
                // Away, starting, or without its brokers.
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(SEND_AGAIN_AFTER).await;
        }
    }

    async fn publish(&self, notice: &DocumentNotice) -> anyhow::Result<()> {
        let value = encode(notice, &Framing::SingleObject)?;
        let event = EventHeaders {
            id: format!("{:032x}", fastrand::u128(..)),
            source: "millrace/judge".to_owned(),
            type_: "millrace.documents.created".to_owned(),
            time_ms: Some(notice.event_time_ms),
            traceparent: None,
        };
        let key = Bytes::from(notice.uri.clone());
        self.send(key, Some(value.into()), Some(event)).await
    }

    /// Sends until the brokers acknowledge.
    async fn send(
        &self,
        key: Bytes,
        value: Option<Bytes>,
        event: Option<EventHeaders>,
    ) -> anyhow::Result<()> {
        let headers = event.map_or_else(Vec::new, |event| event.to_headers());
        let record = RawRecord {
            topic: self.kafka.topic(topics::DOCUMENTS),
            key: Some(key.clone()),
            value: value.clone(),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, Some(value.into())))
                .collect(),
            ..RawRecord::default()
        };
        let position = loop {
            let producer = self.producer.lock().await.clone();
            match producer.send_raw(record.clone()).await {
                Ok(position) => break position,
                Err(error) if error.is_retryable() => {}
                // Such a producer can't go on, as its process would restart.
                Err(ProduceError::Fatal { .. }) => {
                    *self.producer.lock().await = Producer::connect(&self.kafka)?;
                }
                Err(error) => return Err(error).context("the brokers refuse a record"),
            }
            tokio::time::sleep(SEND_AGAIN_AFTER).await;
        };
        self.ledger.lock().acknowledged.push(Acknowledged {
            position,
            key,
            value,
        });
        Ok(())
    }
}

/// The document id's source of an object of the bucket.
#[must_use]
pub fn object_uri(key: &str) -> String {
    format!("s3://{BUCKET}/{key}")
}

/// The notice of S3; without a tag that of a removal.
#[must_use]
pub fn s3_notice(bucket: &str, key: &str, etag: Option<&str>, event_time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(event_time_ms).unwrap_or_default();
    let event = match etag {
        Some(_) => "ObjectCreated:Put",
        None => "ObjectRemoved:Delete",
    };
    let mut object = json!({ "key": key, "sequencer": "0A" });
    if let Some(etag) = etag {
        object["eTag"] = json!(etag);
    }
    json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": event,
        "eventTime": time.to_string(),
        "s3": { "bucket": { "name": bucket }, "object": object },
    }] })
    .to_string()
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
