//! What stands on the topics: the last signal of each item, notices on their way, dead letters.

use millrace_kafka::{
    Admin, AdminError, KafkaConfig, ReadFrom, ReadUntil, ReaderError, Record, TopicReader, topics,
};
use millrace_schemas::{DocumentEvent, DocumentNotice, Signal, decode};
use serde::{Deserialize, Serialize};

use crate::headers::Scope;
use crate::runs::{Keyed, Sorted, Sorting, Spill, SpillError};

/// A signal, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignalRecord {
    pub uri: String,
    /// All signals of an item are in one partition, so this is their order.
    pub offset: i64,
    pub version: i64,
    pub etag: Option<String>,
    pub deleted: bool,
}

/// A notice on a topic: on its way, or dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoticeRecord {
    pub uri: String,
    /// When it was published, ms since 1970.
    pub time_ms: i64,
    pub removed: bool,
    pub etag: Option<String>,
}

impl Keyed for SignalRecord {
    fn key(&self) -> &str {
        &self.uri
    }

    fn order(&self) -> i64 {
        self.offset
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.uri.len() + self.etag.as_deref().map_or(0, str::len)
    }
}

impl Keyed for NoticeRecord {
    fn key(&self) -> &str {
        &self.uri
    }

    fn order(&self) -> i64 {
        self.time_ms
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.uri.len() + self.etag.as_deref().map_or(0, str::len)
    }
}

/// Why a topic could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicsError {
    #[error(transparent)]
    Read(#[from] ReaderError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Spill(#[from] SpillError),
}

/// All signals of `model_version` in `scope`; tells `progress` how many were read.
pub(crate) async fn signals(
    kafka: &KafkaConfig,
    scope: &Scope,
    model_version: &str,
    spill: &Spill,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Sorted<SignalRecord>, u64), TopicsError> {
    let topic = kafka.topic(topics::SIGNALS);
    let mut reader =
        TopicReader::open(kafka, &topic, &ReadFrom::Beginning, ReadUntil::PresentEnd).await?;
    let mut sorting = Sorting::begin(spill);
    let mut read = 0;
    while let Some(record) = reader.next().await {
        let record = record?;
        read += 1;
        if read % 1_000 == 0 {
            progress(read);
        }
        let Some(signal) = readable::<Signal>(&record) else {
            continue;
        };
        // Another model's signal belongs to another generation of the index.
        if signal.model_version != model_version || !scope.holds(&signal.uri) {
            continue;
        }
        let kept = SignalRecord {
            uri: signal.uri,
            offset: record.offset,
            version: signal.document_version,
            etag: signal.etag,
            deleted: signal.deleted,
        };
        if !sorting.push(kept).await {
            break;
        }
    }
    let count = sorting.count;
    Ok((sorting.finish().await?, count))
}

/// Notices in `scope` that `group` has not finished yet.
pub(crate) async fn pending(
    kafka: &KafkaConfig,
    group: &str,
    scope: &Scope,
    spill: &Spill,
) -> Result<Sorted<NoticeRecord>, TopicsError> {
    let topic = kafka.topic(topics::DOCUMENTS);
    let admin = Admin::connect(kafka)?;
    let lags = admin.group_lag(group, std::slice::from_ref(&topic)).await?;
    let behind = lags.into_iter().filter(|lag| lag.lag > 0);
    let from = ReadFrom::Offsets(behind.map(|lag| (lag.partition, lag.current)).collect());
    let reader = TopicReader::open(kafka, &topic, &from, ReadUntil::PresentEnd).await?;
    notices(reader, scope, spill).await
}

/// Notices in `scope` that went to the dead-letter topic, as far as it still has them.
pub(crate) async fn dead(
    kafka: &KafkaConfig,
    scope: &Scope,
    spill: &Spill,
) -> Result<Sorted<NoticeRecord>, TopicsError> {
    let topic = kafka.topic(topics::DOCUMENTS_DLQ);
    let reader =
        TopicReader::open(kafka, &topic, &ReadFrom::Beginning, ReadUntil::PresentEnd).await?;
    notices(reader, scope, spill).await
}

async fn notices(
    mut reader: TopicReader,
    scope: &Scope,
    spill: &Spill,
) -> Result<Sorted<NoticeRecord>, TopicsError> {
    let mut sorting = Sorting::begin(spill);
    while let Some(record) = reader.next().await {
        let record = record?;
        let in_scope = record.key_text().is_some_and(|uri| scope.holds(&uri));
        let Some(notice) = in_scope
            .then(|| readable::<DocumentNotice>(&record))
            .flatten()
        else {
            continue;
        };
        let kept = NoticeRecord {
            uri: notice.uri,
            time_ms: record.timestamp_ms.unwrap_or(notice.event_time_ms),
            removed: notice.event == DocumentEvent::Removed,
            etag: notice.etag,
        };
        if !sorting.push(kept).await {
            break;
        }
    }
    Ok(sorting.finish().await?)
}

/// What can't be read is nobody's signal and nobody's notice: its consumers say so themselves.
fn readable<M: millrace_schemas::Message>(record: &Record) -> Option<M> {
    let value = record.value.as_deref()?;
    decode(value)
        .inspect_err(|error| tracing::debug!(origin = %record.origin(), %error, "passed over"))
        .ok()
}
