//! The element-wise passes of training, compiled for the CPU at hand as those of the encoder are.

use pulp::{Arch, Simd, WithSimd};

/// Accumulators a sum keeps, so that it can be vectorised: an AVX-512 register, or two of AVX2.
const LANES: usize = 16;

/// Layer norm of each row of `rows` in place; keeps what the way back needs: the normalised rows and
/// the reciprocal of each row's deviation.
pub(crate) struct NormForward<'a> {
    pub rows: &'a mut [f32],
    pub normalised: &'a mut [f32],
    pub scales: &'a mut [f32],
    pub gain: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f32,
}

/// Turns gradients of a layer norm's output into those of its input, and adds to those of its
/// parameters. With x̂ the normalised row and g = gain ∘ dy:
/// `dx = scale · (g − mean(g) − x̂ · mean(g ∘ x̂))`.
pub(crate) struct NormBackward<'a> {
    pub gradients: &'a mut [f32],
    pub normalised: &'a [f32],
    pub scales: &'a [f32],
    pub gain: &'a [f32],
    pub gain_gradient: &'a mut [f32],
    pub bias_gradient: &'a mut [f32],
}

/// `output = normalised ∘ gain + bias`: a layer norm's output again, from what was kept of it.
pub(crate) struct NormAgain<'a> {
    pub normalised: &'a [f32],
    pub gain: &'a [f32],
    pub bias: &'a [f32],
    pub output: &'a mut [f32],
}

/// Turns gradients of a softmax's rows into those of its inputs: `p ∘ (dp − Σ p ∘ dp)`.
pub(crate) struct SoftmaxBackward<'a> {
    pub probabilities: &'a [f32],
    pub gradients: &'a mut [f32],
    pub columns: usize,
}

/// Adds the rows up: a bias's gradient.
pub(crate) struct ColumnSums<'a> {
    pub rows: &'a [f32],
    pub sums: &'a mut [f32],
}

/// `values ∘= factors`
pub(crate) struct Multiply<'a> {
    pub values: &'a mut [f32],
    pub factors: &'a [f32],
}

/// One step of AdamW (Loshchilov and Hutter 2019) over a run of parameters, with the decay decoupled
/// from the gradient. Gradients come in shares, one a worker, that are added up here.
pub(crate) struct AdamW<'a> {
    pub parameters: &'a mut [f32],
    pub first_moments: &'a mut [f32],
    pub second_moments: &'a mut [f32],
    pub gradients: &'a [&'a [f32]],
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// Reciprocal root of the second moment's bias correction.
    pub root_correction: f32,
    /// What a parameter keeps of itself: 1 − learning rate · weight decay.
    pub kept: f32,
}

/// Runs a pass with this machine's best instructions.
pub(crate) fn run<P: WithSimd>(pass: P) -> P::Output {
    Arch::new().dispatch(pass)
}

impl WithSimd for NormForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.gain.len();
        let kept = self.normalised.chunks_exact_mut(width).zip(self.scales);
        for (row, (normalised, scale)) in self.rows.chunks_exact_mut(width).zip(kept) {
            let mean = lanes(row, |x| x) / width as f32;
            let variance = lanes(row, |x| (x - mean) * (x - mean)) / width as f32;
            *scale = 1.0 / (variance + self.epsilon).sqrt();
            for (((value, normalised), gain), bias) in
                row.iter_mut().zip(normalised).zip(self.gain).zip(self.bias)
            {
                *normalised = (*value - mean) * *scale;
                *value = *normalised * gain + bias;
            }
        }
    }
}

impl WithSimd for NormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.gain.len();
        let kept = self.normalised.chunks_exact(width).zip(self.scales);
        for (row, (normalised, scale)) in self.gradients.chunks_exact_mut(width).zip(kept) {
            for (((dy, normalised), gain), bias) in row
                .iter()
                .zip(normalised)
                .zip(self.gain_gradient.iter_mut())
                .zip(self.bias_gradient.iter_mut())
            {
                *gain += dy * normalised;
                *bias += dy;
            }
            for (dy, gain) in row.iter_mut().zip(self.gain) {
                *dy *= gain;
            }
            let mean = lanes(row, |g| g) / width as f32;
            let along = lanes_of_two(row, normalised) / width as f32;
            for (g, normalised) in row.iter_mut().zip(normalised) {
                *g = scale * (*g - mean - normalised * along);
            }
        }
    }
}

impl WithSimd for NormAgain<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.gain.len();
        let outputs = self.output.chunks_exact_mut(width);
        for (normalised, output) in self.normalised.chunks_exact(width).zip(outputs) {
            for (((output, x), gain), bias) in output
                .iter_mut()
                .zip(normalised)
                .zip(self.gain)
                .zip(self.bias)
            {
                *output = x * gain + bias;
            }
        }
    }
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.probabilities.chunks_exact(self.columns);
        for (p, dp) in rows.zip(self.gradients.chunks_exact_mut(self.columns)) {
            let along = lanes_of_two(p, dp);
            for (p, dp) in p.iter().zip(dp) {
                *dp = p * (*dp - along);
            }
        }
    }
}

impl WithSimd for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.rows.chunks_exact(self.sums.len()) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (value, factor) in self.values.iter_mut().zip(self.factors) {
            *value *= factor;
        }
    }
}

impl WithSimd for AdamW<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        /// Parameters at a time, small enough that their summed gradient stays in the first cache.
        const RUN: usize = 512;
        let mut total = [0.0; RUN];
        let moments = (self.first_moments.chunks_mut(RUN)).zip(self.second_moments.chunks_mut(RUN));
        let runs = self.parameters.chunks_mut(RUN).zip(moments).enumerate();
        for (index, (parameters, (first, second))) in runs {
            let total = &mut total[..parameters.len()];
            total.fill(0.0);
            for share in self.gradients {
                let share = &share[index * RUN..][..total.len()];
                for (total, gradient) in total.iter_mut().zip(share) {
                    *total += gradient;
                }
            }
            let moments = first.iter_mut().zip(second.iter_mut());
            for ((parameter, (first, second)), gradient) in
                parameters.iter_mut().zip(moments).zip(total.iter())
            {
                *first = self.beta1 * *first + (1.0 - self.beta1) * gradient;
                *second = self.beta2 * *second + (1.0 - self.beta2) * gradient * gradient;
                let deviation = second.sqrt() * self.root_correction + self.epsilon;
                *parameter = *parameter * self.kept - self.step_size * *first / deviation;
            }
        }
    }
}

/// Sum of `term` over the values, in lanes.
#[inline(always)]
fn lanes(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in whole {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += term(*value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| term(*value)).sum::<f32>()
}

/// Sum of the products, in lanes.
#[inline(always)]
fn lanes_of_two(a: &[f32], b: &[f32]) -> f32 {
    let ((whole_a, rest_a), (whole_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in whole_a.iter().zip(whole_b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
