//! The GPU's encoder: the same packed forward with stock operators in f16.
//!
//! Attention is computed by stock operators too (`padded`), or, with the feature `flash-attention`,
//! by FlashAttention's kernels (`flash`), which take hours to compile. The tests run it on the CPU in
//! f32, against the CPU's own encoder.

#[cfg(feature = "flash-attention")]
mod flash;
#[cfg(any(test, not(feature = "flash-attention")))]
mod padded;

use candle_core::{DType, Device, Error, IndexOp, Tensor};
use candle_nn::{LayerNorm, Linear, Module};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::layout::{EMBEDDING_NORM, LayerLayout, LinearLayout, embedding_table};
use crate::weights::Weights;
#[cfg(all(feature = "flash-attention", not(test)))]
use flash::Attention;
#[cfg(any(test, not(feature = "flash-attention")))]
use padded::Attention;

/// Tokens of a micro-batch: enough to fill a GPU, 16,384 · 1,536 · 2 bytes = 50 MB at the widest.
#[cfg(feature = "cuda")]
pub(crate) const BATCH_TOKENS: usize = 16_384;

/// A BERT-family encoder on one GPU.
pub(crate) struct GpuBert {
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

impl GpuBert {
    /// Takes the GPU `ordinal` and brings the weights there.
    #[cfg(feature = "cuda")]
    pub fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        ordinal: usize,
    ) -> Result<Self, ModelError> {
        let name = crate::encoder::Device::Cuda(ordinal).to_string();
        let device = Device::new_cuda(ordinal).map_err(|source| device_error(&name, source))?;
        Self::load_to(weights, config, device, DType::F16, name)
    }

    fn load_to(
        weights: &Weights<'_>,
        config: &ModelConfig,
        device: Device,
        dtype: DType,
        name: String,
    ) -> Result<Self, ModelError> {
        let failed = |source| device_error(&name, source);
        let loader = Loader {
            weights,
            config,
            device: &device,
            dtype,
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
            words: loader.brought(&table("word", config.vocab_size)?)?,
            positions: loader.brought(&positions)?,
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
        let mut lengths = Vec::new();
        for (owner, sequence) in sequences.iter().enumerate() {
            ids.extend_from_slice(sequence);
            positions.extend(0..sequence.len() as u32);
            owners.extend(std::iter::repeat_n(owner as u32, sequence.len()));
            lengths.push(sequence.len());
        }
        let index = |values: Vec<u32>| Tensor::new(values, &self.device);
        let attention = Attention::new(&lengths, &self.device, self.words.dtype())?;
        let words = self.words.index_select(&index(ids)?, 0)?;
        let positions = self.positions.index_select(&index(positions)?, 0)?;
        let mut hidden = self.embedding_norm.forward(&(words + positions)?)?;
        for layer in &self.layers {
            // The softmax scale is already in Q.
            let qkv = layer.query_key_value.forward(&hidden)?;
            let context = attention.attend(&qkv, self.heads, self.head_size)?;
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
        let lengths: Vec<f32> = lengths.iter().map(|length| *length as f32).collect();
        let lengths = Tensor::from_vec(lengths, (sequences.len(), 1), &self.device)?;
        sums.broadcast_div(&lengths)?.to_vec2()
    }
}

/// Brings the weights to the device in its type.
struct Loader<'a> {
    weights: &'a Weights<'a>,
    config: &'a ModelConfig,
    device: &'a Device,
    dtype: DType,
    name: &'a str,
}

impl Loader<'_> {
    fn brought(&self, tensor: &Tensor) -> Result<Tensor, ModelError> {
        tensor
            .to_dtype(self.dtype)
            .and_then(|tensor| tensor.to_device(self.device))
            .map_err(|source| device_error(self.name, source))
    }

