//! A new encoder: profiles move to its space by the items they keep.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use millrace_features::{Profile, ProfileSettings};
use millrace_schemas::Feedback;
use millrace_state::{EmbeddedState, FIRST_GENERATION, Shard, ShardWriter, StateError, StateStore};

use crate::apply::{Applies, Input};
use crate::reader::ProfileReader;
use crate::space::{ItemVectors, Space};
use crate::tests::samples::{MODEL, START, START_MS, feedback};
use crate::writer::ProfileWriter;

const NEW_MODEL: &str = "new model";

/// What the new model made of the items that it has seen so far.
struct NewVectors(HashMap<String, Vec<f32>>);

#[async_trait]
impl ItemVectors for NewVectors {
    async fn vectors(
        &self,
        model_version: &str,
        item_ids: &[String],
    ) -> Result<HashMap<String, Vec<f32>>, StateError> {
        assert_eq!(model_version, NEW_MODEL);
        let known = |item_id: &String| Some((item_id.clone(), self.0.get(item_id)?.clone()));
        Ok(item_ids.iter().filter_map(known).collect())
    }
}

fn new_vectors() -> NewVectors {
    // Of seven items one is not embedded yet.
    let vector = |item: u8| (format!("item-{item}"), vec![f32::from(item), 1.0, -1.0]);
    NewVectors((0..6).map(vector).collect())
}

/// Applies this feedback in the space of a model, in one batch.
async fn apply(state: &Arc<dyn StateStore>, model_version: &str, feedback: Vec<Feedback>) {
    let shard = Shard {
        generation: FIRST_GENERATION,
        partition: 0,
    };
    let space = Space {
        model_version: model_version.to_owned(),
        vectors: Some(Arc::new(new_vectors())),
    };
    let applies = Applies {
        settings: ProfileSettings::default(),
        model_version: model_version.to_owned(),
        deduplication_hours: 168,
        cached_users: 100,
    };
    let shard = ShardWriter::claim(Arc::clone(state), shard).await.unwrap();
    let mut writer = ProfileWriter::open(shard, space, applies).await.unwrap();
    let next = writer.offset().unwrap_or(0) + i64::try_from(feedback.len()).unwrap();
    let input = |feedback| Input {
        written_ms: START_MS,
        position: START,
        feedback,
    };
    let batch = feedback.into_iter().map(input).collect();
    let step = writer.step(batch).await.unwrap();
    writer.commit(Some(next), step.changes).await.unwrap();
}

#[tokio::test]
async fn a_profile_moves_with_the_first_vector_of_a_new_model_and_is_read_in_its_space_before() {
    let folder = tempfile::tempdir().unwrap();
    let state: Arc<dyn StateStore> = Arc::new(EmbeddedState::open(folder.path()).unwrap());
    let before: Vec<Feedback> = (0..60).map(feedback).collect();
    apply(&state, MODEL, before).await;
    let stored = ProfileReader::new(Arc::clone(&state), 1);
    let old = [0, 1, 2].map(|user| format!("u-{user}"));
    let mut profiles = HashMap::new();
    for user_id in old {
        let profile = stored.get(&user_id).await.unwrap().unwrap();
        assert_eq!(profile.model_version(), MODEL);
        assert_eq!(profile.long_term().map(<[f32]>::len), Some(2));
        profiles.insert(user_id, profile);
    }
    let vectors = new_vectors();
    let moved = |profile: &Profile| profile.rebuilt(NEW_MODEL, |item| vectors.0.get(item).cloned());

    // Nobody has clicked since: read in the new space, stored in the old one.
    let reader = stored.in_space(NEW_MODEL, Arc::new(new_vectors()));
    for (user_id, profile) in &profiles {
        let read = reader.get(user_id).await.unwrap().unwrap();
        assert_eq!(read, moved(profile));
        assert_eq!(read.long_term().map(<[f32]>::len), Some(3));
        assert_eq!(stored.get(user_id).await.unwrap().as_ref(), Some(profile));
    }

    // One has, and another one on an item that the new model has not seen.
    let mut new = feedback(66);
    new.item.model_version = NEW_MODEL.to_owned();
    new.item.vector = vec![0.0, 0.6, 0.8];
    let late = feedback(61);
    apply(&state, NEW_MODEL, vec![new.clone(), late.clone()]).await;
    let settings = ProfileSettings::default();
    let mut first = moved(&profiles["u-0"]);
    first.apply(&new, &settings);
    first.stand_at(START);
    assert_eq!(stored.get("u-0").await.unwrap(), Some(first));
    let mut second = profiles["u-1"].clone();
    second.apply(&late, &settings);
    second.stand_at(START);
    assert_eq!(stored.get("u-1").await.unwrap(), Some(second));
}
