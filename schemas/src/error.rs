//! Why a value could not be read or written.

use std::error::Error;

/// Why a value could not be read or written. No message holds the value itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The first bytes name no framing that is known.
    #[error(
        "unknown framing: the value starts with [{first_bytes}], expected c301 (Avro single object), \
         00 (Confluent) or 7b (JSON)"
    )]
    UnknownFraming {
        /// Up to four first bytes in hex.
        first_bytes: String,
    },
    /// An Avro single object of a schema that this build does not know.
    #[error("unknown schema fingerprint {hex} for {topic}: was it written by a newer version?")]
    UnknownFingerprint {
        /// The topic whose schemas were searched.
        topic: &'static str,
        /// CRC-64-AVRO, the eight bytes as they stand in the value.
        hex: String,
    },
    /// The registry has no such schema.
    #[error("the schema registry has no schema with id {id}")]
    UnknownSchemaId {
        /// The id in the value.
        id: i32,
    },
    /// A Confluent-framed value, but no registry to ask.
    #[error("schema id {id} needs a schema registry: set `kafka.schema_registry_url`")]
    RegistryNotConfigured {
        /// The id in the value.
        id: i32,
    },
    /// The registry cannot be reached now. The only error here that waiting helps.
    #[error("the schema registry cannot be reached")]
    RegistryUnavailable {
        /// What the transport said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry answered and said no: incompatible, forbidden, invalid.
    #[error("the schema registry refused {request} with HTTP {status}: {message}")]
    RegistryRefused {
        /// What was asked.
        request: String,
        /// Its answer's status.
        status: u16,
        /// Its answer's message, cut.
        message: String,
    },
    /// The framing is known and what follows is not a value of the schema.
    #[error("malformed {framing} value on {topic}")]
    Malformed {
        /// The topic.
        topic: &'static str,
        /// `Avro`, `Confluent` or `JSON`.
        framing: &'static str,
        /// What the decoder said; may quote the value.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The message does not fit its own schema.
    #[error("the message does not fit the schema of {topic}")]
    Unencodable {
        /// The topic.
        topic: &'static str,
        /// What the encoder said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl SchemaError {
    /// The machine-readable type, as dead letters carry it.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::UnknownFraming { .. } => "unknown_framing",
            Self::UnknownFingerprint { .. } => "unknown_fingerprint",
            Self::UnknownSchemaId { .. } => "unknown_schema_id",
            Self::RegistryNotConfigured { .. } => "registry_not_configured",
            Self::RegistryUnavailable { .. } => "registry_unavailable",
            Self::RegistryRefused { .. } => "registry_refused",
            Self::Malformed { .. } => "malformed_value",
            Self::Unencodable { .. } => "unencodable",
        }
    }

    /// Whether the same value may be readable later. Then the reader waits; otherwise the value is
    /// a dead letter.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RegistryUnavailable { .. })
    }
}
