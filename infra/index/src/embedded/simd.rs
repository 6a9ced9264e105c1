//! Inner products for the scan: AVX2 where the machine has it, plain loops elsewhere.
#![allow(unsafe_code)]

/// Inner product of two equally long slices of values in -127..=127.
#[inline]
pub(super) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    debug_assert_eq!(a.len(), b.len());
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { avx2::dot_i8(a, b) };
    }
    a.iter()
        .zip(b)
        .map(|(x, y)| i32::from(*x) * i32::from(*y))
        .sum()
}

/// Inner product of two equally long slices.
#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    // Eight sums that do not wait for each other: the compiler makes one vector register of them.
    let mut sums = [0_f32; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = left
        .remainder()
        .iter()
        .zip(right.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in left.zip(right) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16,
        _mm256_madd_epi16, _mm256_setzero_si256, _mm256_storeu_si256,
    };

    #[target_feature(enable = "avx2")]
    pub(super) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
        let mut sums = (_mm256_setzero_si256(), _mm256_setzero_si256());
        let (left, right) = (a.chunks_exact(32), b.chunks_exact(32));
        let tail: i32 = left
            .remainder()
            .iter()
            .zip(right.remainder())
            .map(|(x, y)| i32::from(*x) * i32::from(*y))
            .sum();
        for (x, y) in left.zip(right) {
            sums.0 = _mm256_add_epi32(sums.0, products(&x[..16], &y[..16]));
            sums.1 = _mm256_add_epi32(sums.1, products(&x[16..], &y[16..]));
        }
        let mut lanes = [0_i32; 8];
        // SAFETY: `lanes` has the 32 bytes that an unaligned store writes.
        unsafe {
            _mm256_storeu_si256(
                lanes.as_mut_ptr().cast::<__m256i>(),
                _mm256_add_epi32(sums.0, sums.1),
            );
        }
        lanes.iter().sum::<i32>() + tail
    }

    /// Eight sums of two products each.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn products(x: &[i8], y: &[i8]) -> __m256i {
        assert!(x.len() == 16 && y.len() == 16);
        // SAFETY: both slices have the 16 bytes that an unaligned load reads.
        let (x, y) = unsafe {
            (
                _mm_loadu_si128(x.as_ptr().cast::<__m128i>()),
                _mm_loadu_si128(y.as_ptr().cast::<__m128i>()),
            )
        };
        // Widened to 16 bits first: 8-bit multiply-add saturates.
        _mm256_madd_epi16(_mm256_cvtepi8_epi16(x), _mm256_cvtepi8_epi16(y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_plain_sum_at_every_length() {
        for len in [0, 1, 7, 8, 31, 32, 33, 64, 100, 384] {
            let a: Vec<i8> = (0..len).map(|i| ((i * 37) % 255 - 127) as i8).collect();
            let b: Vec<i8> = (0..len)
                .map(|i| ((i * 91 + 13) % 255 - 127) as i8)
                .collect();
            let plain: i32 = a
                .iter()
                .zip(&b)
                .map(|(x, y)| i32::from(*x) * i32::from(*y))
                .sum();
            assert_eq!(dot_i8(&a, &b), plain, "length {len}");
            let floats = |v: &[i8]| v.iter().map(|x| f32::from(*x)).collect::<Vec<_>>();
            assert_eq!(dot(&floats(&a), &floats(&b)), plain as f32, "length {len}");
        }
    }
}
