//! What a layer is made of: linear maps and norms.

use crate::config::ModelConfig;
use crate::cpu::kernels::Kernels;
use crate::cpu::matmul::{Matrix, MatrixMut, Parallelism, multiply};
use crate::error::ModelError;
use crate::layout::LinearLayout;
use crate::weights::Weights;

/// `y = x·W + b`
pub(super) struct Linear {
    /// `[inputs, outputs]`, row-major.
    weight: Vec<f32>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

pub(super) struct LayerNorm {
    gain: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl Linear {
    /// Puts the parts side by side, each multiplied by its scale.
    pub fn load(weights: &Weights<'_>, layout: &LinearLayout) -> Result<Self, ModelError> {
        let LinearLayout {
            parts,
            inputs,
            outputs_each,
        } = layout;
        let (inputs, outputs_each) = (*inputs, *outputs_each);
        let outputs = parts.len() * outputs_each;
        let mut weight = vec![0.0; inputs * outputs];
        let mut bias = Vec::with_capacity(outputs);
        for (part, (name, scale)) in parts.iter().enumerate() {
            let scale = *scale as f32;
            // Stored as [outputs, inputs].
            let stored = weights.values(&format!("{name}.weight"), &[outputs_each, inputs])?;
            for (output, row) in stored.chunks_exact(inputs).enumerate() {
                for (input, value) in row.iter().enumerate() {
                    weight[input * outputs + part * outputs_each + output] = value * scale;
                }
            }
            let stored = weights.values(&format!("{name}.bias"), &[outputs_each])?;
            bias.extend(stored.iter().map(|value| value * scale));
        }
        Ok(Self {
            weight,
            bias,
            inputs,
            outputs,
        })
    }

    /// `y = x·W + b`
    pub fn apply(&self, x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        for row in y.chunks_exact_mut(self.outputs) {
            row.copy_from_slice(&self.bias);
        }
        self.accumulate(x, y, parallelism);
    }

    /// `y += x·W + b`
    pub fn add_to(&self, x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        for row in y.chunks_exact_mut(self.outputs) {
            add(row, &self.bias);
        }
        self.accumulate(x, y, parallelism);
    }

    fn accumulate(&self, x: &[f32], y: &mut [f32], parallelism: Parallelism) {
        let rows = x.len() / self.inputs;
        multiply(
            &mut MatrixMut::new(y, rows, self.outputs, self.outputs),
            true,
            Matrix::new(x, rows, self.inputs, self.inputs),
            Matrix::new(&self.weight, self.inputs, self.outputs, self.outputs),
            parallelism,
        );
    }
}

impl LayerNorm {
    pub fn load(
        weights: &Weights<'_>,
        path: &str,
        config: &ModelConfig,
    ) -> Result<Self, ModelError> {
        let shape = [config.hidden_size];
        Ok(Self {
            gain: weights.values(&format!("{path}.weight"), &shape)?,
            bias: weights.values(&format!("{path}.bias"), &shape)?,
            epsilon: config.layer_norm_eps as f32,
        })
    }

    pub fn apply(&self, rows: &mut [f32], kernels: Kernels) {
        kernels.layer_norm(rows, &self.gain, &self.bias, self.epsilon);
    }
}

pub(super) fn add(row: &mut [f32], other: &[f32]) {
    for (value, other) in row.iter_mut().zip(other) {
        *value += other;
    }
}
