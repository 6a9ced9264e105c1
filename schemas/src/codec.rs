//! Which schemas a topic has had, and how a value of each becomes the present Rust type.

use std::collections::HashMap;
use std::error::Error;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The largest allocation that a length inside a value may ask for: above the 1 MiB of inline
/// content with room for a user's larger `message.max.bytes`, below what hurts.
pub(crate) const MAX_ALLOCATION_BYTES: usize = 64 << 20;

/// One committed schema file.
#[derive(Clone, Copy, Debug)]
pub struct SchemaVersion {
    /// The file's name without `.avsc`, e.g. `v1`.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

/// A type that travels on a topic.
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The topic's name without the configured prefix.
    const TOPIC: &'static str;
    /// The schema that is written, as JSON text.
    const SCHEMA: &'static str;
    /// All schemas that the topic has had, parsed once.
    fn schemas() -> &'static TopicSchemas;
}

/// A topic's schemas, oldest first; the last one is written and is what the Rust type follows.
pub struct TopicSchemas {
    topic: &'static str,
    versions: &'static [SchemaVersion],
    schemas: &'static [Schema],
    /// By the fingerprint's eight bytes as they stand on the wire.
    by_fingerprint: HashMap<[u8; 8], usize>,
    fingerprints: Vec<[u8; 8]>,
    writer: GenericDatumWriter<'static>,
    reader: GenericDatumReader<'static>,
}

impl TopicSchemas {
    /// Parses `versions`. They are constants of this crate that its tests parse too.
    pub(crate) fn parse(versions: &'static [SchemaVersion]) -> Vec<Schema> {
        apache_avro::util::max_allocation_bytes(MAX_ALLOCATION_BYTES);
        versions
            .iter()
            .map(|version| match Schema::parse_str(version.text) {
                Ok(schema) => schema,
                Err(error) => panic!(
                    "schema {} is compiled in and invalid: {error}",
                    version.name
                ),
            })
            .collect()
    }

    pub(crate) fn new(
        topic: &'static str,
        versions: &'static [SchemaVersion],
        schemas: &'static [Schema],
    ) -> Self {
        let Some(newest) = schemas.last() else {
            panic!("topic {topic} is compiled in without a schema");
        };
        let fingerprints: Vec<[u8; 8]> = schemas.iter().map(fingerprint).collect();
        let codec = GenericDatumWriter::builder(newest)
            .build()
            .and_then(|writer| Ok((writer, GenericDatumReader::builder(newest).build()?)));
        let (writer, reader) = match codec {
            Ok(codec) => codec,
            Err(error) => panic!("schema of {topic} is compiled in and does not resolve: {error}"),
        };
        Self {
            topic,
            versions,
            schemas,
            by_fingerprint: fingerprints
                .iter()
                .enumerate()
                .map(|(i, f)| (*f, i))
                .collect(),
            fingerprints,
            writer,
            reader,
        }
    }

    /// The topic's name without the configured prefix.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The committed files, oldest first.
    #[must_use]
    pub fn versions(&self) -> &'static [SchemaVersion] {
        self.versions
    }

    /// The parsed files, oldest first.
    #[must_use]
    pub fn parsed(&self) -> &'static [Schema] {
        self.schemas
    }

    /// CRC-64-AVRO of each version's canonical form, little endian, oldest first.
    #[must_use]
    pub fn fingerprints(&self) -> &[[u8; 8]] {
        &self.fingerprints
    }

    pub(crate) fn newest_fingerprint(&self) -> [u8; 8] {
        self.fingerprints[self.fingerprints.len() - 1]
    }

    pub(crate) fn by_fingerprint(&self, fingerprint: [u8; 8]) -> Option<&'static Schema> {
        self.by_fingerprint
            .get(&fingerprint)
            .map(|&index| &self.schemas[index])
    }

    pub(crate) fn newest(&self) -> &'static Schema {
        &self.schemas[self.schemas.len() - 1]
    }

    pub(crate) fn write<M: Serialize>(
        &self,
        out: &mut Vec<u8>,
        message: &M,
    ) -> Result<(), BoxError> {
        self.writer.write_ser(out, message)?;
        Ok(())
    }

    /// Reads what `writer` wrote. The present schema is read straight into the Rust type; an older
    /// one goes through a generic value and Avro's resolution rules.
    pub(crate) fn read<M: DeserializeOwned>(
        &self,
        writer: &Schema,
        mut bytes: &[u8],
    ) -> Result<M, BoxError> {
        let message = if std::ptr::eq(writer, self.newest()) {
            self.reader.read_deser(&mut bytes)?
        } else {
            let reader = GenericDatumReader::builder(writer)
                .reader_schema(self.newest())
                .build()?;
            let value = reader.read_value(&mut bytes)?;
            apache_avro::from_value(&value)?
        };
        if bytes.is_empty() {
            Ok(message)
        } else {
            Err(format!("{} bytes after the value's end", bytes.len()).into())
        }
    }
}

