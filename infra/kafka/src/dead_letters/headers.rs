//! The headers that a dead letter, and a replay of one, add to the original's. Those of Kafka Connect
//! come first, so that existing consoles show them.

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
/// Of a row of a file or request: its number.
pub(super) const ROW: &str = "dlq.row";

/// All of a dead letter's. An original that was a dead letter before has them too, before the new ones.
pub(super) const ALL: [&str; 15] = [
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
    ROW,
];

pub(super) const FIRST_TOPIC: &str = "dlq.first_topic";
pub(super) const FIRST_PARTITION: &str = "dlq.first_partition";
pub(super) const FIRST_OFFSET: &str = "dlq.first_offset";
pub(super) const REPLAYED_AT: &str = "dlq.replayed_at";
pub(super) const REPLAYED_FROM: &str = "dlq.replayed_from";

/// Those that a replay adds at the end, all of them and in this order. The last one is none of a dead
/// letter's: where the record fails again, what that adds can be told from what was there.
pub(super) const REPLAY: [&str; 7] = [
    FIRST_TOPIC,
    FIRST_PARTITION,
    FIRST_OFFSET,
    FIRST_FAILED_AT,
    REPLAY_COUNT,
    REPLAYED_AT,
    REPLAYED_FROM,
];
