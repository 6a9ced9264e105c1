//! The encoder in candle's own differentiable operations, for devices without written-out gradients,
//! and what those are held against.
//!
//! candle's fused `LayerNorm`, `softmax_last_dim` and their like have no backward: a model made of
//! them trains almost nothing, without an error. So each is written as what it is made of.
//! The parameters stay on the host, where the optimizer is: a step sends them to the device, 90 MB
//! for a model of 23 million, and brings as many gradients back.

use candle_core::{D, Device, Tensor, Var};
use millrace_models::ModelConfig;

use crate::error::TrainingError;
use crate::parameters::{Linear, Norm, ParameterLayout, Place};

/// The network on any device of candle's.
pub(crate) struct PlainBert {
    config: ModelConfig,
    layout: ParameterLayout,
    device: Device,
}

/// The graph of a forward pass.
pub(crate) struct PlainTape {
    variables: Vec<Var>,
    vectors: Tensor,
}

impl PlainBert {
    pub fn new(config: &ModelConfig, layout: &ParameterLayout, device: Device) -> Self {
        Self {
            config: config.clone(),
            layout: layout.clone(),
            device,
        }
    }

    /// Mean-pooled vectors `[sequences, hidden]`, not normalised, with their graph.
    pub fn forward(
        &self,
        parameters: &[f32],
        sequences: &[&[u32]],
    ) -> Result<(Vec<f32>, PlainTape), TrainingError> {
        let variables = self
            .layout
            .places()
            .iter()
            .map(|place| {
                let values = &parameters[place.range.clone()];
                Var::from_slice(values, place.shape.as_slice(), &self.device)
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let vectors = self.vectors(&variables, sequences)?;
        let values = vectors.flatten_all()?.to_vec1()?;
        Ok((values, PlainTape { variables, vectors }))
    }

    /// Adds the parameters' gradients to `gradients`.
    pub fn backward(
        &self,
        tape: &PlainTape,
        vector_gradients: &[f32],
        gradients: &mut [f32],
    ) -> Result<(), TrainingError> {
        let along = Tensor::from_slice(vector_gradients, tape.vectors.shape(), &self.device)?;
        let store = (&tape.vectors * along)?.sum_all()?.backward()?;
        for (place, variable) in self.layout.places().iter().zip(&tape.variables) {
            let Some(gradient) = store.get(variable) else {
                return Err(TrainingError::NoGradient {
                    parameter: place.name.clone(),
                });
            };
            let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
            for (sum, value) in gradients[place.range.clone()].iter_mut().zip(gradient) {
                *sum += value;
            }
        }
        Ok(())
    }

    fn vectors(&self, variables: &[Var], sequences: &[&[u32]]) -> candle_core::Result<Tensor> {
        let (count, longest) = (
            sequences.len(),
            sequences.iter().map(|ids| ids.len()).max().unwrap_or(0),
        );
        let hidden = self.config.hidden_size;
        let (heads, size) = (self.config.heads, self.config.head_size());
        let (mut ids, mut mask) = (vec![0u32; count * longest], vec![0f32; count * longest]);
        for (row, sequence) in sequences.iter().enumerate() {
            ids[row * longest..][..sequence.len()].copy_from_slice(sequence);
            mask[row * longest..][..sequence.len()].fill(1.0);
        }
        let ids = Tensor::from_vec(ids, count * longest, &self.device)?;
        let mask = Tensor::from_vec(mask, (count, longest), &self.device)?;
        let absent = ((&mask - 1.0)? * 1e9)?.reshape((count, 1, 1, longest))?;

        let model = Parts {
            places: self.layout.places(),
            variables,
            epsilon: self.config.layer_norm_eps,
        };
        let words = model.tensor(self.layout.words.start);
        let positions = model.tensor(self.layout.positions.start);
        let types = model.tensor(self.layout.types.start);
        let embedded = words
            .index_select(&ids, 0)?
            .reshape((count, longest, hidden))?
            .broadcast_add(&positions.narrow(0, 0, longest)?)?
            .broadcast_add(&types.narrow(0, 0, 1)?)?;
        let mut x = model.norm(&self.layout.embedding_norm, &embedded)?;
        let by_head = |part: Tensor| {
            let part = part.reshape((count, longest, heads, size))?;
            part.transpose(1, 2)?.contiguous()
        };
        for layer in &self.layout.layers {
            let [q, k, v] = model.query_key_value(&layer.query_key_value, &x)?;
            let q = by_head((q * (1.0 / (size as f64).sqrt()))?)?;
            let (k, v) = (by_head(k)?, by_head(v)?);
            let scores = q.matmul(&k.t()?.contiguous()?)?.broadcast_add(&absent)?;
            let context = softmax(&scores)?.matmul(&v)?;
            let context = context
                .transpose(1, 2)?
                .contiguous()?
                .reshape((count, longest, hidden))?;
            let attended = (model.linear(&layer.attention_output, &context)? + &x)?;
            x = model.norm(&layer.attention_norm, &attended)?;
            let wide = model.linear(&layer.intermediate, &x)?.gelu_erf()?;
            x = model.norm(
                &layer.output_norm,
                &(model.linear(&layer.output, &wide)? + &x)?,
            )?;
        }
        let mask = mask.unsqueeze(2)?;
        x.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)
    }
}

/// The variables by their places.
struct Parts<'a> {
    places: &'a [Place],
    variables: &'a [Var],
    epsilon: f64,
}

impl Parts<'_> {
    /// The tensor that starts here.
    fn tensor(&self, start: usize) -> &Tensor {
        let index = self
            .places
            .partition_point(|place| place.range.start < start);
        self.variables[index].as_tensor()
    }

    fn linear(&self, linear: &Linear, x: &Tensor) -> candle_core::Result<Tensor> {
        apply(
            x,
            self.tensor(linear.weight.start),
            self.tensor(linear.bias.start),
        )
    }

    fn query_key_value(&self, linear: &Linear, x: &Tensor) -> candle_core::Result<[Tensor; 3]> {
        let each = linear.outputs / 3;
        let part = |third: usize| {
            let weight = linear.weight.start + third * each * linear.inputs;
            let bias = linear.bias.start + third * each;
            apply(x, self.tensor(weight), self.tensor(bias))
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    fn norm(&self, norm: &Norm, x: &Tensor) -> candle_core::Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred
            .broadcast_div(&(variance + self.epsilon)?.sqrt()?)?
            .broadcast_mul(self.tensor(norm.gain.start))?
            .broadcast_add(self.tensor(norm.bias.start))
    }
}

fn apply(x: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
    let (count, length, width) = x.dims3()?;
    let flat = x.reshape((count * length, width))?;
    let y = flat.matmul(&weight.t()?)?.broadcast_add(bias)?;
    y.reshape((count, length, weight.dim(0)?))
}

fn softmax(scores: &Tensor) -> candle_core::Result<Tensor> {
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&largest)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}
