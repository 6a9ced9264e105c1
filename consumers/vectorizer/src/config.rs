//! Settings of the vectorizer, with units and defaults, and the rules they must keep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chunk::ChunkLimits;
use crate::extract::ExtractLimits;

/// Settings of the vectorizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorizerConfig {
    /// Documents between receipt and acknowledgement. Enough of them must wait for the encoder
    /// that its batches are full while others are fetched and indexed. Default: 256.
    pub max_in_flight_documents: usize,
    /// Bytes of objects read and not yet finished. Default: 128 MiB.
    pub max_in_flight_bytes: u64,
    /// Largest object that is read, bytes. Default: 64 MiB.
    pub max_document_bytes: u64,
    /// Key phrases of a signal. Default: 8.
    pub key_phrases: usize,
    /// Bytes to text.
    pub extract: ExtractConfig,
    /// Text to chunks.
    pub chunk: ChunkConfig,
    /// Chunks to vectors.
    pub embed: EmbedConfig,
}

/// Settings of extraction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractConfig {
    /// Largest text of one document, bytes of UTF-8. Default: 16 MiB.
    pub max_text_bytes: u64,
    /// Address space of the child process that reads HTML, PDF and DOCX, bytes. Default: 1 GiB.
    pub memory_bytes: u64,
    /// Time that the child process has for a document, milliseconds. Default: 30,000.
    pub timeout_ms: u64,
    /// Child processes at a time. Default: 2.
    pub workers: usize,
}

/// Settings of chunking, in tokens of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkConfig {
    /// Where a chunk is full; a model that reads less has smaller chunks. Default: 200.
    pub target_tokens: usize,
    /// Tokens of whole sentences repeated from the chunk before, at most half of the target.
    /// Default: 32.
    pub overlap_tokens: usize,
    /// Most chunks of one document (4,000 of 200 tokens are a book of 1,500 pages). Default: 4,000.
    pub max_chunks: usize,
}

/// Settings of embedding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedConfig {
    /// Tokens given to the encoder at once, across documents, in order of arrival. Default: 4,096.
    pub batch_tokens: usize,
    /// Batches at a time: while one ends with less work than the encoder has threads, the next
    /// fills the rest. Default: 2.
    pub batches: usize,
}

impl Default for VectorizerConfig {
    fn default() -> Self {
        Self {
            max_in_flight_documents: 256,
            max_in_flight_bytes: 128 << 20,
            max_document_bytes: 64 << 20,
            key_phrases: 8,
            extract: ExtractConfig::default(),
            chunk: ChunkConfig::default(),
            embed: EmbedConfig::default(),
        }
    }
}

impl Default for ExtractConfig {
    fn default() -> Self {
        Self {
            max_text_bytes: 16 << 20,
            memory_bytes: 1 << 30,
            timeout_ms: 30_000,
            workers: 2,
        }
    }
}

impl Default for ChunkConfig {
    fn default() -> Self {
        Self {
            target_tokens: 200,
            overlap_tokens: 32,
            max_chunks: 4_000,
        }
    }
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self {
            batch_tokens: 4_096,
            batches: 2,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("vectorizer.{setting} is {found}; {rule}")]
pub struct InvalidConfig {
    /// Path of the setting.
    pub setting: &'static str,
    /// Its value.
    pub found: u64,
    /// What it must be.
    pub rule: &'static str,
}

impl VectorizerConfig {
    /// Checks every rule that the types do not keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let at_least = |setting, found: u64, least: u64, rule| {
            if found < least {
                Err(InvalidConfig {
                    setting,
                    found,
                    rule,
                })
            } else {
                Ok(())
            }
        };
        let count = |number: usize| number as u64;
        at_least(
            "max_in_flight_documents",
            count(self.max_in_flight_documents),
            1,
            "it must be at least 1",
        )?;
        at_least(
            "max_document_bytes",
            self.max_document_bytes,
            1,
            "it must be at least 1",
        )?;
        at_least(
            "max_in_flight_bytes",
            self.max_in_flight_bytes,
            self.max_document_bytes,
            "it must be at least max_document_bytes, or no large document could ever be read",
        )?;
        at_least(
            "extract.max_text_bytes",
            self.extract.max_text_bytes,
            1,
            "it must be at least 1",
        )?;
        at_least(
            "extract.memory_bytes",
            self.extract.memory_bytes,
            128 << 20,
            "it must be at least 134217728 (128 MiB), which the program itself needs",
        )?;
        at_least(
            "extract.timeout_ms",
            self.extract.timeout_ms,
            100,
            "it must be at least 100: starting the process takes some milliseconds",
        )?;
        at_least(
            "extract.workers",
            count(self.extract.workers),
            1,
            "it must be at least 1",
        )?;
        at_least(
            "chunk.target_tokens",
            count(self.chunk.target_tokens),
            8,
            "it must be at least 8",
        )?;
        at_least(
            "chunk.max_chunks",
            count(self.chunk.max_chunks),
            1,
            "it must be at least 1",
        )?;
        at_least(
            "embed.batch_tokens",
            count(self.embed.batch_tokens),
            1,
            "it must be at least 1",
        )?;
        at_least(
            "embed.batches",
            count(self.embed.batches),
            1,
            "it must be at least 1",
        )?;
        if self.chunk.overlap_tokens > self.chunk.target_tokens / 2 {
            return Err(InvalidConfig {
                setting: "chunk.overlap_tokens",
                found: count(self.chunk.overlap_tokens),
                rule: "it must be at most half of chunk.target_tokens",
            });
        }
        Ok(())
    }

    pub(crate) fn extract_limits(&self, readers: usize) -> ExtractLimits {
        ExtractLimits {
            max_text_bytes: self.extract.max_text_bytes,
            memory_bytes: self.extract.memory_bytes,
            timeout: Duration::from_millis(self.extract.timeout_ms),
            workers: self.extract.workers,
            readers,
        }
    }

    pub(crate) fn chunk_limits(&self) -> ChunkLimits {
        ChunkLimits {
            target_tokens: self.chunk.target_tokens,
            overlap_tokens: self.chunk.overlap_tokens,
            max_chunks: self.chunk.max_chunks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(VectorizerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_broken_rule_names_the_setting_and_its_value() {
        let mut config = VectorizerConfig {
            max_in_flight_bytes: 10,
            ..VectorizerConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("vectorizer.max_in_flight_bytes is 10"),
            "{error}"
        );
        config = VectorizerConfig::default();
        config.chunk.overlap_tokens = 150;
        assert!(config.validate().unwrap_err().to_string().contains("half"));
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error =
            serde_json::from_str::<VectorizerConfig>(r#"{"chunk":{"targt":1}}"#).unwrap_err();
        assert!(error.to_string().contains("targt"), "{error}");
    }
}
