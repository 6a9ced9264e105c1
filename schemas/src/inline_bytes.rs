//! `Option<Vec<u8>>` as Avro `["null", "bytes"]`, and as a base64 string in formats for people.
//!
//! serde's own form of `Vec<u8>` is a sequence of numbers, which Avro refuses and which makes JSON
//! four times as long as the content.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[expect(clippy::ref_option, reason = "serde's `with` fixes the signature")]
pub(crate) fn serialize<S: Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        bytes
            .as_ref()
            .map(|bytes| STANDARD.encode(bytes))
            .serialize(serializer)
    } else {
        apache_avro::serde::bytes_opt::serialize(bytes, serializer)
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<u8>>, D::Error> {
    if deserializer.is_human_readable() {
        // The text itself is not repeated in the error: it may be a document's.
        Option::<Cow<'de, str>>::deserialize(deserializer)?
            .map(|text| STANDARD.decode(text.as_bytes()))
            .transpose()
            .map_err(|error| D::Error::custom(format_args!("not base64: {error}")))
    } else {
        apache_avro::serde::bytes_opt::deserialize(deserializer)
    }
}
