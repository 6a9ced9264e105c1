//! What stands on the topics: the last signal of each item, notices on their way, dead letters.

use millrace_kafka::{
    Admin, AdminError, ConfigError, HttpSchemaRegistry, KafkaConfig, ReadFrom, ReadUntil,
    ReaderError, Record, TopicReader, topics,
};
use millrace_schemas::{
    DocumentEvent, DocumentNotice, Message, SchemaError, SchemaRegistry, Signal, decode_with,
};
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
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the schema registry does not answer")]
    Registry(#[source] SchemaError),
}

/// Reads values, also those that a schema registry is needed for.
struct Values(Option<HttpSchemaRegistry>);

impl Values {
    fn of(kafka: &KafkaConfig) -> Result<Self, TopicsError> {
        Ok(Self(HttpSchemaRegistry::from_config(kafka)?))
    }

    /// What can't be read is nobody's signal and nobody's notice: its consumers say so themselves.
    async fn read<M: Message>(&self, record: &Record) -> Result<Option<M>, TopicsError> {
        let Some(value) = record.value.as_deref() else {
            return Ok(None);
        };
        let registry = self
            .0
            .as_ref()
            .map(|registry| registry as &dyn SchemaRegistry);
        match decode_with(value, registry).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.is_retryable() => Err(TopicsError::Registry(error)),
            Err(error) => {
                tracing::debug!(origin = %record.origin(), %error, "passed over");
                Ok(None)
            }
        }
    }
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
    let values = Values::of(kafka)?;
    let mut sorting = Sorting::begin(spill);
    let mut read = 0;
    while let Some(record) = reader.next().await {
        let record = record?;
        read += 1;
        if read % 1_000 == 0 {
            progress(read);
        }
        let Some(signal) = values.read::<Signal>(&record).await? else {
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
    notices(reader, kafka, scope, spill).await
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
    notices(reader, kafka, scope, spill).await
}

async fn notices(
    mut reader: TopicReader,
    kafka: &KafkaConfig,
    scope: &Scope,
    spill: &Spill,
) -> Result<Sorted<NoticeRecord>, TopicsError> {
    let values = Values::of(kafka)?;
    let mut sorting = Sorting::begin(spill);
    while let Some(record) = reader.next().await {
        let record = record?;
        if !record.key_text().is_some_and(|uri| scope.holds(&uri)) {
            continue;
        }
        let Some(notice) = values.read::<DocumentNotice>(&record).await? else {
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
