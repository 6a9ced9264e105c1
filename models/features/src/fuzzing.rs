//! What fuzzing asks of declarations and stored profiles. Compiled for fuzzing and for the tests that
//! replay the corpora, so that neither needs an API that the product has not.

use std::collections::BTreeMap;

use millrace_schemas::{BehaviorEvent, BehaviorKind, Feedback, FeedbackItem, ItemCounters, Origin};

use crate::{Context, FeatureDeclaration, FeatureSet, Item, Profile, Scores, compute};

const MODEL: &str = "model";
const NOW_MS: i64 = 1_700_000_000_000;

/// A list of declarations in JSON: those that make a set are written as what reads as the same set,
/// and it computes.
pub fn feature_declarations(input: &[u8]) {
    let Ok(declarations) = serde_json::from_slice::<Vec<FeatureDeclaration>>(input) else {
        return;
    };
    let set = match FeatureSet::new(declarations, MODEL) {
        Ok(set) => set,
        Err(error) => {
            assert!(error.to_string().len() < 1_000, "{error}");
            return;
        }
    };
    let Ok(written) = serde_json::to_vec(set.declarations()) else {
        panic!("declarations that were read cannot be written");
    };
    match serde_json::from_slice(&written).map(|again| FeatureSet::new(again, MODEL)) {
        Ok(Ok(again)) => assert_eq!(again, set),
        other => panic!("declarations that were written cannot be read: {other:?}"),
    }
    let mut profile = Profile::new("user", MODEL);
    computes(&set, &profile);
    profile.apply(&click(), &set.profile_settings());
    computes(&set, &profile);
}

/// Any bytes as a store's value: a profile that is read can be written, takes feedback and computes.
pub fn stored_profile(input: &[u8]) {
    let Ok(mut profile) = Profile::from_bytes(input) else {
        return;
    };
    let set = FeatureSet::default_for(MODEL);
    for _ in 0..2 {
        let written = profile.to_bytes();
        match Profile::from_bytes(&written) {
            Ok(again) => assert_eq!(again.to_bytes(), written),
            Err(error) => panic!("a profile that was written cannot be read: {error:?}"),
        }
        computes(&set, &profile);
        let _ = profile.interest_terms(5);
        let rebuilt = profile.rebuilt("other", |_| Some(vec![0.6, 0.8]));
        computes(&set, &rebuilt);
        profile.apply(&click(), &set.profile_settings());
    }
}

fn computes(set: &FeatureSet, profile: &Profile) {
    let (click, counters, mut row) = (click(), ItemCounters::default(), Vec::new());
    let item = Item::of_feedback(&click, &counters);
    let context = Context::of_totals([&counters], NOW_MS);
    compute(set, profile, &item, &Scores::default(), &context, &mut row);
    assert_eq!(row.len(), set.len());
    assert!(row.iter().all(|value| !value.is_infinite()), "{row:?}");
}

fn click() -> Feedback {
    Feedback {
        event: BehaviorEvent {
            event_id: "event".to_owned(),
            user_id: "user".to_owned(),
            item_id: "item".to_owned(),
            item: "item".to_owned(),
            kind: BehaviorKind::Click,
            value: None,
            event_time_ms: NOW_MS,
            request_id: None,
            trace_info: None,
            scene_id: None,
            position: None,
            attributes: BTreeMap::new(),
            source: "own".to_owned(),
        },
        origin: Origin {
            topic: "behavior.by-item".to_owned(),
            partition: 0,
            offset: 0,
        },
        expected_ctr: Some(0.2),
        item: FeedbackItem {
            model_version: MODEL.to_owned(),
            vector: vec![0.6, 0.8],
            tags: vec!["tag".to_owned()],
            metadata: BTreeMap::from([("popularity".to_owned(), "7".to_owned())]),
            ..FeedbackItem::default()
        },
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_feature_declarations() {
        millrace_fuzz::replay("feature_declarations", super::feature_declarations);
    }

    #[test]
    fn the_corpus_of_stored_profile() {
        millrace_fuzz::replay("stored_profile", super::stored_profile);
    }
}