/// CRC-64-AVRO of the schema's canonical form, little endian as single-object encoding wants it.
pub(crate) fn fingerprint(schema: &Schema) -> [u8; 8] {
    // apache-avro 0.22 drops a logical type and leaves the `{"type":"long"}` that held it, which the
    // specification's rule PRIMITIVES makes `"long"`: its own fingerprint is one that no other Avro
    // library knows. No name or symbol of a canonical form holds a quote, so text is enough.
    let canonical = PRIMITIVES
        .iter()
        .fold(schema.canonical_form(), |form, primitive| {
            form.replace(
                &format!(r#"{{"type":"{primitive}"}}"#),
                &format!(r#""{primitive}""#),
            )
        });
    let canonical = match Schema::parse_str(&canonical) {
        Ok(canonical) => canonical,
        Err(error) => panic!("the canonical form of a schema is a schema: {error}"),
    };
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&canonical.fingerprint::<Rabin>().bytes);
    bytes
}

/// Avro's primitive types.
const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

/// All topics that have schemas.
#[must_use]
pub fn catalogue() -> [&'static TopicSchemas; 15] {
    [
        crate::DocumentNotice::schemas(),
        crate::Signal::schemas(),
        crate::DocumentOutcome::schemas(),
        crate::BehaviorEvent::schemas(),
        crate::BehaviorByItem::schemas(),
        crate::BehaviorByRequest::schemas(),
        crate::UnmatchedBehavior::schemas(),
        crate::Feedback::schemas(),
        crate::ItemStats::schemas(),
        crate::Impression::schemas(),
        crate::TrainingExample::schemas(),
        crate::User::schemas(),
        crate::AuditEvent::schemas(),
        crate::DeadLetterResolution::schemas(),
        crate::Rollout::schemas(),
    ]
}

/// Ties a type to its topic and to the files `avro/<topic>/<version>.avsc`, oldest first.
macro_rules! message {
    ($type:ty, $topic:literal, older: [$($older:literal),*], newest: $newest:literal) => {
        const _: () = {
            use std::sync::LazyLock;
            use $crate::codec::{Message, SchemaVersion, TopicSchemas};

            static VERSIONS: &[SchemaVersion] = &[
                $(SchemaVersion {
                    name: $older,
                    text: include_str!(concat!("../avro/", $topic, "/", $older, ".avsc")),
                },)*
                SchemaVersion { name: $newest, text: <$type as Message>::SCHEMA },
            ];
            static PARSED: LazyLock<Vec<apache_avro::Schema>> =
                LazyLock::new(|| TopicSchemas::parse(VERSIONS));
            static SCHEMAS: LazyLock<TopicSchemas> =
                LazyLock::new(|| TopicSchemas::new($topic, VERSIONS, &PARSED));

            impl Message for $type {
                const TOPIC: &'static str = $topic;
                const SCHEMA: &'static str =
                    include_str!(concat!("../avro/", $topic, "/", $newest, ".avsc"));
                fn schemas() -> &'static TopicSchemas {
                    &SCHEMAS
                }
            }
        };
    };
}
pub(crate) use message;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use apache_avro::types::Value;
    use serde::Deserialize;

    static VERSIONS: &[SchemaVersion] = &[
        SchemaVersion {
            name: "v1",
            text: r#"{"type":"record","name":"T","fields":[{"name":"a","type":"string"},
                {"name":"k","type":{"type":"enum","name":"K","symbols":["x","y"],"default":"x"}}]}"#,
        },
        SchemaVersion {
            name: "v2",
            text: r#"{"type":"record","name":"T","fields":[{"name":"a","type":"string"},
                {"name":"k","type":{"type":"enum","name":"K","symbols":["x","y","z"],"default":"x"}},
                {"name":"b","type":["null","long"],"default":null},
                {"name":"v","type":{"type":"array","items":"float"},"default":[]}]}"#,
        },
    ];

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum K {
        X,
        Y,
        Z,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct T {
        a: String,
        k: K,
        b: Option<i64>,
        v: Vec<f32>,
    }

    fn leaked(versions: &'static [SchemaVersion]) -> TopicSchemas {
        TopicSchemas::new("t", versions, Vec::leak(TopicSchemas::parse(versions)))
    }

    fn datum(schema: &Schema, fields: &[(&str, Value)]) -> Vec<u8> {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        GenericDatumWriter::builder(schema)
            .build()
            .unwrap()
            .write_value_to_vec(Value::Record(fields))
            .unwrap()
    }

    #[test]
    fn an_older_writer_resolves_to_the_newer_reader() {
        let schemas = leaked(VERSIONS);
        let old = &schemas.parsed()[0];
        let bytes = datum(
            old,
            &[
                ("a", Value::String("hi".into())),
                ("k", Value::Enum(1, "y".into())),
            ],
        );
        let message: T = schemas.read(old, &bytes).unwrap();
        assert_eq!(
            message,
            T {
                a: "hi".into(),
                k: K::Y,
                b: None,
                v: vec![]
            }
        );
    }

    #[test]
    fn a_newer_writer_resolves_to_the_older_reader() {
        let (newer, older) = (leaked(VERSIONS), leaked(&VERSIONS[..1]));
        let mut bytes = Vec::new();
        let message = T {
            a: "hi".into(),
            k: K::Z,
            b: Some(1),
            v: vec![0.5],
        };
        newer.write(&mut bytes, &message).unwrap();

        #[derive(Debug, PartialEq, Deserialize)]
        struct Old {
            a: String,
            k: K,
        }
        let read: Old = older.read(newer.newest(), &bytes).unwrap();
        assert_eq!(
            read,
            Old {
                a: "hi".into(),
                k: K::X
            },
            "an unknown symbol reads as the default"
        );
    }

    #[test]
    fn bytes_after_the_end_are_malformed() {
        let schemas = leaked(VERSIONS);
        let mut bytes = Vec::new();
        schemas
            .write(
                &mut bytes,
                &T {
                    a: "hi".into(),
                    k: K::X,
                    b: None,
                    v: vec![],
                },
            )
            .unwrap();
        bytes.push(0);
        assert!(schemas.read::<T>(schemas.newest(), &bytes).is_err());
    }
}
