//! The sentence encoder: one type, two devices.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;

use rayon::prelude::*;
use tokio::runtime::Handle;

use crate::config::ModelConfig;
use crate::cpu::{CpuBert, CpuWorkers, Head};
use crate::described::Described;
use crate::error::ModelError;
use crate::fingerprint::ModelFingerprint;
use crate::remote::{Remote, RemoteConfig};
use crate::sequence::Segments;
use crate::store::name_in;
use crate::tokenizer::Tokenizer;
use crate::weights::WeightsFile;

/// What a server that does not tell its model is compared by.
const PROBES: [&str; 3] = [
    "The moon pulls the ocean twice a day.",
    "retry",
    "Offsets of a partition are stored only behind what is finished.",
];
/// Least cosine of two computations of one model; f16 on a GPU stays above it.
const SAME_MODEL: f32 = 0.999;

/// What computes the vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// This machine's processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU by number; needs the cargo feature `cuda`.
    Cuda(usize),
}

/// How an [`Encoder`] is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncoderOptions {
    /// What computes the vectors. Default: the CPU.
    pub device: Device,
    /// Worker threads. Default: one a core.
    pub threads: Option<NonZeroUsize>,
    /// Cuts texts earlier than the model does, in tokens with the special ones. Default: the model's
    /// own limit, which can't be passed.
    pub max_tokens: Option<NonZeroUsize>,
}

/// A sentence encoder of the BERT family: mean pooling, L2-normalised vectors.
///
/// Share one between threads; calls block until their vectors are there (from async code, go through
/// `spawn_blocking`) and share the encoder's own worker threads.
pub struct Encoder {
    tokenizer: Tokenizer,
    config: ModelConfig,
    fingerprint: ModelFingerprint,
    version: String,
    backend: Backend,
    workers: CpuWorkers,
}

enum Backend {
    Cpu(CpuBert),
    #[cfg(feature = "cuda")]
    Cuda(crate::gpu::GpuBert),
    Remote(Remote),
}

/// The version of the model in a folder, as [`Encoder::version`] tells it, without loading it.
///
/// # Errors
/// [`ModelError::Read`] when a file is missing or can't be read.
pub fn version_of(folder: &Path) -> Result<String, ModelError> {
    // What is no model has a fingerprint too, of nothing.
    ModelConfig::read(folder)?;
    Ok(ModelFingerprint::of_folder(folder)?.version(&folder_name(folder)))
}

impl Encoder {
    /// Loads a sentence-transformers folder; its last path component names the model.
    ///
    /// # Errors
    /// [`ModelError`] when the folder is missing, incomplete, of another architecture or damaged, or
    /// when the options do not fit the model or the machine.
    pub fn load(folder: &Path, options: EncoderOptions) -> Result<Self, ModelError> {
        let mut config = ModelConfig::read(folder)?;
        if let Some(tokens) = options.max_tokens {
            // Two special tokens and one of the text.
            if !(3..=config.max_tokens).contains(&tokens.get()) {
                return Err(ModelError::Option {
                    option: "max_tokens",
                    found: tokens.get(),
                    rule: format!("this model reads 3 to {} tokens", config.max_tokens),
                });
            }
            config.max_tokens = tokens.get();
        }
        let described = Described::read(folder, &config)?;
        let weights = WeightsFile::read(folder.join("model.safetensors"))?;
        let backend = Backend::load(&weights, &config, options.device)?;
        let workers = CpuWorkers::start(options.threads, "encoder")?;
        Ok(Self {
            tokenizer: described.tokenizer,
            fingerprint: described.fingerprint,
            version: described.version,
            config,
            backend,
            workers,
        })
    }

