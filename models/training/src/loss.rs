//! The contrastive loss, and its gradient for the vectors.
//!
//! A query should be closer to its passage than to all other passages of the batch, and a passage
//! closer to its query than to all other queries: cross entropy over scaled cosines, both ways, and
//! their mean (InfoNCE with in-batch negatives; symmetric as in CLIP). Hard negatives join the first
//! way. Nothing is differentiated by hand here: it is small, and candle does it.

use candle_core::{D, Device, Tensor, Var};

use crate::batches::Batch;
use crate::error::TrainingError;

/// What pairs are compared by.
#[derive(Clone, Debug, PartialEq)]
pub struct ContrastiveLoss {
    /// What cosines are multiplied by: 1 over the temperature.
    pub scale: f64,
    /// Matryoshka (Kusupati et al. 2022): the loss is the mean of those of the vectors cut to each of
    /// these lengths and normalised again. One length, the whole, is the plain loss.
    pub dimensions: Vec<usize>,
}

/// A loss and how it changes with the vectors.
#[derive(Clone, Debug)]
pub struct LossGradient {
    /// The mean over queries.
    pub loss: f32,
    /// `[sequences, width]`
    pub vectors: Vec<f32>,
}

/// Added to a cosine that must not count: e to it is 0 in f32.
const MASK: f32 = -1e9;

impl ContrastiveLoss {
    /// The loss of a batch's vectors, `[sequences, width]`, not normalised.
    ///
    /// # Errors
    /// [`TrainingError::Device`].
    pub fn loss(
        &self,
        vectors: &[f32],
        width: usize,
        batch: &Batch<'_>,
    ) -> Result<f32, TrainingError> {
        let shape = (batch.sequences.len(), width);
        let vectors = Tensor::from_slice(vectors, shape, &Device::Cpu)?;
        Ok(self.of(&vectors, batch)?.to_scalar()?)
    }

    /// The loss with its gradient.
    ///
    /// # Errors
    /// [`TrainingError::Device`].
    pub fn gradient(
        &self,
        vectors: &[f32],
        width: usize,
        batch: &Batch<'_>,
    ) -> Result<LossGradient, TrainingError> {
        let shape = (batch.sequences.len(), width);
        let vectors = Var::from_slice(vectors, shape, &Device::Cpu)?;
        let loss = self.of(vectors.as_tensor(), batch)?;
        let store = loss.backward()?;
        let gradient = store
            .get(&vectors)
            .ok_or_else(|| TrainingError::NoGradient {
                parameter: "vectors".to_owned(),
            })?;
        Ok(LossGradient {
            loss: loss.to_scalar()?,
            vectors: gradient.flatten_all()?.to_vec1()?,
        })
    }

    fn of(&self, vectors: &Tensor, batch: &Batch<'_>) -> candle_core::Result<Tensor> {
        let (queries, passages) = (batch.queries, batch.sequences.len() - batch.queries);
        let mut mask = vec![0.0; queries * passages];
        for (query, passage) in &batch.masked {
            mask[query * passages + passage] = MASK;
        }
        let mask = Tensor::from_vec(mask, (queries, passages), vectors.device())?;
        let mut total = Tensor::zeros((), vectors.dtype(), vectors.device())?;
        for dimension in &self.dimensions {
            let cut = normalised(&vectors.narrow(1, 0, *dimension)?)?;
            let of_queries = cut.narrow(0, 0, queries)?;
            let of_passages = cut.narrow(0, queries, passages)?;
            let cosines = of_queries.matmul(&of_passages.t()?)?;
            let scores = ((cosines * self.scale)? + &mask)?;
            let back = scores.narrow(1, 0, queries)?.t()?.contiguous()?;
            total = (total + (cross_entropy(&scores)? + cross_entropy(&back)?)?)?;
        }
        total / (2 * self.dimensions.len()) as f64
    }
}

/// Mean over rows of the cross entropy where row i should choose column i.
fn cross_entropy(scores: &Tensor) -> candle_core::Result<Tensor> {
    let (rows, columns) = scores.dims2()?;
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&largest)?.exp()?;
    let partition = (powers.sum_keepdim(D::Minus1)?.log()? + largest)?;
    let mut chosen = vec![0f32; rows * columns];
    for row in 0..rows {
        chosen[row * columns + row] = 1.0;
    }
    let chosen = Tensor::from_vec(chosen, (rows, columns), scores.device())?;
    let own = (scores * chosen)?.sum_keepdim(D::Minus1)?;
    (partition - own)?.mean_all()
}

