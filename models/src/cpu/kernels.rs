//! The element-wise passes: GELU, softmax and LayerNorm, vectorised for the CPU that runs them.
//!
//! Each is written as plain loops over lanes and compiled once for AVX-512, once for AVX2 with FMA
//! and once for neither; `pulp` picks at run time. The loops are not written with `f32::exp` and
//! `f32::tanh`: calls into the maths library don't vectorise and cost more than all the matrix
//! products' overhead.

use pulp::{Arch, Simd, WithSimd};

/// Accumulators a pass keeps: one AVX-512 register or two AVX2 ones.
const LANES: usize = 16;

/// The vectorised passes for this machine.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    arch: Arch,
}

impl Kernels {
    /// Picks the instructions once.
    #[must_use]
    pub fn detect() -> Self {
        Self { arch: Arch::new() }
    }

    /// `x ← x·Φ(x)`, the exact GELU (by the error function, not the tanh approximation).
    pub fn gelu(self, values: &mut [f32]) {
        self.arch.dispatch(Gelu(values));
    }

    /// The same, with the derivative Φ(x) + x·φ(x) of each value in `slopes`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn gelu_with_slope(self, values: &mut [f32], slopes: &mut [f32]) {
        assert_eq!(values.len(), slopes.len());
        self.arch.dispatch(GeluWithSlope { values, slopes });
    }

    /// Softmax of each row of `columns` values.
    pub fn softmax_rows(self, values: &mut [f32], columns: usize) {
        self.arch.dispatch(SoftmaxRows { values, columns });
    }

    /// `row ← (row − mean) / √(variance + epsilon) · gain + bias` for each row.
    pub fn layer_norm(self, values: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
        debug_assert_eq!(gain.len(), bias.len());
        self.arch.dispatch(LayerNorm {
            values,
            gain,
            bias,
            epsilon,
        });
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for value in self.0.iter_mut() {
            *value *= 0.5 + 0.5 * erf::<S>(*value * std::f32::consts::FRAC_1_SQRT_2);
        }
    }
}

struct GeluWithSlope<'a> {
    values: &'a mut [f32],
    slopes: &'a mut [f32],
}

impl WithSimd for GeluWithSlope<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        /// 1/√(2π)
        const DENSITY: f32 = 0.398_942_3;
        for (value, slope) in self.values.iter_mut().zip(self.slopes.iter_mut()) {
            let x = *value;
            let below = 0.5 + 0.5 * erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2);
            *value = x * below;
            *slope = below + x * DENSITY * exp::<S>(-0.5 * x * x);
        }
    }
}

struct SoftmaxRows<'a> {
    values: &'a mut [f32],
    columns: usize,
}

impl WithSimd for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.values.chunks_exact_mut(self.columns) {
            let largest = largest(row);
            let mut lanes = [0.0; LANES];
            let (whole, rest) = row.as_chunks_mut::<LANES>();
            for chunk in whole {
                for (value, lane) in chunk.iter_mut().zip(&mut lanes) {
                    *value = exp::<S>(*value - largest);
                    *lane += *value;
                }
            }
            let mut total = lanes.iter().sum::<f32>();
            for value in rest {
                *value = exp::<S>(*value - largest);
                total += *value;
            }
            let scale = 1.0 / total;
            for value in row.iter_mut() {
                *value *= scale;
            }
        }
    }
}

struct LayerNorm<'a> {
    values: &'a mut [f32],
    gain: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
}

impl WithSimd for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.gain.len();
        for row in self.values.chunks_exact_mut(width) {
            let mean = sum(row) / width as f32;
            // Two passes: the one-pass formula cancels where the mean is large against the spread.
            let variance = squares::<S>(row, mean) / width as f32;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            for ((value, gain), bias) in row.iter_mut().zip(self.gain).zip(self.bias) {
                *value = multiply_add::<S>((*value - mean) * scale, *gain, *bias);
            }
        }
    }
}

/// `a·b + c` in one rounding where the CPU has the instruction. Without it `f32::mul_add` would be
/// a call into the maths library.
#[inline(always)]
fn multiply_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::IS_SCALAR {
        a * b + c
    } else {
        a.mul_add(b, c)
    }
}

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            // Not `f32::max`: its rule for NaN costs two more instructions a lane.
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b))
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// Sum of squared distances from `mean`.
#[inline(always)]
fn squares<S: Simd>(row: &[f32], mean: f32) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            let distance = value - mean;
            *lane = multiply_add::<S>(distance, distance, *lane);
        }
    }
    lanes.iter().sum::<f32>()
        + rest
            .iter()
            .map(|value| (value - mean) * (value - mean))
            .sum::<f32>()
}

/// The error function as a quotient of polynomials in x², clamped to ±4 where it is ±1 in f32.
/// Coefficients: Eigen, `generic_fast_erf_float`; error below 5 units in the last place.
#[inline(always)]
fn erf<S: Simd>(x: f32) -> f32 {
    const NUMERATOR: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024_1e-6,
        -5.692_506_4e-5,
        -7.349_906_4e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const DENOMINATOR: [f32; 5] = [
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_473_9e-2,
    ];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    x * polynomial::<S, 7>(NUMERATOR, square) / polynomial::<S, 5>(DENOMINATOR, square)
}

