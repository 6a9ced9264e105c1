//! Linear layers there and back: `y = x·Wᵀ + b`, with W as it is stored, `[outputs, inputs]`.

use millrace_models::cpu::{Matrix, MatrixMut, Parallelism, multiply};

use super::kernels::{ColumnSums, run};
use crate::parameters::Linear;

/// `y = x·Wᵀ + b`
pub(crate) fn apply(parameters: &[f32], linear: &Linear, x: &[f32], y: &mut [f32]) {
    for row in y.chunks_exact_mut(linear.outputs) {
        row.copy_from_slice(&parameters[linear.bias.clone()]);
    }
    accumulate(parameters, linear, x, y);
}

/// `y += x·Wᵀ + b`
pub(crate) fn add_to(parameters: &[f32], linear: &Linear, x: &[f32], y: &mut [f32]) {
    let bias = &parameters[linear.bias.clone()];
    for row in y.chunks_exact_mut(linear.outputs) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
    accumulate(parameters, linear, x, y);
}

/// Adds to the gradients of W and b, and writes that of x: `dx = dy·W`.
pub(crate) fn backward_into(
    parameters: &[f32],
    linear: &Linear,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    gradients: &mut [f32],
) {
    backward(parameters, linear, x, dy, dx, false, gradients);
}

/// The same, adding to the gradient of x.
pub(crate) fn backward_adding(
    parameters: &[f32],
    linear: &Linear,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    gradients: &mut [f32],
) {
    backward(parameters, linear, x, dy, dx, true, gradients);
}

fn accumulate(parameters: &[f32], linear: &Linear, x: &[f32], y: &mut [f32]) {
    let (inputs, outputs) = (linear.inputs, linear.outputs);
    let rows = x.len() / inputs;
    multiply(
        &mut MatrixMut::new(y, rows, outputs, outputs),
        true,
        Matrix::new(x, rows, inputs, inputs),
        Matrix::new(&parameters[linear.weight.clone()], outputs, inputs, inputs).transposed(),
        Parallelism::None,
    );
}

fn backward(
    parameters: &[f32],
    linear: &Linear,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
    gradients: &mut [f32],
) {
    let (inputs, outputs) = (linear.inputs, linear.outputs);
    let rows = x.len() / inputs;
    let x = Matrix::new(x, rows, inputs, inputs);
    let (dy_rows, dy) = (dy, Matrix::new(dy, rows, outputs, outputs));
    multiply(
        &mut MatrixMut::new(
            &mut gradients[linear.weight.clone()],
            outputs,
            inputs,
            inputs,
        ),
        true,
        dy.transposed(),
        x,
        Parallelism::None,
    );
    run(ColumnSums {
        rows: dy_rows,
        sums: &mut gradients[linear.bias.clone()],
    });
    multiply(
        &mut MatrixMut::new(dx, rows, inputs, inputs),
        accumulate,
        dy,
        Matrix::new(&parameters[linear.weight.clone()], outputs, inputs, inputs),
        Parallelism::None,
    );
}
