//! `Vec<f32>` as Avro `bytes`, and as numbers in formats for people.
//!
//! An Avro array of floats goes through the codec number by number: 384 of them cost more than all
//! that a join does otherwise.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(vector: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return vector.serialize(serializer);
    }
    to_bytes(vector, serializer)
}

fn to_bytes<S: Serializer>(vector: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    apache_avro::serde::bytes::serialize(&bytes, serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<f32>, D::Error> {
    if deserializer.is_human_readable() {
        return Vec::deserialize(deserializer);
    }
    from_bytes(deserializer)
}

fn from_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let bytes = apache_avro::serde::bytes::deserialize(deserializer)?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(D::Error::custom(format_args!(
            "{} bytes are no vector of 32-bit floats",
            bytes.len()
        )));
    }
    Ok(floats
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// The same where numbers may be missing: NaN, and `null` in formats for people.
pub(crate) mod with_missing {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(row: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_seq(row.iter().map(|x| (!x.is_nan()).then_some(x)));
        }
        super::to_bytes(row, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f32>, D::Error> {
        if deserializer.is_human_readable() {
            let row = Vec::<Option<f32>>::deserialize(deserializer)?;
            return Ok(row.into_iter().map(|x| x.unwrap_or(f32::NAN)).collect());
        }
        super::from_bytes(deserializer)
    }
}
