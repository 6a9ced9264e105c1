//! One model while it learns: a batch in, a loss out.

use rayon::prelude::*;

use crate::batches::Batch;
use crate::error::{NotFinite, TrainingError};
use crate::loss::ContrastiveLoss;
use crate::network::{MICRO_BATCH_TOKENS, Network};
use crate::optimizer::{AdamWOptions, Moments};
use crate::parameters::ParameterLayout;

/// A model, its gradients and its optimizer.
pub struct Trainer {
    network: Network,
    layout: ParameterLayout,
    parameters: Vec<f32>,
    moments: Moments,
    /// Shares of the gradient, zero between steps.
    gradients: Vec<Vec<f32>>,
    loss: ContrastiveLoss,
    optimizer: AdamWOptions,
    grad_cache: bool,
    width: usize,
}

impl Trainer {
    /// A trainer of a model with these values; `moments` are those of an earlier checkpoint.
    #[must_use]
    pub fn new(
        network: Network,
        layout: ParameterLayout,
        parameters: Vec<f32>,
        moments: Moments,
        loss: ContrastiveLoss,
        optimizer: AdamWOptions,
    ) -> Self {
        let gradients = vec![vec![0.0; parameters.len()]; network.shares()];
        Self {
            width: layout.embedding_norm.gain.len(),
            network,
            layout,
            parameters,
            moments,
            gradients,
            loss,
            optimizer,
            grad_cache: false,
        }
    }

    /// The same, computing each batch twice and keeping none of it in between.
    #[must_use]
    pub fn with_grad_cache(mut self, grad_cache: bool) -> Self {
        self.grad_cache = grad_cache;
        self
    }

    /// The values of all parameters, as the layout has them.
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The same, to be changed from outside.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// The optimizer's moments.
    #[must_use]
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Bytes that training holds while a batch of so many tokens is computed, where it is known:
    /// parameters, moments, gradients and what the forward pass keeps.
    #[must_use]
    pub fn peak_bytes(&self, batch_tokens: usize) -> Option<usize> {
        // With GradCache one micro-batch a worker.
        let tokens = if self.grad_cache {
            batch_tokens.min(MICRO_BATCH_TOKENS * self.network.shares())
        } else {
            batch_tokens
        };
        let tape = self.network.tape_bytes(tokens)?;
        Some((3 + self.gradients.len()) * size_of_val(self.parameters.as_slice()) + tape)
    }

    /// Learns from a batch, as the `step`-th from 1. Returns the loss before the step.
    ///
    /// The loss and the gradient of the batch's vectors are checked, and nothing is changed where they
    /// are not finite. What follows from them is not: a gradient of a parameter may overflow on its way
    /// back, and shows in parameters and moments afterwards.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`], [`TrainingError::Device`], [`TrainingError::NoGradient`].
    pub fn step(
        &mut self,
        batch: &Batch<'_>,
        step: usize,
        learning_rate: f64,
    ) -> Result<f32, TrainingError> {
        let loss = self.differentiate(batch)?;
        self.moments.step(
            self.optimizer,
            &self.layout,
            &mut self.parameters,
            &self.gradients,
            (step, learning_rate as f32),
            self.network.threads(),
        );
        self.clear();
        Ok(loss)
    }

    /// The loss of a batch and the gradient of every parameter, changing nothing.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn gradient(&mut self, batch: &Batch<'_>) -> Result<(f32, Vec<f32>), TrainingError> {
        let loss = self.differentiate(batch)?;
        let mut sum = vec![0.0; self.parameters.len()];
        for share in &self.gradients {
            for (sum, value) in sum.iter_mut().zip(share) {
                *sum += value;
            }
        }
        self.clear();
        Ok((loss, sum))
    }

    /// The loss of a batch alone.
    ///
    /// # Errors
    /// [`TrainingError::Device`].
    pub fn evaluate(&self, batch: &Batch<'_>) -> Result<f32, TrainingError> {
        let vectors = self.network.encode(&self.parameters, &batch.sequences)?;
        self.loss.loss(&vectors, self.width, batch)
    }

    /// Whether parameters and moments are finite.
    ///
    /// # Errors
    /// [`NotFinite::Parameter`], [`NotFinite::Moment`].
    pub fn check(&self) -> Result<(), NotFinite> {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&self.parameters) {
            return Err(NotFinite::Parameter);
        }
        if !finite(&self.moments.first) || !finite(&self.moments.second) {
            return Err(NotFinite::Moment);
        }
        Ok(())
    }

    /// Adds to the gradients' shares; adds nothing where the loss or its gradient is not finite.
    fn differentiate(&mut self, batch: &Batch<'_>) -> Result<f32, TrainingError> {
        let (network, parameters) = (&self.network, &self.parameters);
        let sequences = batch.sequences.as_slice();
        let (vectors, tape) = if self.grad_cache {
            (network.encode(parameters, sequences)?, None)
        } else {
            let (vectors, tape) = network.forward(parameters, sequences)?;
            (vectors, Some(tape))
        };
        let of = self.loss.gradient(&vectors, self.width, batch)?;
        if !of.loss.is_finite() {
            return Err(NotFinite::Loss(of.loss).into());
        }
        if !of.vectors.iter().all(|value| value.is_finite()) {
            return Err(NotFinite::Gradient(of.loss).into());
        }
        let gradients = &mut self.gradients;
        match tape {
            Some(tape) => network.backward(parameters, sequences, tape, &of.vectors, gradients)?,
            None => network.backward_again(parameters, sequences, &of.vectors, gradients)?,
        }
        Ok(of.loss)
    }

    fn clear(&mut self) {
        let gradients = &mut self.gradients;
        self.network.threads().install(|| {
            gradients
                .par_iter_mut()
                .flat_map(|share| share.par_chunks_mut(1 << 16))
                .for_each(|piece| piece.fill(0.0));
        });
    }
}
