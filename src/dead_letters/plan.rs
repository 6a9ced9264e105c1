//! What an order would do, counted before anything is done.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use millrace_kafka::{KafkaConfig, ResolvedLetters, ScannedLetter, topics};
use serde::Serialize;

use super::filter::Filter;
use super::visit;

/// What is to become of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Their records are published again, each at most so many times in its life.
    Replay {
        /// The most replays of a record.
        max_replays: u32,
    },
    /// They are left as they are, and open no more.
    Discard,
}

impl Act {
    /// As the topic `audit` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replay { .. } => "dlq.replay",
            Self::Discard => "dlq.discard",
        }
    }
}

/// What an order is to a letter that its filter lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is to be done.
    Selected,
    /// Somebody did something about it already.
    Resolved,
    /// Its record was replayed often enough.
    Capped,
    /// Its record can't be published again, for this reason.
    Unreplayable(&'static str),
}

/// Its original topic is not there any more.
pub const TOPIC_GONE: &str = "topic_gone";

/// Judges letters of one source.
pub struct Judge<'a> {
    act: Act,
    /// Full name of the topic that its records were on.
    source: String,
    present: &'a HashSet<String>,
}

impl<'a> Judge<'a> {
    /// Of letters of the topic with this full name; `present` are the brokers' topics.
    pub fn new(act: Act, source: String, present: &'a HashSet<String>) -> Self {
        Self {
            act,
            source,
            present,
        }
    }

    /// What the order is to this letter.
    pub fn judge(&self, scanned: &ScannedLetter) -> Judged {
        if scanned.resolved.is_some() {
            return Judged::Resolved;
        }
        let Act::Replay { max_replays } = self.act else {
            return Judged::Selected;
        };
        if let Some(reason) = scanned.letter.unreplayable(&self.source) {
            return Judged::Unreplayable(reason.as_str());
        }
        if !self.present.contains(&self.source) {
            return Judged::Unreplayable(TOPIC_GONE);
        }
        match scanned.letter.history.count >= max_replays {
            true => Judged::Capped,
            false => Judged::Selected,
        }
    }
}

/// What an order would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// Letters that are to be worked off.
    pub selected: u64,
    /// Bytes of keys, values and headers of their records.
    pub bytes: u64,
    /// Selected letters by machine-readable reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Selected letters by the stage that failed.
    pub by_stage: BTreeMap<String, u64>,
    /// Letters whose records were replayed often enough; they stay open.
    pub capped: u64,
    /// Letters whose records can't be published again, by reason; they stay open.
    pub unreplayable: BTreeMap<&'static str, u64>,
    /// Letters beyond `--max`; they stay open.
    pub beyond_max: u64,
    /// Of each topic with something to do.
    pub topics: Vec<TopicPlan>,
}

/// What an order would do with one topic's letters.
#[derive(Clone, Debug, Serialize)]
pub struct TopicPlan {
    /// The dead-letter topic's full name.
    pub topic: String,
    /// Of a replay: where the records go.
    pub target: Option<String>,
    /// Letters.
    pub selected: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// The topic whose dead letters these are, as it is declared.
    #[serde(skip)]
    pub source: &'static str,
}

