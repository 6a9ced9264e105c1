//! The partition that Java's default partitioner chooses for a key.
//!
//! librdkafka's `murmur2_random` does the same from the record's key. This is for records that are
//! partitioned by something else: `signals` are keyed by item and model, and partitioned by item.

/// Kafka's variant of `MurmurHash2` (32 bits, seed `0x9747b28c`), after
/// `org.apache.kafka.common.utils.Utils.murmur2`.
#[must_use]
pub fn java_murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java's lengths are 32 bits; a key is far shorter.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as in the original, modulo 2^32"
    )]
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of `key` among `partitions`, which must be positive.
#[must_use]
pub fn java_partition(key: &[u8], partitions: i32) -> i32 {
    // Java's `toPositive` clears the sign bit; it does not take the absolute value.
    let positive = (java_murmur2(key) & 0x7fff_ffff).cast_signed();
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_equals_javas() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(
                java_murmur2(key.as_bytes()).cast_signed(),
                expected,
                "{key}"
            );
        }
    }
}
