//! The modules of a sentence-transformers folder: what goes on behind the transformer.

use std::path::Path;

use serde::Deserialize;

use super::{json, optional};
use crate::error::ModelError;

/// One entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Module {
    /// Older and newer releases of sentence-transformers differ in the path before the class.
    fn class(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

/// The pipeline must be transformer, mean pooling and at most a normalisation.
pub(super) fn check_modules(folder: &Path) -> Result<(), ModelError> {
    let modules: Vec<Module> =
        optional(folder, "modules.json")?.ok_or_else(|| ModelError::MissingFile {
            folder: folder.to_owned(),
            file: "modules.json",
        })?;
    let refuse = |property, found: &str, supported| ModelError::UnsupportedArchitecture {
        folder: folder.to_owned(),
        property,
        found: found.to_owned(),
        supported,
    };
    let mut pooled = false;
    for module in &modules {
        match module.class() {
            "Transformer" if module.path.is_empty() => {}
            "Pooling" => {
                let path = folder.join(&module.path).join("config.json");
                if !path.is_file() {
                    return Err(ModelError::MissingFile {
                        folder: folder.to_owned(),
                        file: "1_Pooling/config.json",
                    });
                }
                let mode = json::<Pooling>(&path)?.mode();
                if mode != "mean" {
                    return Err(refuse("pooling", &mode, "`mean` pooling"));
                }
                pooled = true;
            }
            "Normalize" => {}
            _ => {
                return Err(refuse(
                    "module",
                    &module.kind,
                    "Transformer, Pooling and Normalize in `modules.json`",
                ));
            }
        }
    }
    if pooled {
        Ok(())
    } else {
        Err(refuse("pooling", "nothing", "`mean` pooling"))
    }
}

impl Pooling {
    fn mode(&self) -> String {
        let modes = [
            ("cls", self.pooling_mode_cls_token),
            ("mean", self.pooling_mode_mean_tokens),
            ("max", self.pooling_mode_max_tokens),
            ("mean_sqrt_len", self.pooling_mode_mean_sqrt_len_tokens),
            ("weightedmean", self.pooling_mode_weightedmean_tokens),
            ("lasttoken", self.pooling_mode_lasttoken),
        ];
        let on: Vec<_> = modes
            .iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| *name)
            .collect();
        if on.is_empty() {
            "nothing".to_owned()
        } else {
            on.join("+")
        }
    }
}

/// Whether the folder's tokens are pooled to a vector.
pub(super) fn pools(folder: &Path) -> Result<bool, ModelError> {
    let modules: Option<Vec<Module>> = optional(folder, "modules.json")?;
    Ok(modules.is_some_and(|modules| modules.iter().any(|module| module.class() == "Pooling")))
}
