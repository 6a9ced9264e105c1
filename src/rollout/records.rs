//! The record of a rollout, on the topic `rollouts`.

use std::collections::BTreeMap;

use anyhow::Context;
use millrace_index::{Generation, IndexSpec};
use millrace_kafka::{
    KafkaConfig, Producer, ReadFrom, ReadUntil, ReaderError, Record, TopicReader, topics,
};
use millrace_schemas::{EventHeaders, Rollout, RolloutGeneration, RolloutPhase, decode};

const SOURCE: &str = "millrace/rollout";

/// Reads what was there when `reader` was opened: the last record of the index, and the offset of the
/// last of all, -1 where there is none.
///
/// # Errors
/// The brokers can't be reached.
pub async fn last(
    reader: &mut TopicReader,
    index: &str,
) -> Result<(Option<Rollout>, i64), ReaderError> {
    // It has one partition.
    let bound = |of: &BTreeMap<i32, i64>| of.values().copied().max().unwrap_or(0);
    let (start, end) = (bound(reader.start_offsets()), bound(reader.end_offsets()));
    let (mut last, mut offset) = (None, end - 1);
    if start < end {
        while let Some(record) = reader.next().await {
            let record = record?;
            offset = record.offset;
            last = of_index(&record, index).or(last);
            // The newest record of a compacted topic is never compacted away.
            if record.offset + 1 >= end {
                break;
            }
        }
    }
    Ok((last, offset))
}

/// All records from here on, those that are there first.
///
/// # Errors
/// The brokers can't be reached.
pub async fn follow(kafka: &KafkaConfig) -> Result<TopicReader, ReaderError> {
    let topic = kafka.topic(topics::ROLLOUTS);
    TopicReader::open(kafka, &topic, &ReadFrom::Beginning, ReadUntil::Forever).await
}

/// The rollout that a record tells of, where it is one of this index.
pub fn of_index(record: &Record, index: &str) -> Option<Rollout> {
    let rollout: Rollout = match decode(record.value.as_deref()?) {
        Ok(rollout) => rollout,
        Err(error) => {
            tracing::warn!(origin = %record.origin(), %error, "a rollout can't be read; left out");
            return None;
        }
    };
    (rollout.index == index).then_some(rollout)
}

/// Writes that `rollout` has reached `phase`, and waits for the acknowledgement; with its offset.
///
/// # Errors
/// It can't be written; then nothing may be done that the phase stands for.
pub async fn publish(
    producer: &Producer,
    rollout: &Rollout,
    phase: RolloutPhase,
    who: &str,
) -> anyhow::Result<(Rollout, i64)> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut reached = Rollout {
        phase,
        who: who.to_owned(),
        ..rollout.clone()
    };
    reached.phases.insert(phase.to_string(), now_ms);
    let headers = EventHeaders {
        id: format!(
            "{}/{}/{phase}/{now_ms}",
            reached.index, reached.to.generation
        ),
        source: SOURCE.to_owned(),
        type_: format!("millrace.rollout.{phase}"),
        time_ms: Some(now_ms),
        traceparent: None,
    };
    let sent = producer
        .send(&reached.index, None, &reached, &headers)
        .await;
    let position = sent.with_context(|| {
        format!("the rollout is not {phase}: it can't be written to the topic rollouts")
    })?;
    Ok((reached, position.offset))
}

/// A rollout that begins.
pub fn begin(from: &IndexSpec, to: &IndexSpec) -> Rollout {
    Rollout {
        index: from.name.clone(),
        phase: RolloutPhase::Building,
        from: generation(from),
        to: generation(to),
        who: String::new(),
        phases: [].into(),
        filled: 0,
        gates: Vec::new(),
    }
}

fn generation(spec: &IndexSpec) -> RolloutGeneration {
    RolloutGeneration {
        // At most 999,999.
        generation: i32::try_from(spec.generation).unwrap_or(i32::MAX),
        model_version: spec.model_version.clone(),
        model_fingerprint: spec.model_fingerprint.clone(),
    }
}

/// Whether the new generation is of the model that serves: made anew of the same documents.
pub fn is_backfill(rollout: &Rollout) -> bool {
    rollout.from.model_fingerprint == rollout.to.model_fingerprint
}

/// The number of a generation of a record.
pub fn number(generation: &RolloutGeneration) -> u32 {
    generation.generation.unsigned_abs()
}

/// A generation as the index itself describes it.
pub fn described(rollout: &Rollout, generation: &RolloutGeneration) -> Generation {
    Generation {
        generation: number(generation),
        index: millrace_index::generation_name(&rollout.index, number(generation)),
        // The index knows its own; nothing here depends on it.
        dimension: 0,
        model_version: generation.model_version.clone(),
        model_fingerprint: generation.model_fingerprint.clone(),
    }
}
