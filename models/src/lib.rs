//! The sentence encoder, the cross-encoder, their tokenizer and the model store.
//!
//! A text becomes a vector here and nowhere else: [`Encoder`] reads a sentence-transformers folder
//! (safetensors weights, `tokenizer.json`, `config.json`) of the BERT family with mean pooling and
//! turns texts into L2-normalised vectors on the CPU (packed and fused) or, with the feature `cuda`,
//! on a GPU. [`CrossEncoder`] reads a query and a text together and scores the pair, on the CPU. [`Tokenizer`] is the model's own, for whoever must count or cut in tokens.
//! [`ModelStore`] fetches such folders, checks them and keeps them per user.
//!
//! Promises:
//! - A vector has cosine ≥ 0.9999 with the one sentence-transformers computes from the same folder.
//! - It does not depend on what else is in the batch beyond rounding (cosine ≥ 0.999999).
//! - A folder that is missing, incomplete or of another architecture is refused on load with what
//!   was found and what to do; it never yields wrong vectors.
//! - A model in the store is complete and has the pinned checksums: it is installed by one rename.
//!
//! What training shares with the encoder is public as well: the checked [`ModelConfig`], where the
//! tensors are ([`layout`]), their file ([`WeightsFile`]), products and passes on the CPU ([`cpu`]).
//!
//! Left to others: cutting documents into chunks, deciding when to embed, and refusing an index that
//! was built by another model (compare [`ModelFingerprint`]s, not dimensions).

mod config;
pub mod cpu;
mod cross_encoder;
mod described;
mod encoder;
mod error;
mod fingerprint;
#[cfg(any(test, feature = "cuda"))]
mod gpu;
pub mod layout;
pub mod packing;
mod remote;
mod sequence;
pub mod store;
mod tokenizer;
mod weights;

pub use config::{ModelConfig, ModelKind};
pub use cross_encoder::CrossEncoder;
pub use encoder::{Device, Encoder, EncoderOptions, normalise, version_of};
pub use error::ModelError;
pub use fingerprint::ModelFingerprint;
pub use remote::{RemoteConfig, RemoteDialect};
pub use sequence::{Segments, TokenSequence};
pub use store::{ModelStore, StoreError};
pub use tokenizer::{FirstOfPair, SequenceToken, Token, Tokenizer};
pub use weights::{Weights, WeightsFile};