fn normalised(vectors: &Tensor) -> candle_core::Result<Tensor> {
    let norms = vectors.sqr()?.sum_keepdim(1)?.sqrt()?;
    // As PyTorch's `normalize` has it.
    vectors.broadcast_div(&norms.maximum(1e-12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(count: usize, width: usize) -> Vec<f32> {
        (0..count * width)
            .map(|i| ((i * 7919 + 13) % 311) as f32 / 155.0 - 1.0)
            .collect()
    }

    fn batch(queries: usize, passages: usize, masked: &[(usize, usize)]) -> Batch<'static> {
        Batch {
            sequences: vec![&[]; queries + passages],
            queries,
            masked: masked.to_vec(),
        }
    }

    fn loss(dimensions: &[usize]) -> ContrastiveLoss {
        ContrastiveLoss {
            scale: 20.0,
            dimensions: dimensions.to_vec(),
        }
    }

    /// The definition, in f64.
    fn defined(vectors: &[f32], width: usize, dimension: usize, batch: &Batch<'_>) -> f64 {
        let unit: Vec<Vec<f64>> = vectors
            .chunks(width)
            .map(|row| {
                let row: Vec<f64> = row[..dimension].iter().map(|x| f64::from(*x)).collect();
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter().map(|x| x / norm).collect()
            })
            .collect();
        let (queries, passages) = unit.split_at(batch.queries);
        let score = |q: usize, p: usize| {
            let dot: f64 = queries[q]
                .iter()
                .zip(&passages[p])
                .map(|(a, b)| a * b)
                .sum();
            let masked = batch.masked.contains(&(q, p));
            if masked { 0.0 } else { (20.0 * dot).exp() }
        };
        let mean = |choose: &dyn Fn(usize) -> f64| {
            (0..batch.queries).map(choose).sum::<f64>() / batch.queries as f64
        };
        let forth = mean(&|i| -> f64 {
            let all: f64 = (0..passages.len()).map(|p| score(i, p)).sum();
            -(score(i, i) / all).ln()
        });
        let back = mean(&|i| -> f64 {
            let all: f64 = (0..batch.queries).map(|q| score(q, i)).sum();
            -(score(i, i) / all).ln()
        });
        f64::midpoint(forth, back)
    }

    #[test]
    fn it_is_the_definition() -> anyhow::Result<()> {
        let width = 12;
        for masked in [vec![], vec![(0, 2), (3, 5), (1, 6)]] {
            let batch = batch(4, 7, &masked);
            let vectors = vectors(11, width);
            let whole = loss(&[12]).loss(&vectors, width, &batch)?;
            assert!((f64::from(whole) - defined(&vectors, width, 12, &batch)).abs() < 1e-4);
            let nested = loss(&[12, 5]).loss(&vectors, width, &batch)?;
            let both = defined(&vectors, width, 12, &batch) + defined(&vectors, width, 5, &batch);
            assert!((f64::from(nested) - both / 2.0).abs() < 1e-4);
        }
        Ok(())
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() -> anyhow::Result<()> {
        let (width, batch) = (6, batch(3, 5, &[(0, 1), (2, 4)]));
        let vectors = vectors(8, width);
        let found = loss(&[6, 4]).gradient(&vectors, width, &batch)?;
        for at in 0..vectors.len() {
            let moved = |by: f64| {
                let mut vectors = vectors.clone();
                vectors[at] += by as f32;
                let (a, b) = (
                    defined(&vectors, width, 6, &batch),
                    defined(&vectors, width, 4, &batch),
                );
                f64::midpoint(a, b)
            };
            let difference = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            let error = (difference - f64::from(found.vectors[at])).abs();
            assert!(
                error < 2e-2,
                "{at}: {difference} against {}",
                found.vectors[at]
            );
        }
        Ok(())
    }

    #[test]
    fn a_masked_passage_does_not_count() -> anyhow::Result<()> {
        let width = 6;
        let batch = batch(2, 3, &[(0, 2), (1, 2)]);
        let vectors = vectors(5, width);
        let mut others = vectors.clone();
        others[4 * width..].reverse();
        let loss = loss(&[6]);
        assert_eq!(
            loss.loss(&vectors, width, &batch)?,
            loss.loss(&others, width, &batch)?
        );
        Ok(())
    }
}