    fn norm(&self, path: &str) -> Result<LayerNorm, ModelError> {
        let values = |kind: &str| {
            self.brought(
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
            self.brought(&joined(&weights)?)?,
            Some(self.brought(&joined(&biases)?)?),
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use gemm::Parallelism;

    use super::*;
    use crate::cpu::{CpuBert, Head};
    use crate::sequence::Segments;
    use crate::weights::WeightsFile;

    const CONFIG: ModelConfig = ModelConfig {
        vocab_size: 100,
        hidden_size: 64,
        layers: 2,
        heads: 4,
        intermediate_size: 128,
        max_position_embeddings: 80,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        max_tokens: 80,
    };

    /// Numbers from -1 to 1 without a pattern that a mistake could hide in.
    fn noise(seed: &mut u64, count: usize) -> Vec<f32> {
        let mut next = || {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn weights(folder: &std::path::Path) -> WeightsFile {
        let mut tensors = HashMap::new();
        let mut seed = 1;
        let mut add = |name: String, shape: &[usize], around: f32, spread: f32| {
            let values = noise(&mut seed, shape.iter().product());
            let values: Vec<f32> = values.iter().map(|value| around + spread * value).collect();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            tensors.insert(name, tensor);
        };
        let hidden = CONFIG.hidden_size;
        add(
            embedding_table("word"),
            &[CONFIG.vocab_size, hidden],
            0.0,
            1.0,
        );
        add(
            embedding_table("position"),
            &[CONFIG.max_position_embeddings, hidden],
            0.0,
            0.5,
        );
        add(
            embedding_table("token_type"),
            &[CONFIG.type_vocab_size, hidden],
            0.0,
            0.5,
        );
        let mut norms = vec![EMBEDDING_NORM.to_owned()];
        for layer in LayerLayout::all(&CONFIG) {
            norms.extend([layer.attention_norm, layer.output_norm]);
            for linear in [
                layer.query_key_value,
                layer.attention_output,
                layer.intermediate,
                layer.output,
            ] {
                for (part, _) in linear.parts {
                    let shape = [linear.outputs_each, linear.inputs];
                    add(format!("{part}.weight"), &shape, 0.0, 0.3);
                    add(format!("{part}.bias"), &shape[..1], 0.0, 0.3);
                }
            }
        }
        for norm in norms {
            add(format!("{norm}.weight"), &[hidden], 1.0, 0.2);
            add(format!("{norm}.bias"), &[hidden], 0.0, 0.2);
        }
        let path = folder.join("model.safetensors");
        candle_core::safetensors::save(&tensors, &path).unwrap();
        WeightsFile::read(path).unwrap()
    }

    #[test]
    fn vectors_are_those_of_the_cpus_encoder_whatever_the_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let file = weights(folder.path());
        let weights = file.tensors().unwrap();
        let gpu =
            GpuBert::load_to(&weights, &CONFIG, Device::Cpu, DType::F32, "cpu".to_owned()).unwrap();
        let cpu = CpuBert::load(&weights, &CONFIG, Head::Mean).unwrap();
        // One alone, equal ones, ones that share a group with padding, and ones that don't.
        for lengths in [&[1][..], &[7, 7, 7], &[40, 3, 37, 80, 35, 1, 79, 12, 10]] {
            let sequences: Vec<Vec<u32>> = lengths
                .iter()
                .enumerate()
                .map(|(n, length)| {
                    (0..*length)
                        .map(|i| (i * 31 + n as u32 * 17) % 100)
                        .collect()
                })
                .collect();
            let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let alone: Vec<_> = sequences.iter().map(|ids| Segments::alone(ids)).collect();
            let wanted = cpu.forward(&alone, Parallelism::None);
            let found = gpu.forward(&sequences).unwrap();
            assert_eq!(found.len(), lengths.len());
            for (wanted, found) in wanted.iter().zip(&found) {
                for (wanted, found) in wanted.iter().zip(found) {
                    assert!((wanted - found).abs() < 1e-4, "{wanted} and {found}");
                }
            }
        }
    }
}
