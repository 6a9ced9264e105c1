//! Which models of the folder can't serve: each file is read once, and again when it has changed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use millrace_ranker::{FeatureSpec, RankerModel};
use millrace_retry::error_chain;

use super::{WEIGHTED, check_name, model_path};

/// Length and time of a file, and why it can't serve.
type Checked = (u64, Option<SystemTime>, Option<String>);

/// What was found of the files so far, by name.
#[derive(Default)]
pub(super) struct FolderCheck {
    checked: Mutex<HashMap<String, Checked>>,
}

impl FolderCheck {
    /// Of these names those that can't serve, and why.
    pub fn unusable(
        &self,
        folder: &Path,
        features: &FeatureSpec,
        names: &[String],
    ) -> BTreeMap<String, String> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.retain(|name, _| names.contains(name));
        let mut unusable = BTreeMap::new();
        for name in names {
            let path = model_path(folder, name);
            let (len, time) = std::fs::metadata(&path)
                .map_or((0, None), |file| (file.len(), file.modified().ok()));
            let known = checked
                .get(name)
                .filter(|known| (known.0, known.1) == (len, time));
            let reason = match known {
                Some((_, _, reason)) => reason.clone(),
                None => {
                    let reason = reason(&path, name, features);
                    checked.insert(name.clone(), (len, time, reason.clone()));
                    reason
                }
            };
            unusable.extend(reason.map(|reason| (name.clone(), reason)));
        }
        unusable
    }
}

fn reason(path: &Path, name: &str, features: &FeatureSpec) -> Option<String> {
    if name == WEIGHTED {
        return Some("the default has this name; rename the file".to_owned());
    }
    if let Err(error) = check_name(name) {
        return Some(error.to_string());
    }
    let loaded = RankerModel::load(path, features);
    loaded.err().map(|error| error_chain(&error))
}
