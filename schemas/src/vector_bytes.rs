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
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    apache_avro::serde::bytes::serialize(&bytes, serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<f32>, D::Error> {
    if deserializer.is_human_readable() {
        return Vec::deserialize(deserializer);
    }
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
