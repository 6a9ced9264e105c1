//! All of RankLens through the join, without vectors: its baselines were measured by other means too.

use anyhow::{Context, Result};
use millrace_features::{FeatureDeclaration, FeatureKind, FeatureSet};
use millrace_joiner::JoinerConfig;
use millrace_producers::behavior::BehaviorConfig;
use millrace_producers::recording::{Recorded, Recording};
use millrace_schemas::{DocId, DocumentNotice, Origin, Signal};
use millrace_trainer::evaluation::Evaluation;
use millrace_trainer::learning::time_split;
use millrace_trainer::replay::Replay;

fn signal(notice: DocumentNotice) -> Signal {
    Signal {
        item_id: DocId::from_uri(&notice.uri).to_string(),
        uri: notice.uri,
        document_version: 1,
        model_version: "none".to_owned(),
        vector: vec![],
        title: notice.title,
        language: None,
        media_type: String::new(),
        categories: vec![],
        tags: vec![],
        key_phrases: vec![],
        near_duplicate_hash: 0,
        published_at_ms: None,
        deleted: false,
        etag: None,
        size_bytes: None,
        metadata: notice.metadata,
        origin: Origin {
            topic: String::new(),
            partition: 0,
            offset: 0,
        },
    }
}

#[test]
fn its_baselines_are_those_that_were_measured_elsewhere() -> Result<()> {
    let path = millrace_servers::shared_data("ranklens/events.jsonl.gz")?;
    let ctr = FeatureKind::Ctr {
        half_life: millrace_features::rates::HalfLife::Day,
    };
    let features = FeatureSet::new(vec![FeatureDeclaration::new("ctr", ctr)], "none")?;
    let mut replay = Replay::new(&JoinerConfig::default(), features, "none")?;
    let mut recording = Recording::open(&path, &BehaviorConfig::default(), 0)?;
    while let Some((number, line)) = recording.next_line()? {
        match line? {
            Recorded::Item(notice) => replay.item(number, signal(*notice)),
            Recorded::Behavior(events) => replay.behavior(number, events)?,
            Recorded::PassedOver(_) => {}
        }
    }
    let replayed = replay.finish();
    let counts = replayed.counts;
    assert_eq!((replayed.rankings.len(), counts.items), (7_755, 2_512));
    assert_eq!((counts.clicks.joined, counts.clicks.unknown), (36_156, 0));
    // Eight items are shown and never told.
    assert_eq!((counts.unreadable, counts.unmatched), (0, 633));

    // The one feature is the decayed rate of the join: all of RankLens is within twenty minutes, so
    // it orders as the rate that forgets nothing does.
    let from = time_split(replayed.rankings.len());
    let mut scores = |_: usize, ranking: &millrace_trainer::Ranking| -> Vec<f64> {
        ranking.features.iter().map(|ctr| f64::from(*ctr)).collect()
    };
    let baselines = Some(replayed.baselines.as_slice());
    let evaluation = Evaluation::of(&replayed.rankings, baselines, from, 0, &mut scores)?;
    assert_eq!((evaluation.rankings, evaluation.skipped), (1_418, 133));
    let near = |found: f64, expected: f64| (found - expected).abs() < 0.002;
    let item_ctr = evaluation.baselines.item_ctr.context("it is followed")?;
    let popularity = evaluation.baselines.popularity.context("it is told")?;
    assert!(near(item_ctr, 0.5825), "{item_ctr}");
    assert!(near(popularity, 0.5033), "{popularity}");
    assert!(
        near(evaluation.baselines.as_shown, 0.3785),
        "{evaluation:?}"
    );
    assert!(
        (evaluation.baselines.random - 0.328).abs() < 0.01,
        "{evaluation:?}"
    );
    assert!(near(evaluation.ndcg_at_10, item_ctr), "{evaluation:?}");
    Ok(())
}
