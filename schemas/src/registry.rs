//! What framing needs from a schema registry.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Name, RecordSchema};
use async_trait::async_trait;

use crate::SchemaError;
use crate::codec::{BoxError, MAX_ALLOCATION_BYTES};

/// Types in a schema, each named one counted as often as it is used.
const MAX_TYPES: usize = 10_000;

/// A writer's schema that a registry handed out.
#[derive(Clone, Debug)]
pub struct WriterSchema(pub(crate) Arc<Schema>);

impl WriterSchema {
    /// Parses a schema's JSON text.
    ///
    /// # Errors
    /// The text is not an Avro schema, or one by which a value of some kilobytes takes all of the
    /// stack, the memory or the time: a record that holds itself, a `fixed` of gigabytes, names that
    /// double at every level. A registry serves more than these topics, and whoever may write to one
    /// may name any of its schemas.
    pub fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let schema = Schema::parse_str(text)?;
        Bounds::default().check(&schema)?;
        Ok(Self(Arc::new(schema)))
    }
}

/// A walk over a schema as reading a value would take it.
#[derive(Default)]
struct Bounds<'a> {
    records: HashMap<&'a Name, &'a RecordSchema>,
    open: Vec<&'a Name>,
    types: usize,
}

impl<'a> Bounds<'a> {
    fn check(&mut self, schema: &'a Schema) -> Result<(), BoxError> {
        self.types += 1;
        if self.types > MAX_TYPES {
            return Err(format!("more than {MAX_TYPES} types").into());
        }
        match schema {
            Schema::Array(array) => self.check(&array.items),
            Schema::Map(map) => self.check(&map.types),
            Schema::Union(union) => union.variants().iter().try_for_each(|one| self.check(one)),
            Schema::Record(record) => {
                self.records.insert(&record.name, record);
                self.fields(record)
            }
            Schema::Ref { name } => match self.records.get(name) {
                Some(record) => self.fields(record),
                // An enum or a fixed, which was looked at where it is defined.
                None => Ok(()),
            },
            Schema::Fixed(fixed)
            | Schema::Decimal(DecimalSchema {
                inner: InnerDecimalSchema::Fixed(fixed),
                ..
            }) if fixed.size > MAX_ALLOCATION_BYTES => {
                Err(format!("{} has {} bytes", fixed.name, fixed.size).into())
            }
            _ => Ok(()),
        }
    }

    fn fields(&mut self, record: &'a RecordSchema) -> Result<(), BoxError> {
        if self.open.contains(&&record.name) {
            return Err(format!("{} holds itself", record.name).into());
        }
        self.open.push(&record.name);
        for field in &record.fields {
            self.check(&field.schema)?;
        }
        self.open.pop();
        Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(schema: &serde_json::Value) -> String {
        WriterSchema::parse(&schema.to_string())
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    fn record(name: &str, fields: &[serde_json::Value]) -> serde_json::Value {
        let fields = fields.iter().enumerate();
        let fields: Vec<_> = fields
            .map(|(n, of)| serde_json::json!({"name": format!("f{n}"), "type": of}))
            .collect();
        serde_json::json!({"type": "record", "name": name, "fields": fields})
    }

    #[test]
    fn schemas_that_would_end_the_process_are_refused() {
        use serde_json::json;
        let list = record("a.List", &[json!(["null", "a.List"])]);
        assert!(
            refusal(&list).contains("List holds itself"),
            "{}",
            refusal(&list)
        );
        let fixed = json!({"type": "fixed", "name": "F", "size": 1_000_000_000_000_u64});
        assert!(refusal(&record("R", &[fixed])).contains("bytes"));
        let mut doubled = record("R0", &[]);
        for level in 1..40 {
            let below = json!(format!("R{}", level - 1));
            doubled = record(&format!("R{level}"), &[doubled, below]);
        }
        assert!(
            refusal(&doubled).contains("10000 types"),
            "{}",
            refusal(&doubled)
        );
        // Used twice is not used within itself.
        let twice = record("R", &[record("E", &[json!("string")]), json!("E")]);
        assert_eq!(refusal(&twice), "");
    }
}
