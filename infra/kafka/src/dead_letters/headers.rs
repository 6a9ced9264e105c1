//! The headers that a dead letter adds to the original's. Those of Kafka Connect come first, so
//! that existing consoles show them.

pub(super) const ORIGIN_TOPIC: &str = "__connect.errors.topic";
pub(super) const ORIGIN_PARTITION: &str = "__connect.errors.partition";
pub(super) const ORIGIN_OFFSET: &str = "__connect.errors.offset";
pub(super) const STAGE: &str = "__connect.errors.stage";
pub(super) const CLASS: &str = "__connect.errors.exception.class.name";
pub(super) const MESSAGE: &str = "__connect.errors.exception.message";
pub(super) const ERROR_TYPE: &str = "dlq.error.type";
pub(super) const HTTP_STATUS: &str = "dlq.http.status";
pub(super) const ATTEMPTS: &str = "dlq.attempts";
pub(super) const SCHEMA_ID: &str = "dlq.schema.id";
pub(super) const FIRST_FAILED_AT: &str = "dlq.first_failed_at";
pub(super) const REPLAY_COUNT: &str = "dlq.replay_count";
pub(super) const PIPELINE: &str = "dlq.pipeline";
pub(super) const VERSION: &str = "dlq.version";

/// All of them. An original that was a dead letter before has them too, before the new ones.
pub(super) const ALL: [&str; 14] = [
    ORIGIN_TOPIC,
    ORIGIN_PARTITION,
    ORIGIN_OFFSET,
    STAGE,
    CLASS,
    MESSAGE,
    ERROR_TYPE,
    HTTP_STATUS,
    ATTEMPTS,
    SCHEMA_ID,
    FIRST_FAILED_AT,
    REPLAY_COUNT,
    PIPELINE,
    VERSION,
];
