//! Attention over one sequence at a time, there and back.
//!
//! `query_key_value` is `[tokens, 3·hidden]`; the softmax scale is in the queries already.

use millrace_models::cpu::{Kernels, Matrix, MatrixMut, Parallelism, multiply};

use super::kernels::{SoftmaxBackward, run};
use super::tape::resize;

/// The heads of a model.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub hidden: usize,
    pub head: usize,
    pub kernels: Kernels,
}

/// One head's probabilities over one sequence, and their gradients.
#[derive(Default)]
pub(crate) struct Scores {
    probabilities: Vec<f32>,
    gradients: Vec<f32>,
}

impl Heads {
    /// `context = softmax(Q·Kᵀ)·V` for sequences of these lengths, head by head.
    pub fn forward(
        self,
        lengths: &[usize],
        query_key_value: &[f32],
        scores: &mut Scores,
        context: &mut [f32],
    ) {
        self.each(lengths, |first, length, column| {
            let [queries, keys, values] = self.parts(query_key_value, first, length, column);
            let probabilities = self.probabilities(queries, keys, length, scores);
            product(
                &mut context[first * self.hidden + column..],
                [length, self.head, self.hidden],
                Matrix::new(probabilities, length, length, length),
                values,
            );
        });
    }

    /// Writes the gradients of Q (unscaled), K and V, from that of the context.
    pub fn backward(
        self,
        lengths: &[usize],
        query_key_value: &[f32],
        context_gradient: &[f32],
        scores: &mut Scores,
        gradient: &mut [f32],
    ) {
        let scale = 1.0 / (self.head as f32).sqrt();
        let stride = 3 * self.hidden;
        self.each(lengths, |first, length, column| {
            let [queries, keys, values] = self.parts(query_key_value, first, length, column);
            self.probabilities(queries, keys, length, scores);
            let Scores {
                probabilities,
                gradients,
            } = &mut *scores;
            let square = |values| Matrix::new(values, length, length, length);
            let context = Matrix::new(
                &context_gradient[first * self.hidden + column..],
                length,
                self.head,
                self.hidden,
            );
            let mut into = |third: usize, left, right| {
                let start = first * stride + third * self.hidden + column;
                product(
                    &mut gradient[start..],
                    [length, self.head, stride],
                    left,
                    right,
                );
            };
            into(2, square(probabilities).transposed(), context);
            resize(gradients, length * length);
            product(
                gradients,
                [length, length, length],
                context,
                values.transposed(),
            );
            run(SoftmaxBackward {
                probabilities,
                gradients,
                columns: length,
            });
            into(1, square(gradients).transposed(), queries);
            into(0, square(gradients), keys);
        });
        for row in gradient.chunks_exact_mut(stride) {
            for value in &mut row[..self.hidden] {
                *value *= scale;
            }
        }
    }

    /// Calls `head` with each sequence's first row and length, and each head's first column.
    fn each(self, lengths: &[usize], mut head: impl FnMut(usize, usize, usize)) {
        let mut first = 0;
        for length in lengths {
            for column in (0..self.hidden).step_by(self.head) {
                head(first, *length, column);
            }
            first += length;
        }
    }

    fn parts(
        self,
        query_key_value: &[f32],
        first: usize,
        length: usize,
        column: usize,
    ) -> [Matrix<'_>; 3] {
        let stride = 3 * self.hidden;
        [0, 1, 2].map(|third| {
            let start = first * stride + third * self.hidden + column;
            Matrix::new(&query_key_value[start..], length, self.head, stride)
        })
    }

    fn probabilities<'a>(
        self,
        queries: Matrix<'_>,
        keys: Matrix<'_>,
        length: usize,
        scores: &'a mut Scores,
    ) -> &'a [f32] {
        let probabilities = &mut scores.probabilities;
        resize(probabilities, length * length);
        product(
            probabilities,
            [length, length, length],
            queries,
            keys.transposed(),
        );
        self.kernels.softmax_rows(probabilities, length);
        probabilities
    }
}

/// Writes a product into `[rows, columns]` values, `stride` apart.
fn product(
    destination: &mut [f32],
    [rows, columns, stride]: [usize; 3],
    left: Matrix<'_>,
    right: Matrix<'_>,
) {
    let mut destination = MatrixMut::new(destination, rows, columns, stride);
    multiply(&mut destination, false, left, right, Parallelism::None);
}
