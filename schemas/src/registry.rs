//! What framing needs from a schema registry.

use std::sync::Arc;

use apache_avro::Schema;
use async_trait::async_trait;

use crate::SchemaError;

/// A writer's schema that a registry handed out.
#[derive(Clone, Debug)]
pub struct WriterSchema(pub(crate) Arc<Schema>);

impl WriterSchema {
    /// Parses a schema's JSON text.
    ///
    /// # Errors
    /// The text is not an Avro schema.
    pub fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(Arc::new(Schema::parse_str(text)?)))
    }
}

/// A Confluent-compatible schema registry.
#[async_trait]
pub trait SchemaRegistry: Send + Sync {
    /// The schema with this id. Implementations cache: an id never changes its schema.
    ///
    /// # Errors
    /// [`SchemaError::UnknownSchemaId`] where there is none, [`SchemaError::RegistryUnavailable`]
    /// where that cannot be known now.
    async fn schema(&self, id: i32) -> Result<WriterSchema, SchemaError>;

    /// Registers `schema` under `subject` and returns its id; the same pair gives the same id.
    ///
    /// # Errors
    /// [`SchemaError::RegistryRefused`] where the schema is incompatible with the subject's earlier
    /// ones, [`SchemaError::RegistryUnavailable`] where the registry cannot be reached.
    async fn register(&self, subject: &str, schema: &str) -> Result<i32, SchemaError>;
}
