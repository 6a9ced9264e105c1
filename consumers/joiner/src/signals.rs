//! The topic `signals` as a table: the latest signal of each item and model.

use std::collections::BTreeMap;

use millrace_schemas::{FeedbackItem, Signal};
use serde::{Deserialize, Serialize};

/// What is known of one item, by model version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemSignals {
    models: BTreeMap<String, FeedbackItem>,
}

impl ItemSignals {
    /// Takes a signal, unless a newer one of its model is there. A deleted item keeps its entry: it
    /// is known to be gone, which is not the same as unknown.
    pub fn update(&mut self, signal: Signal) -> bool {
        let known = self.models.get(&signal.model_version);
        if known.is_some_and(|known| known.document_version > signal.document_version) {
            return false;
        }
        self.models
            .insert(signal.model_version.clone(), FeedbackItem::from(signal));
        true
    }

    /// Forgets a model, whose last record on the topic is gone.
    pub fn remove(&mut self, model_version: &str) {
        self.models.remove(model_version);
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// What this model made of the item, unless that was removed.
    pub fn vector(&self, model_version: &str) -> Option<&[f32]> {
        let vector = &self.models.get(model_version)?.vector;
        (!vector.is_empty()).then_some(vector)
    }

    /// The signal to join with: of the preferred model where there is one, or else the one with the
    /// greatest document version; of two models at one version that with the greater name, so that
    /// the choice is always the same. An item that only other models know is not unknown.
    pub fn choose(&self, preferred_model: Option<&str>) -> Option<&FeedbackItem> {
        let preferred = preferred_model.and_then(|model| self.models.get(model));
        preferred.or_else(|| {
            self.models
                .values()
                .max_by_key(|item| (item.document_version, &item.model_version))
        })
    }
}

/// Item and model of a record's key, `{item_id}@{model_version}`.
pub(crate) fn split_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples;

    fn signal(model: &str, version: i64, deleted: bool) -> Signal {
        samples::signal("i", model, version, deleted)
    }

    #[test]
    fn the_latest_of_each_model_is_kept_in_any_order() {
        let mut item = ItemSignals::default();
        assert_eq!(item.choose(None), None);
        assert!(item.update(signal("a", 2, false)));
        assert!(!item.update(signal("a", 1, false)));
        assert!(item.update(signal("b", 2, false)));
        let chosen = |item: &ItemSignals, model| {
            item.choose(model)
                .map(|item| (item.model_version.clone(), item.document_version))
        };
        assert_eq!(chosen(&item, None), Some(("b".to_owned(), 2)));
        assert_eq!(chosen(&item, Some("a")), Some(("a".to_owned(), 2)));
        assert_eq!(chosen(&item, Some("c")), chosen(&item, None));
        assert!(item.update(signal("a", 3, true)));
        assert!(
            item.choose(None)
                .is_some_and(|item| item.deleted && item.vector.is_empty())
        );
        item.remove("a");
        item.remove("b");
        assert!(item.is_empty());
    }
}