/// e^x for x ≤ 0 (softmax subtracts the largest): x = n·ln 2 + r, a polynomial for e^r (Cephes,
/// `expf`), and n added to the exponent's bits. Below −87 the result is the smallest normal number
/// and not 0, which no softmax can tell apart.
#[inline(always)]
fn exp<S: Simd>(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let x = if x > -87.0 { x } else { -87.0 };
    let rounded = multiply_add::<S>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    // ln 2 in two parts, so that the difference keeps its low bits.
    let r = multiply_add::<S>(n, -0.693_359_4, x);
    let r = multiply_add::<S>(n, 2.121_944_4e-4, r);
    let p = multiply_add::<S>(polynomial::<S, 6>(COEFFICIENTS, r) * r, r, r + 1.0);
    f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// Horner's scheme, the highest coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut value = coefficients[0];
    for coefficient in &coefficients[1..] {
        value = multiply_add::<S>(value, x, *coefficient);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Kernels; 2] {
        [Kernels::detect(), Kernels { arch: Arch::Scalar }]
    }

    fn ramp(count: usize, from: f64, to: f64) -> Vec<f32> {
        (0..count)
            .map(|i| (from + (to - from) * i as f64 / (count - 1) as f64) as f32)
            .collect()
    }

    /// Abramowitz and Stegun 7.1.5, summed in f64: exact to 1e-15 for |x| ≤ 3, and 7.1.14's
    /// continued fraction beyond.
    fn exact_erf(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let (mut term, mut total) = (x, x);
            for n in 1..80 {
                term *= -x * x / f64::from(n);
                total += term / f64::from(2 * n + 1);
            }
            return total * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let a = x.abs();
        let fraction = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
        let tail = (-a * a).exp() / fraction / std::f64::consts::PI.sqrt();
        (1.0 - tail).copysign(x)
    }

    #[test]
    fn gelu_is_the_exact_one() {
        for kernels in both() {
            let inputs = ramp(40_001, -12.0, 12.0);
            let mut outputs = inputs.clone();
            kernels.gelu(&mut outputs);
            for (x, y) in inputs.iter().zip(&outputs) {
                let x = f64::from(*x);
                let exact = x * 0.5 * (1.0 + exact_erf(x / std::f64::consts::SQRT_2));
                let error = (f64::from(*y) - exact).abs();
                assert!(
                    error <= 1e-6 * x.abs().max(1.0),
                    "gelu({x}) = {y}, exactly {exact}"
                );
            }
        }
    }

    #[test]
    fn the_slope_is_that_of_the_exact_gelu() {
        for kernels in both() {
            let inputs = ramp(40_001, -12.0, 12.0);
            let mut outputs = inputs.clone();
            let mut slopes = vec![0.0; inputs.len()];
            kernels.gelu_with_slope(&mut outputs, &mut slopes);
            let mut plain = inputs.clone();
            kernels.gelu(&mut plain);
            assert_eq!(outputs, plain);
            for (x, slope) in inputs.iter().zip(&slopes) {
                let x = f64::from(*x);
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let exact = 0.5 * (1.0 + exact_erf(x / std::f64::consts::SQRT_2)) + x * density;
                let error = (f64::from(*slope) - exact).abs();
                assert!(error <= 2e-6, "gelu'({x}) = {slope}, exactly {exact}");
            }
        }
    }

    #[test]
    fn softmax_rows_are_probabilities() {
        for kernels in both() {
            for columns in [1, 2, 15, 16, 17, 100, 257] {
                let inputs: Vec<f32> = (0..3 * columns)
                    .map(|i| ((i * 7919) % 311) as f32 / 10.0 - 15.0)
                    .collect();
                let mut outputs = inputs.clone();
                kernels.softmax_rows(&mut outputs, columns);
                for (row, result) in inputs.chunks(columns).zip(outputs.chunks(columns)) {
                    let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                    for (x, y) in row.iter().zip(result) {
                        let exact = f64::from(*x).exp() / total;
                        assert!((f64::from(*y) - exact).abs() <= 1e-6, "{y} against {exact}");
                    }
                }
            }
        }
    }

    #[test]
    fn softmax_survives_extremes() {
        for kernels in both() {
            let mut row = [3e4, -3e4, 3e4, f32::MIN];
            kernels.softmax_rows(&mut row, 4);
            assert!(row.iter().all(|p| p.is_finite()));
            assert!((row[0] - 0.5).abs() < 1e-6 && (row[2] - 0.5).abs() < 1e-6 && row[1] < 1e-30);
        }
    }

    #[test]
    fn layer_norm_centres_and_scales() {
        for kernels in both() {
            for width in [5, 16, 31, 384] {
                // A mean of 1,000 against a spread of 1: where a one-pass variance fails.
                let inputs: Vec<f32> = (0..2 * width)
                    .map(|i| 1_000.0 + ((i * 7919) % 311) as f32 / 155.0)
                    .collect();
                let (gain, bias) = (ramp(width, 0.5, 2.0), ramp(width, -1.0, 1.0));
                let mut outputs = inputs.clone();
                kernels.layer_norm(&mut outputs, &gain, &bias, 1e-12);
                for (row, result) in inputs.chunks(width).zip(outputs.chunks(width)) {
                    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
                    let variance = row
                        .iter()
                        .map(|x| (f64::from(*x) - mean).powi(2))
                        .sum::<f64>()
                        / width as f64;
                    for (i, y) in result.iter().enumerate() {
                        let exact = (f64::from(row[i]) - mean) / variance.sqrt()
                            * f64::from(gain[i])
                            + f64::from(bias[i]);
                        assert!((f64::from(*y) - exact).abs() < 2e-3, "{y} against {exact}");
                    }
                }
            }
        }
    }
}
