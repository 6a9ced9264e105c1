//! Two logs, the labels that read them, and the same join by the book.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use millrace_schemas::{
    BehaviorEvent, BehaviorKind, Impression, ImpressionItem, Origin, TrainingExample,
};
use millrace_state::{EmbeddedState, Shard, ShardWriter, StateError, StateStore};

use crate::config::LabelerConfig;
use crate::labels::{Answer, Click, Inputs, Labelled};
use crate::stats::Done;
use crate::values::Offsets;
use crate::writer::LabelWriter;

pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const START_MS: i64 = 1_700_000_040_000;

/// One store for all cases, each in a partition of its own.
static STORE: LazyLock<(tempfile::TempDir, Arc<dyn StateStore>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let state = EmbeddedState::open(folder.path()).unwrap();
    (folder, Arc::new(state))
});

/// An answer of three items, `minute` minutes after the start.
pub(crate) fn answer(request: usize, minute: i64) -> Impression {
    let item = |position: i32| ImpressionItem {
        item_id: format!("item-{position}"),
        position,
        score: 0.5,
        features: vec![0.25, f32::NAN],
        propensity: 0.01,
        explored: position == 3,
        sources: vec!["trending".to_owned()],
    };
    Impression {
        request_id: format!("r-{request}"),
        user_id: "u".to_owned(),
        scene: "home".to_owned(),
        pipeline: "default".to_owned(),
        bucket: None,
        served_at_ms: START_MS + minute * MINUTE_MS,
        items: (1..=3).map(item).collect(),
        feature_version: "features@1".to_owned(),
        ranker_version: "weighted".to_owned(),
        embedding_version: "model".to_owned(),
        index_version: String::new(),
        bm25_weight: 0.3,
        vector_weight: 0.7,
        weight_probability: 1.0,
        fallback: None,
        read_up_to: Vec::new(),
        profile: None,
    }
}

/// A click on an item of an answer.
pub(crate) fn click(id: usize, request: usize, item: usize, minute: i64) -> BehaviorEvent {
    BehaviorEvent {
        event_id: format!("e-{id}"),
        user_id: "u".to_owned(),
        item_id: format!("item-{item}"),
        item: item.to_string(),
        kind: BehaviorKind::Click,
        value: None,
        event_time_ms: START_MS + minute * MINUTE_MS,
        request_id: Some(format!("r-{request}")),
        trace_info: None,
        scene_id: None,
        position: None,
        attributes: BTreeMap::new(),
        source: "own".to_owned(),
    }
}

fn origin(offset: usize) -> Origin {
    Origin {
        topic: "impressions".to_owned(),
        partition: 0,
        offset: i64::try_from(offset).unwrap(),
    }
}

pub(crate) struct Play {
    pub config: LabelerConfig,
    pub answers: Vec<Impression>,
    pub clicks: Vec<BehaviorEvent>,
    pub now: Instant,
    /// What was published, in order.
    pub examples: Vec<TrainingExample>,
    /// What committed batches did.
    pub done: Done,
    runtime: tokio::runtime::Runtime,
    shard: Shard,
}

impl Play {
    pub fn new(
        config: LabelerConfig,
        answers: Vec<Impression>,
        clicks: Vec<BehaviorEvent>,
    ) -> Self {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        Self {
            config,
            answers,
            clicks,
            now: Instant::now(),
            examples: Vec::new(),
            done: Done::default(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
            shard: Shard {
                generation: 1,
                partition: NEXT.fetch_add(1, Ordering::Relaxed),
            },
        }
    }

    pub fn claim(&self) -> LabelWriter {
        let state = Arc::clone(&STORE.1);
        let claim = async {
            let shard = ShardWriter::claim(state, self.shard).await?;
            LabelWriter::open(shard, &self.config, self.now).await
        };
        self.runtime.block_on(claim).unwrap()
    }

    /// Applies the next records after where the writer stands, and publishes what comes out.
    pub fn step(
        &mut self,
        writer: &mut LabelWriter,
        answers: usize,
        clicks: usize,
    ) -> (Offsets, Labelled) {
        let at = |offset: Option<i64>| usize::try_from(offset.unwrap_or(0)).unwrap();
        let position = writer.position();
        let (first, begin) = (at(position.answers), at(position.clicks));
        let last = first.saturating_add(answers).min(self.answers.len());
        let end = begin.saturating_add(clicks).min(self.clicks.len());
        let answer = |offset: usize| Answer {
            impression: self.answers[offset].clone(),
            origin: origin(offset),
        };
        let click = |event: &BehaviorEvent| Click {
            request_id: event.request_id.clone().unwrap(),
            event: event.clone(),
        };
        let inputs = Inputs {
            answers: (first..last).map(answer).collect(),
            clicks: self.clicks[begin..end].iter().map(click).collect(),
        };
        let next = Offsets {
            answers: i64::try_from(last).ok(),
            clicks: i64::try_from(end).ok(),
        };
        let step = writer.step(inputs, self.now);
        let labelled = self.runtime.block_on(step).unwrap();
        self.examples.extend(labelled.examples.iter().cloned());
        (next, labelled)
    }

    pub fn commit(
        &self,
        writer: &mut LabelWriter,
        next: Offsets,
        labelled: Labelled,
    ) -> Result<(), StateError> {
        self.runtime.block_on(writer.commit(next, labelled.changes))
    }

    pub fn write(&mut self, writer: &mut LabelWriter, answers: usize, clicks: usize) {
        let (next, labelled) = self.step(writer, answers, clicks);
        self.done = labelled.done;
        self.commit(writer, next, labelled).unwrap();
    }

    /// Reads all that is left, and then takes it as all there is.
    pub fn finish(&mut self, writer: &mut LabelWriter) {
        self.write(writer, usize::MAX, usize::MAX);
        writer.labels_mut().end_of_input();
        self.write(writer, 0, 0);
        while writer.has_backlog() {
            self.write(writer, 0, 0);
        }
    }

    /// The last record of each request, as a reader of the compacted topic keeps them. Two records of
    /// one revision must be the same.
    pub fn latest(&self) -> BTreeMap<String, TrainingExample> {
        let mut revisions = BTreeMap::new();
        for example in &self.examples {
            let key = (example.request_id.clone(), example.revision);
            let same = revisions.insert(key, example.clone());
            assert!(same.is_none_or(|same| same == *example), "{example:?}");
        }
        // Sorted by revision: the greatest one stays.
        let last = revisions.into_iter();
        last.map(|((request_id, _), example)| (request_id, example))
            .collect()
    }

    /// Each answer with all clicks on it.
    pub fn model(&self) -> BTreeMap<String, TrainingExample> {
        let mut examples = BTreeMap::<String, TrainingExample>::new();
        for (offset, answer) in self.answers.iter().enumerate() {
            let window_ms = self.config.window_ms;
            examples
                .entry(answer.request_id.clone())
                .or_insert_with(|| {
                    TrainingExample::without_clicks(answer.clone(), window_ms, origin(offset))
                });
        }
        let mut counted = BTreeSet::new();
        for click in &self.clicks {
            let Some(example) = examples.get_mut(click.request_id.as_ref().unwrap()) else {
                continue;
            };
            let place = example
                .items
                .iter()
                .position(|item| item.item_id == click.item_id);
            let in_time = click.event_time_ms - example.served_at_ms <= example.window_ms;
            if let Some(index) = place
                && in_time
                && counted.insert(&click.event_id)
            {
                example.count_click(index, click.event_time_ms);
            }
        }
        examples
    }
}