impl Plan {
    /// Counts what `act` would do with at most `max` of the letters that the filter lets pass.
    ///
    /// # Errors
    /// The topics can't be read.
    pub async fn make(
        act: Act,
        filter: &Filter,
        max: Option<u64>,
        kafka: &KafkaConfig,
        resolved: &ResolvedLetters,
        present: &HashSet<String>,
    ) -> anyhow::Result<Self> {
        let mut plan = Self::default();
        for &source in filter.sources() {
            let full = kafka.topic(source);
            let judge = Judge::new(act, full.clone(), present);
            let mut topic = TopicPlan {
                topic: topics::dead_letter_topic(&full),
                target: matches!(act, Act::Replay { .. }).then_some(full),
                selected: 0,
                bytes: 0,
                source,
            };
            visit(kafka, &filter.of(source), resolved, |scanned| {
                match judge.judge(&scanned) {
                    Judged::Selected if max.is_some_and(|max| plan.selected >= max) => {
                        plan.beyond_max += 1;
                    }
                    Judged::Selected => {
                        let bytes = scanned.letter.original.size_bytes() as u64;
                        plan.select(&scanned, bytes);
                        topic.selected += 1;
                        topic.bytes += bytes;
                    }
                    Judged::Resolved => {}
                    Judged::Capped => plan.capped += 1,
                    Judged::Unreplayable(reason) => {
                        *plan.unreplayable.entry(reason).or_default() += 1;
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            if topic.selected > 0 {
                plan.topics.push(topic);
            }
        }
        Ok(plan)
    }

    fn select(&mut self, scanned: &ScannedLetter, bytes: u64) {
        let letter = &scanned.letter;
        self.selected += 1;
        self.bytes += bytes;
        *self.by_reason.entry(letter.error_type.clone()).or_default() += 1;
        *self.by_stage.entry(letter.stage.clone()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_kafka::{DeadLetter, LetterId, Record, Resolved};
    use millrace_schemas::Resolution;

    use super::*;

    const SOURCE: &str = "millrace.documents";

    fn scanned(headers: &[(&str, &str)]) -> ScannedLetter {
        let header = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Some(Bytes::from((*value).to_owned())))
        };
        let letter = DeadLetter::from_record(Record {
            topic: "millrace.documents.dlq".to_owned(),
            partition: 0,
            offset: 3,
            timestamp_ms: Some(500),
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        });
        ScannedLetter {
            id: LetterId::of(&letter, SOURCE),
            letter,
            resolved: None,
        }
    }

    fn of_origin(topic: &str, replays: &str) -> ScannedLetter {
        scanned(&[
            ("__connect.errors.topic", topic),
            ("__connect.errors.partition", "2"),
            ("__connect.errors.offset", "17"),
            ("dlq.replay_count", replays),
        ])
    }

    fn judged(act: Act, scanned: &ScannedLetter) -> Judged {
        let present = HashSet::from([SOURCE.to_owned(), "other".to_owned()]);
        Judge::new(act, SOURCE.to_owned(), &present).judge(scanned)
    }

    const REPLAY: Act = Act::Replay { max_replays: 2 };

    #[test]
    fn a_record_is_replayed_up_to_its_cap() {
        for (replays, wanted) in [
            ("0", Judged::Selected),
            ("1", Judged::Selected),
            ("2", Judged::Capped),
            ("4294967295", Judged::Capped),
            // Nobody of ours writes these.
            ("-1", Judged::Selected),
            ("many", Judged::Selected),
        ] {
            assert_eq!(
                judged(REPLAY, &of_origin(SOURCE, replays)),
                wanted,
                "{replays}"
            );
        }
        assert_eq!(
            judged(Act::Replay { max_replays: 0 }, &of_origin(SOURCE, "0")),
            Judged::Capped
        );
    }

    #[test]
    fn nothing_goes_anywhere_but_back() {
        let elsewhere = judged(REPLAY, &of_origin("other", "0"));
        assert_eq!(elsewhere, Judged::Unreplayable("never_on_the_topic"));
        let posted = judged(REPLAY, &of_origin("POST /v1/notices", "0"));
        assert_eq!(posted, Judged::Unreplayable("never_on_the_topic"));
        assert_eq!(
            judged(REPLAY, &scanned(&[])),
            Judged::Unreplayable("no_origin")
        );
        let nothing = HashSet::new();
        let judge = Judge::new(REPLAY, SOURCE.to_owned(), &nothing);
        assert_eq!(
            judge.judge(&of_origin(SOURCE, "0")),
            Judged::Unreplayable(TOPIC_GONE)
        );
        for letter in [scanned(&[]), of_origin("other", "9")] {
            assert_eq!(judged(Act::Discard, &letter), Judged::Selected);
        }
    }

    #[test]
    fn what_is_done_is_not_done_again() {
        let mut letter = of_origin(SOURCE, "0");
        letter.resolved = Some(Resolved {
            resolution: Resolution::Discarded,
            published_as: None,
            who: "ada@host".to_owned(),
            at_ms: 1,
        });
        assert_eq!(judged(REPLAY, &letter), Judged::Resolved);
        assert_eq!(judged(Act::Discard, &letter), Judged::Resolved);
    }
}
