//! How a message becomes a record's value: single-object Avro, Confluent's wire format, JSON.
//!
//! Sources: Avro 1.12 specification, "Single-object encoding"; Confluent's "Wire format".

use serde_json::error::Category;

use crate::codec::BoxError;
use crate::{Message, SchemaError, SchemaRegistry, WriterSchema};

const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];
const CONFLUENT_MAGIC: u8 = 0x00;
const JSON_OPENING: u8 = b'{';

/// How a value is framed when it is written. Reading recognises all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `C3 01`, the schema's CRC-64-AVRO fingerprint in little endian, the datum.
    #[default]
    SingleObject,
    /// `00`, the registry's schema id in big endian, the datum.
    Confluent {
        /// What [`SchemaRegistry::register`] returned for [`Message::SCHEMA`].
        schema_id: i32,
    },
    /// One JSON object.
    Json,
}

/// The value of a record that carries `message`.
///
/// # Errors
/// [`SchemaError::Unencodable`] where the message does not fit its schema.
pub fn encode<M: Message>(message: &M, framing: &Framing) -> Result<Vec<u8>, SchemaError> {
    let schemas = M::schemas();
    let mut value = Vec::with_capacity(256);
    match framing {
        Framing::SingleObject => {
            value.extend_from_slice(&SINGLE_OBJECT_MARKER);
            value.extend_from_slice(&schemas.newest_fingerprint());
            schemas.write(&mut value, message)
        }
        Framing::Confluent { schema_id } => {
            value.push(CONFLUENT_MAGIC);
            value.extend_from_slice(&schema_id.to_be_bytes());
            schemas.write(&mut value, message)
        }
        Framing::Json => serde_json::to_writer(&mut value, message).map_err(Into::into),
    }
    .map_err(|source| SchemaError::Unencodable {
        topic: M::TOPIC,
        source,
    })?;
    Ok(value)
}

/// Reads a value that needs no registry.
///
/// # Errors
/// As [`SchemaError`] lists them; a Confluent-framed value is
/// [`SchemaError::RegistryNotConfigured`].
pub fn decode<M: Message>(value: &[u8]) -> Result<M, SchemaError> {
    match split(value)? {
        Framed::SingleObject { fingerprint, datum } => single_object(fingerprint, datum),
        Framed::Confluent { id, .. } => Err(SchemaError::RegistryNotConfigured { id }),
        Framed::Json => json(value),
    }
}

/// Reads a value of any framing, asking `registry` for the schemas of Confluent-framed ones.
///
/// # Errors
/// As [`SchemaError`] lists them.
pub async fn decode_with<M: Message>(
    value: &[u8],
    registry: Option<&dyn SchemaRegistry>,
) -> Result<M, SchemaError> {
    match (split(value)?, registry) {
        (Framed::Confluent { id, datum }, Some(registry)) => {
            let WriterSchema(writer) = registry.schema(id).await?;
            M::schemas()
                .read(&writer, datum)
                .map_err(|source| malformed::<M>("Confluent", source))
        }
        _ => decode(value),
    }
}

pub(crate) enum Framed<'a> {
    SingleObject {
        fingerprint: [u8; 8],
        datum: &'a [u8],
    },
    Confluent {
        id: i32,
        datum: &'a [u8],
    },
    Json,
}

pub(crate) fn split(value: &[u8]) -> Result<Framed<'_>, SchemaError> {
    if let Some(rest) = value.strip_prefix(&SINGLE_OBJECT_MARKER)
        && let Some((&fingerprint, datum)) = rest.split_first_chunk::<8>()
    {
        return Ok(Framed::SingleObject { fingerprint, datum });
    }
    match value.split_first() {
        Some((&CONFLUENT_MAGIC, rest)) if rest.len() >= 4 => {
            let (id, datum) = rest.split_at(4);
            let id = i32::from_be_bytes([id[0], id[1], id[2], id[3]]);
            Ok(Framed::Confluent { id, datum })
        }
        Some((&JSON_OPENING, _)) => Ok(Framed::Json),
        _ => Err(SchemaError::UnknownFraming {
            first_bytes: hex::encode(&value[..value.len().min(4)]),
        }),
    }
}

fn single_object<M: Message>(fingerprint: [u8; 8], datum: &[u8]) -> Result<M, SchemaError> {
    let schemas = M::schemas();
    let writer =
        schemas
            .by_fingerprint(fingerprint)
            .ok_or_else(|| SchemaError::UnknownFingerprint {
                topic: M::TOPIC,
                hex: hex::encode(fingerprint),
            })?;
    schemas
        .read(writer, datum)
        .map_err(|source| malformed::<M>("Avro", source))
}

fn json<M: Message>(value: &[u8]) -> Result<M, SchemaError> {
    serde_json::from_slice(value).map_err(|error| {
        // serde_json quotes the value in data errors ("invalid type: string …"), and a value may be
        // a document: only a missing field, which is the common mistake, is told in its words.
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let what = match error.classify() {
            Category::Data if text.starts_with("missing field") => text,
            Category::Data => format!("a field has the wrong type at line {line} column {column}"),
            Category::Eof => "the object is not closed".to_owned(),
            Category::Io | Category::Syntax => format!("not JSON at line {line} column {column}"),
        };
        malformed::<M>("JSON", what.into())
    })
}

fn malformed<M: Message>(framing: &'static str, source: BoxError) -> SchemaError {
    SchemaError::Malformed {
        topic: M::TOPIC,
        framing,
        source,
    }
}
