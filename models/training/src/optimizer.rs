//! AdamW, fused: one pass over parameters, moments and gradients.

use std::ops::Range;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::network::{AdamW, run};
use crate::parameters::ParameterLayout;

/// How AdamW is set up. Without decay on biases and layer norms, as BERT was trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decoupled decay a step, times the learning rate.
    pub weight_decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self {
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// The moments of all parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Decayed means of the gradients.
    pub first: Vec<f32>,
    /// Decayed means of their squares.
    pub second: Vec<f32>,
}

/// A run of parameters with all that belongs to it.
struct Piece<'a> {
    parameters: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    range: Range<usize>,
    decays: bool,
}

/// Parameters that a thread takes at a time.
const PIECE: usize = 1 << 16;

impl Moments {
    /// Those of a model that has learnt nothing yet.
    #[must_use]
    pub fn zero(parameters: usize) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
        }
    }

    /// One step, the `step`-th from 1, with the sum of the gradients' shares.
    pub(crate) fn step(
        &mut self,
        options: AdamWOptions,
        layout: &ParameterLayout,
        parameters: &mut [f32],
        gradients: &[Vec<f32>],
        (step, learning_rate): (usize, f32),
        threads: &ThreadPool,
    ) {
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(step.min(1 << 30) as i32);
        let step_size = f64::from(learning_rate) / correction(options.beta1);
        let root_correction = 1.0 / correction(options.beta2).sqrt();
        let pieces = pieces(layout, parameters, &mut self.first, &mut self.second);
        threads.install(|| {
            pieces.into_par_iter().for_each(|piece| {
                let shares: Vec<&[f32]> = gradients
                    .iter()
                    .map(|share| &share[piece.range.clone()])
                    .collect();
                let decay = if piece.decays {
                    options.weight_decay
                } else {
                    0.0
                };
                run(AdamW {
                    parameters: piece.parameters,
                    first_moments: piece.first,
                    second_moments: piece.second,
                    gradients: &shares,
                    beta1: options.beta1,
                    beta2: options.beta2,
                    epsilon: options.epsilon,
                    step_size: step_size as f32,
                    root_correction: root_correction as f32,
                    kept: 1.0 - learning_rate * decay,
                });
            });
        });
    }
}

fn pieces<'a>(
    layout: &ParameterLayout,
    mut parameters: &'a mut [f32],
    mut first: &'a mut [f32],
    mut second: &'a mut [f32],
) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for (range, decays) in layout.decayed() {
        for start in range.clone().step_by(PIECE) {
            let range = start..range.end.min(start + PIECE);
            let (piece, rest) = parameters.split_at_mut(range.len());
            let (piece_first, rest_first) = first.split_at_mut(range.len());
            let (piece_second, rest_second) = second.split_at_mut(range.len());
            (parameters, first, second) = (rest, rest_first, rest_second);
            pieces.push(Piece {
                parameters: piece,
                first: piece_first,
                second: piece_second,
                range,
                decays,
            });
        }
    }
    pieces
}

/// The learning rate of a step, from 0, of `steps`: up to `peak` in a line over `warm_up` steps, then
/// down in a line, to 0 after the last.
#[must_use]
pub fn learning_rate(peak: f64, step: usize, warm_up: usize, steps: usize) -> f64 {
    if step < warm_up {
        peak * (step + 1) as f64 / warm_up as f64
    } else {
        peak * steps.saturating_sub(step) as f64 / steps.saturating_sub(warm_up).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_in_lines() {
        let rates: Vec<f64> = (0..10)
            .map(|step| learning_rate(8.0, step, 2, 10))
            .collect();
        assert_eq!(rates, [4.0, 8.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(learning_rate(8.0, 0, 0, 4), 8.0);
    }
}
