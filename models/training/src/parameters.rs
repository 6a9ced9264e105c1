//! The parameters of an encoder as one row of numbers, and where each tensor lies in it.
//!
//! One allocation, so that the optimizer is one loop, a gradient is a slice of the same length, and a
//! checkpoint is three of them. Query, key and value lie side by side: their product is one.

use std::ops::Range;
use std::path::Path;

use millrace_models::layout::{EMBEDDING_NORM, LayerLayout, LinearLayout, embedding_table};
use millrace_models::{ModelConfig, WeightsFile};

use crate::error::TrainingError;

/// A tensor's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name in the model's file, without a task head's prefix.
    pub name: String,
    /// Shape as stored: a linear layer's weight is `[outputs, inputs]`.
    pub shape: Vec<usize>,
    /// Where its values are, row-major.
    pub range: Range<usize>,
}

/// Weight and bias of linear layers that are computed as one: `y = x·Wᵀ + b`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[outputs, inputs]`
    pub weight: Range<usize>,
    pub bias: Range<usize>,
    pub inputs: usize,
    pub outputs: usize,
}

/// Gain and bias of a layer norm.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub gain: Range<usize>,
    pub bias: Range<usize>,
}

/// Where the parts of one encoder layer are.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub query_key_value: Linear,
    pub attention_output: Linear,
    pub attention_norm: Norm,
    pub intermediate: Linear,
    pub output: Linear,
    pub output_norm: Norm,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct ParameterLayout {
    places: Vec<Place>,
    pub(crate) words: Range<usize>,
    pub(crate) positions: Range<usize>,
    pub(crate) types: Range<usize>,
    pub(crate) embedding_norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

impl ParameterLayout {
    /// The layout of an encoder of this configuration.
    #[must_use]
    pub fn new(config: &ModelConfig) -> Self {
        let hidden = config.hidden_size;
        let mut places = Places(Vec::new());
        let words = places.add(&embedding_table("word"), &[config.vocab_size, hidden]);
        let positions = places.add(
            &embedding_table("position"),
            &[config.max_position_embeddings, hidden],
        );
        let types = places.add(
            &embedding_table("token_type"),
            &[config.type_vocab_size, hidden],
        );
        let embedding_norm = places.norm(EMBEDDING_NORM, hidden);
        let layers = LayerLayout::all(config)
            .map(|layer| Layer {
                query_key_value: places.linear(&layer.query_key_value),
                attention_output: places.linear(&layer.attention_output),
                attention_norm: places.norm(&layer.attention_norm, hidden),
                intermediate: places.linear(&layer.intermediate),
                output: places.linear(&layer.output),
                output_norm: places.norm(&layer.output_norm, hidden),
            })
            .collect();
        Self {
            places: places.0,
            words,
            positions,
            types,
            embedding_norm,
            layers,
        }
    }

    /// Every tensor, in the order in which they lie.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Numbers in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.last().map_or(0, |place| place.range.end)
    }

    /// Whether there are none: there always are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The values of all tensors, read from `model.safetensors` of a model folder.
    ///
    /// # Errors
    /// [`TrainingError::Model`] when the file is damaged or has other shapes.
    pub fn read(&self, folder: &Path) -> Result<Vec<f32>, TrainingError> {
        let file = WeightsFile::read(folder.join("model.safetensors"))?;
        let weights = file.tensors()?;
        let mut values = Vec::with_capacity(self.len());
        for place in &self.places {
            values.extend(weights.values(&place.name, &place.shape)?);
        }
        Ok(values)
    }

    /// Ranges that weight decay applies to: neither biases nor layer norms, whose pull towards 0 would
    /// change what the layer does and not how smooth it is.
    pub(crate) fn decayed(&self) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
        self.places.iter().map(|place| {
            let kept = place.name.ends_with(".bias") || place.name.contains("LayerNorm");
            (place.range.clone(), !kept)
        })
    }
}

struct Places(Vec<Place>);

impl Places {
    fn add(&mut self, name: &str, shape: &[usize]) -> Range<usize> {
        let start = self.0.last().map_or(0, |place| place.range.end);
        let range = start..start + shape.iter().product::<usize>();
        self.0.push(Place {
            name: name.to_owned(),
            shape: shape.to_vec(),
            range: range.clone(),
        });
        range
    }

    fn norm(&mut self, path: &str, width: usize) -> Norm {
        Norm {
            gain: self.add(&format!("{path}.weight"), &[width]),
            bias: self.add(&format!("{path}.bias"), &[width]),
        }
    }

    /// The weights of all parts first, then their biases, so that each are one matrix.
    fn linear(&mut self, layout: &LinearLayout) -> Linear {
        let (inputs, each) = (layout.inputs, layout.outputs_each);
        let weight = self.side_by_side(layout, "weight", &[each, inputs]);
        let bias = self.side_by_side(layout, "bias", &[each]);
        Linear {
            weight,
            bias,
            inputs,
            outputs: each * layout.parts.len(),
        }
    }

    fn side_by_side(&mut self, layout: &LinearLayout, kind: &str, shape: &[usize]) -> Range<usize> {
        let start = self.0.last().map_or(0, |place| place.range.end);
        let mut end = start;
        for (path, _) in &layout.parts {
            end = self.add(&format!("{path}.{kind}"), shape).end;
        }
        start..end
    }
}
