//! The CUDA encoder: the same packed forward with stock operators in f16 and flash-attention over
//! sequences of varying length.
//!
//! f16 is safe here because packing needs no mask: a padded forward adds −∞ to masked scores and
//! overflows to NaN in f16.

use candle_core::{DType, Device, Error, IndexOp, Tensor};
use candle_flash_attn::flash_attn_varlen;
use candle_nn::{LayerNorm, Linear, Module};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::layout::{EMBEDDING_NORM, LayerLayout, LinearLayout, embedding_table};
use crate::weights::Weights;

/// Tokens of a micro-batch: enough to fill a GPU, 16,384 · 1,536 · 2 bytes = 50 MB at the widest.
pub(crate) const BATCH_TOKENS: usize = 16_384;

/// A BERT-family encoder in f16 on one GPU.
pub(crate) struct CudaBert {
    device: Device,
    name: String,
    words: Tensor,
    /// Position embeddings with the first token type's already added.
    positions: Tensor,
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
    head_size: usize,
}

struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl CudaBert {
    pub fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        ordinal: usize,
    ) -> Result<Self, ModelError> {
        let name = crate::encoder::Device::Cuda(ordinal).to_string();
        let failed = |source| device_error(&name, source);
        let device = Device::new_cuda(ordinal).map_err(failed)?;
        let loader = Loader {
            weights,
            config,
            device: &device,
            name: &name,
        };
        let hidden = config.hidden_size;
        let table =
            |kind: &str, rows: usize| weights.tensor(&embedding_table(kind), &[rows, hidden]);
        let types = table("token_type", config.type_vocab_size)?;
        let positions = table("position", config.max_position_embeddings)?;
        let positions = types
            .i(0)
            .and_then(|row| positions.broadcast_add(&row))
            .map_err(failed)?;
        let layers = LayerLayout::all(config)
            .map(|layout| loader.layer(&layout))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words: loader.half(&table("word", config.vocab_size)?)?,
            positions: loader.half(&positions)?,
            embedding_norm: loader.norm(EMBEDDING_NORM)?,
            layers,
            heads: config.heads,
            head_size: config.head_size(),
            name,
            device,
        })
    }

    /// Mean-pooled vectors, one a sequence; the sequences were checked.
    pub fn forward(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.pooled(sequences)
            .map_err(|source| device_error(&self.name, source))
    }

    fn pooled(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        let mut ids = Vec::new();
        let mut positions = Vec::new();
        let mut owners = Vec::new();
        let mut starts = vec![0_u32];
        let mut longest = 0;
        for (owner, sequence) in sequences.iter().enumerate() {
            ids.extend_from_slice(sequence);
            positions.extend(0..sequence.len() as u32);
            owners.extend(std::iter::repeat_n(owner as u32, sequence.len()));
            starts.push(ids.len() as u32);
            longest = longest.max(sequence.len());
        }
        let tokens = ids.len();
        let index = |values: Vec<u32>| {
            let length = values.len();
            Tensor::from_vec(values, length, &self.device)
        };
        let starts = index(starts)?;
        let words = self.words.index_select(&index(ids)?, 0)?;
        let positions = self.positions.index_select(&index(positions)?, 0)?;
        let mut hidden = self.embedding_norm.forward(&(words + positions)?)?;
        for layer in &self.layers {
            // [tokens, 3, heads, head_size]
            let qkv = layer.query_key_value.forward(&hidden)?.reshape((
                tokens,
                3,
                self.heads,
                self.head_size,
            ))?;
            let part = |third: usize| qkv.i((.., third))?.contiguous();
            // The softmax scale is already in Q.
            let context = flash_attn_varlen(
                &part(0)?,
                &part(1)?,
                &part(2)?,
                &starts,
                &starts,
                longest,
                longest,
                1.0,
                false,
            )?
            .reshape((tokens, self.heads * self.head_size))?;
            let attended = (layer.attention_output.forward(&context)? + &hidden)?;
            hidden = layer.attention_norm.forward(&attended)?;
            let wide = layer.intermediate.forward(&hidden)?.gelu_erf()?;
            hidden = layer
                .output_norm
                .forward(&(layer.output.forward(&wide)? + &hidden)?)?;
        }
        // Sums are taken in f32: 256 addends of f16 would lose the low bits.
        let hidden = hidden.to_dtype(DType::F32)?;
        let sums = Tensor::zeros(
            (sequences.len(), self.heads * self.head_size),
            DType::F32,
            &self.device,
        )?
        .index_add(&index(owners)?, &hidden, 0)?;
        let lengths: Vec<f32> = sequences.iter().map(|ids| ids.len() as f32).collect();
        let lengths = Tensor::from_vec(lengths, (sequences.len(), 1), &self.device)?;
        sums.broadcast_div(&lengths)?.to_vec2()
    }
}

/// Brings the weights to the GPU in f16.
struct Loader<'a> {
    weights: &'a Weights<'a>,
    config: &'a ModelConfig,
    device: &'a Device,
    name: &'a str,
}

impl Loader<'_> {
    fn half(&self, tensor: &Tensor) -> Result<Tensor, ModelError> {
        tensor
            .to_dtype(DType::F16)
            .and_then(|tensor| tensor.to_device(self.device))
            .map_err(|source| device_error(self.name, source))
    }

    fn norm(&self, path: &str) -> Result<LayerNorm, ModelError> {
        let values = |kind: &str| {
            self.half(
                &self
                    .weights
                    .tensor(&format!("{path}.{kind}"), &[self.config.hidden_size])?,
            )
        };
        Ok(LayerNorm::new(
            values("weight")?,
            values("bias")?,
            self.config.layer_norm_eps,
        ))
    }

    /// The parts one below the other, each multiplied by its scale.
    fn linear(&self, layout: &LinearLayout) -> Result<Linear, ModelError> {
        let (inputs, outputs_each) = (layout.inputs, layout.outputs_each);
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (name, scale) in &layout.parts {
            let scaled = |tensor: Tensor| {
                (tensor * *scale).map_err(|source| device_error(self.name, source))
            };
            let weight = format!("{name}.weight");
            weights.push(scaled(
                self.weights.tensor(&weight, &[outputs_each, inputs])?,
            )?);
            let bias = format!("{name}.bias");
            biases.push(scaled(self.weights.tensor(&bias, &[outputs_each])?)?);
        }
        let joined = |tensors: &[Tensor]| {
            Tensor::cat(tensors, 0).map_err(|source| device_error(self.name, source))
        };
        Ok(Linear::new(
            self.half(&joined(&weights)?)?,
            Some(self.half(&joined(&biases)?)?),
        ))
    }

    fn layer(&self, layout: &LayerLayout) -> Result<Layer, ModelError> {
        Ok(Layer {
            query_key_value: self.linear(&layout.query_key_value)?,
            attention_output: self.linear(&layout.attention_output)?,
            attention_norm: self.norm(&layout.attention_norm)?,
            intermediate: self.linear(&layout.intermediate)?,
            output: self.linear(&layout.output)?,
            output_norm: self.norm(&layout.output_norm)?,
        })
    }
}

fn device_error(device: &str, source: candle_core::Error) -> ModelError {
    ModelError::Device {
        device: device.to_owned(),
        source: Box::new(source),
    }
}