    /// An encoder whose vectors a model server computes: of this folder come the tokenizer and the
    /// model's identity, which the server's answers are held to. A server that does not tell its
    /// model's fingerprint is compared by the vectors of some texts, once, here. Requests run on
    /// `runtime`; this call and those for vectors block.
    ///
    /// # Errors
    /// [`ModelError`] of the folder; [`ModelError::Unavailable`] where no server answers,
    /// [`ModelError::RemoteMismatch`] where it computes another model.
    pub fn connect(
        folder: &Path,
        remote: RemoteConfig,
        runtime: Handle,
    ) -> Result<Self, ModelError> {
        let config = ModelConfig::read(folder)?;
        let Described {
            tokenizer,
            fingerprint,
            name,
            version,
        } = Described::read(folder, &config)?;
        let server = remote.urls.join(", ");
        let remote = Remote::new(
            remote,
            &name,
            config.hidden_size,
            fingerprint.clone(),
            runtime,
        )?;
        let sequences: Vec<Vec<u32>> = PROBES
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let ids = tokenizer.encode(text);
                ids.map_err(|source| ModelError::Tokenize { index, source })
            })
            .collect::<Result<_, _>>()?;
        let own: Vec<&[u32]> = sequences.iter().map(|ids| tokenizer.unframe(ids)).collect();
        let answer = remote.embed(&own)?;
        if !answer.signed {
            let local = Self::load(folder, EncoderOptions::default())?;
            let wanted = local.encode(&PROBES)?;
            if let Some(cosine) = other_cosine(&wanted, answer.vectors) {
                return Err(ModelError::RemoteMismatch {
                    server,
                    found: format!("vectors of cosine {cosine:.4} with this model's"),
                    wanted: format!("those of {fingerprint}"),
                });
            }
            tracing::warn!(
                server,
                "the model server does not tell its model's fingerprint: its vectors were compared \
                 once, and another model in its place would not be noticed"
            );
        }
        let workers = CpuWorkers::start(Some(NonZeroUsize::MIN), "tokenizer")?;
        Ok(Self {
            tokenizer,
            config,
            version,
            fingerprint,
            backend: Backend::Remote(remote),
            workers,
        })
    }

    /// Length of a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.config.hidden_size
    }

    /// Where texts are cut, in tokens, special ones included.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.config.max_tokens
    }

    /// Who made the vectors.
    #[must_use]
    pub fn fingerprint(&self) -> &ModelFingerprint {
        &self.fingerprint
    }

    /// Name and fingerprint for people and records, such as `all-MiniLM-L6-v2@0123456789ab`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Size of the vocabulary: a token's id is below it.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size
    }

    /// Worker threads that the encoder computes on.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.threads()
    }

    /// The vectors of texts, each of [`Self::dimension`] values with Euclidean norm 1, in order.
    /// Texts are cut at [`Self::max_tokens`]; an empty text has a vector too.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`]; on a GPU, [`ModelError::Device`]; of a server,
    /// [`ModelError::Unavailable`], [`ModelError::RemoteRefused`] and [`ModelError::RemoteMismatch`].
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ModelError> {
        let tokenize = |(index, text): (usize, &&str)| {
            self.tokenizer
                .encode(text)
                .map_err(|source| ModelError::Tokenize { index, source })
        };
        // One text is not worth waking a worker.
        let sequences: Vec<Vec<u32>> = if let [text] = texts {
            vec![tokenize((0, text))?]
        } else {
            self.workers.install(|| {
                texts
                    .par_iter()
                    .enumerate()
                    .map(tokenize)
                    .collect::<Result<_, _>>()
            })?
        };
        self.encode_tokens(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// The vectors of token sequences as [`Tokenizer::encode`] makes them, special tokens included.
    ///
    /// # Errors
    /// [`ModelError::Sequence`] for a sequence that is empty, longer than [`Self::max_tokens`] or
    /// holds an id outside the vocabulary; else as [`Self::encode`].
    pub fn encode_tokens(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut vectors = self.pool_tokens(sequences)?;
        for vector in &mut vectors {
            normalise(vector);
        }
        Ok(vectors)
    }

    /// As [`Self::encode_tokens`], with the length that the model gives them: the mean of the
    /// tokens' last hidden states. A remote encoder's are normalised by its server.
    ///
    /// # Errors
    /// As [`Self::encode_tokens`].
    pub fn pool_tokens(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        check_sequences(sequences.iter().copied(), &self.config)?;
        self.compute(sequences)
    }

    fn compute(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        match &self.backend {
            Backend::Cpu(model) => {
                let alone: Vec<_> = sequences.iter().map(|ids| Segments::alone(ids)).collect();
                Ok(self.workers.forward(model, &alone))
            }
            Backend::Remote(server) => {
                let own = sequences.iter().map(|ids| self.tokenizer.unframe(ids));
                Ok(server.embed(&own.collect::<Vec<_>>())?.vectors)
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda(model) => {
                let lengths: Vec<usize> = sequences.iter().map(|ids| ids.len()).collect();
                let mut vectors = Vec::with_capacity(sequences.len());
                let count = lengths
                    .iter()
                    .sum::<usize>()
                    .div_ceil(crate::gpu::BATCH_TOKENS);
                for batch in crate::packing::micro_batches(&lengths, count.max(1)) {
                    vectors.extend(model.forward(&sequences[batch])?);
                }
                Ok(vectors)
            }
        }
    }
}

impl Backend {
    fn load(
        weights: &WeightsFile,
        config: &ModelConfig,
        device: Device,
    ) -> Result<Self, ModelError> {
        let weights = weights.tensors()?;
        match device {
            Device::Cpu => CpuBert::load(&weights, config, Head::Mean).map(Self::Cpu),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => {
                crate::gpu::GpuBert::load(&weights, config, ordinal).map(Self::Cuda)
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(ModelError::DeviceNotCompiled {
                device: device.to_string(),
                feature: "cuda",
            }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(ordinal) => write!(formatter, "cuda:{ordinal}"),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Encoder")
            .field("version", &self.version)
            .field("dimension", &self.dimension())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// Refuses what the model's tables have no rows for.
pub(crate) fn check_sequences<'a>(
    sequences: impl Iterator<Item = &'a [u32]>,
    config: &ModelConfig,
) -> Result<(), ModelError> {
    for (index, sequence) in sequences.enumerate() {
        let (length, limit) = (sequence.len(), config.max_tokens);
        let refuse = |reason| Err(ModelError::Sequence { index, reason });
        if length == 0 {
            return refuse("is empty".to_owned());
        }
        if length > limit {
            return refuse(format!(
                "has {length} tokens; the model reads at most {limit}"
            ));
        }
        let vocabulary = config.vocab_size;
        if let Some(id) = sequence.iter().find(|id| **id as usize >= vocabulary) {
            return refuse(format!(
                "holds id {id}; the vocabulary ends at {}",
                vocabulary - 1
            ));
        }
    }
    Ok(())
}

/// Divides a vector by its Euclidean norm; one of zeros stays as it is.
pub fn normalise(vector: &mut [f32]) {
    let squares: f32 = vector.iter().map(|value| value * value).sum();
    let norm = squares.sqrt().max(1e-12);
    for value in vector {
        *value /= norm;
    }
}

/// The first cosine that two computations of one model do not have, of vectors that are wanted, of
/// norm 1, and those that were found. These may have any length, as not every server normalises; a
/// NaN in one is a NaN here.
fn other_cosine(wanted: &[Vec<f32>], found: Vec<Vec<f32>>) -> Option<f32> {
    let mut cosines = wanted.iter().zip(found).map(|(wanted, mut found)| {
        normalise(&mut found);
        wanted.iter().zip(&found).map(|(a, b)| a * b).sum::<f32>()
    });
    cosines.find(|cosine| cosine.is_nan() || *cosine < SAME_MODEL)
}

/// The model's name: the folder's own, also where the path is `.` or a link.
pub(crate) fn folder_name(folder: &Path) -> String {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    real.file_name().map_or_else(
        || "model".to_owned(),
        |name| name_in(&name.to_string_lossy()).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_one_model_may_differ_in_length_and_not_in_direction() {
        let wanted = [vec![1.0, 0.0], vec![0.6, 0.8]];
        let other = |second: [f32; 2]| other_cosine(&wanted, vec![vec![7.0, 0.0], second.to_vec()]);
        assert_eq!(other([0.6, 0.8]), None);
        assert_eq!(other([0.03, 0.04]), None);
        assert_eq!(other([6.0, 8.0]), None);
        for second in [[0.8, 0.6], [60.0, 0.8], [-0.6, -0.8], [0.0, 0.0]] {
            assert!(other(second).is_some_and(|cosine| cosine < SAME_MODEL));
        }
        for second in [[f32::NAN, 0.8], [f32::INFINITY, 0.8]] {
            assert!(other(second).is_some_and(f32::is_nan));
        }
    }
}
