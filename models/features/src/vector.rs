//! Vectors of one embedding space, in a fixed order of operations: the same input gives the same
//! bits, on any number of threads.

use serde::{Deserialize, Serialize};

/// Partial sums of a dot product: independent of each other, so that the compiler may use vector
/// registers without changing a bit.
const LANES: usize = 16;

/// Shorter sums point nowhere: what is left of them is rounding.
const MIN_LENGTH: f64 = 1e-6;

/// The dot product; over the shorter length where they differ.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    lanes.into_iter().chain(rest).map(f64::from).sum()
}

/// The vector at length 1; `None` where it has no direction: empty, zero, or not finite.
pub(crate) fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = length(vector.iter().copied().map(f64::from));
    (length.is_finite() && length > MIN_LENGTH).then(|| {
        let scaled = vector.iter().map(|x| narrow(f64::from(*x) / length));
        scaled.collect()
    })
}

fn length(components: impl Iterator<Item = f64>) -> f64 {
    components.map(|x| x * x).sum::<f64>().sqrt()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "components of unit vectors, weights and counts: far within an f32"
)]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}

/// A weighted sum of unit vectors, as direction and length: what reads it mostly wants the
/// direction, and a decay changes the length alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct VectorSum {
    /// Length 1; empty while nothing was added.
    #[serde(with = "packed_floats")]
    direction: Vec<f32>,
    length: f64,
}

impl VectorSum {
    pub(crate) fn scale(&mut self, factor: f64) {
        self.length *= factor;
    }

    /// Adds `weight` times a unit vector. A vector of another dimension is of another space, and
    /// is not added.
    pub(crate) fn add(&mut self, weight: f64, unit: &[f32]) {
        if weight == 0.0 {
            return;
        }
        if self.direction.is_empty() {
            self.direction = vec![0.0; unit.len()];
            self.length = 0.0;
        }
        if self.direction.len() != unit.len() {
            return;
        }
        let old = self.length;
        let sum = |(direction, unit): (&f32, &f32)| {
            old * f64::from(*direction) + weight * f64::from(*unit)
        };
        let length = length(self.direction.iter().zip(unit).map(sum));
        if !(MIN_LENGTH..f64::INFINITY).contains(&length) {
            self.direction.fill(0.0);
            self.length = 0.0;
            return;
        }
        for (direction, unit) in self.direction.iter_mut().zip(unit) {
            *direction = narrow(sum((direction, unit)) / length);
        }
        self.length = length;
    }

    /// Length 1; `None` where the sum points nowhere.
    pub(crate) fn direction(&self) -> Option<&[f32]> {
        (self.length >= MIN_LENGTH).then_some(self.direction.as_slice())
    }

    /// `None` while nothing was added.
    pub(crate) fn dimension(&self) -> Option<usize> {
        (!self.direction.is_empty()).then_some(self.direction.len())
    }

    pub(crate) fn length(&self) -> f64 {
        self.length
    }
}

/// A unit vector in a byte a component: a quarter of the size, and cosines right to some 0.002.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SmallVector {
    #[serde(with = "packed_bytes")]
    components: Vec<i8>,
    /// What makes the length 1 again.
    scale: f32,
}

impl SmallVector {
    /// Of a unit vector.
    pub(crate) fn of(unit: &[f32]) -> Self {
        let greatest = unit.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within ±127; of NaN, which no unit vector has, 0"
        )]
        let small = |x: &f32| (x / greatest * 127.0).round() as i8;
        let components: Vec<i8> = unit.iter().map(small).collect();
        let length = length(components.iter().map(|x| f64::from(*x)));
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        Self {
            components,
            scale: narrow(scale),
        }
    }

    pub(crate) fn dimension(&self) -> usize {
        self.components.len()
    }

    pub(crate) fn dot(&self, vector: &[f32]) -> f64 {
        let (a_chunks, a_rest) = self.components.as_chunks::<LANES>();
        let (b_chunks, b_rest) = vector.as_chunks::<LANES>();
        let mut lanes = [0.0_f32; LANES];
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for lane in 0..LANES {
                lanes[lane] += f32::from(a[lane]) * b[lane];
            }
        }
        let rest = a_rest.iter().zip(b_rest).map(|(a, b)| f32::from(*a) * b);
        let sum: f64 = lanes.into_iter().chain(rest).map(f64::from).sum();
        sum * f64::from(self.scale)
    }

    pub(crate) fn to_vec(&self) -> Vec<f32> {
        let component = |x: &i8| f32::from(*x) * self.scale;
        self.components.iter().map(component).collect()
    }
}

/// Numbers for people; else bytes at once, since a format that goes number by number takes longer
/// for one vector than for all the rest of a profile.
mod packed_floats {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use super::packed_bytes::Bytes;

    pub(super) fn serialize<S: Serializer>(
        vector: &[f32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return vector.serialize(serializer);
        }
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f32>, D::Error> {
        if deserializer.is_human_readable() {
            return Vec::deserialize(deserializer);
        }
        let bytes = deserializer.deserialize_byte_buf(Bytes)?;
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(D::Error::custom("not a whole number of 32-bit floats"));
        }
        Ok(floats.iter().map(|x| f32::from_le_bytes(*x)).collect())
    }
}

mod packed_bytes {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }

    pub(super) fn serialize<S: Serializer>(
        components: &[i8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return components.serialize(serializer);
        }
        let bytes: Vec<u8> = components.iter().map(|x| x.cast_unsigned()).collect();
        serializer.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<i8>, D::Error> {
        if deserializer.is_human_readable() {
            return Vec::deserialize(deserializer);
        }
        let bytes = deserializer.deserialize_byte_buf(Bytes)?;
        Ok(bytes.into_iter().map(u8::cast_signed).collect())
    }
}
