//! The steps of the dataflow: who reads what, and where each stands on the drawing.

use millrace_kafka::KafkaConfig;
use millrace_stateful::group_prefix;

use crate::stack::is_vectorizer_group;

/// A step that reads topics by consumer groups.
#[derive(Debug)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub does: &'static str,
    group: Group,
    /// Column and row.
    pub at: (u32, u32),
}

#[derive(Debug)]
enum Group {
    /// The vectorizer's, which is named after its index.
    Vectorizer,
    /// One group of this name.
    Named(&'static str),
    /// One for each generation of the state of this consumer.
    Generations(&'static str),
}

impl Stage {
    /// Whether this group is one of the step's, over the index of this name.
    pub fn is_group(&self, group: &str, kafka: &KafkaConfig, index: &str) -> bool {
        match self.group {
            Group::Vectorizer => is_vectorizer_group(kafka, index, group),
            Group::Named(name) => group.strip_prefix(&kafka.topic_prefix) == Some(name),
            Group::Generations(consumer) => {
                let generation = group.strip_prefix(&group_prefix(kafka, consumer));
                generation.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()))
            }
        }
    }
}

/// The steps with groups of their own, in the order of the flow.
pub const STAGES: &[Stage] = &[
    Stage {
        name: "vectorizer",
        does: "fetches, extracts, chunks, embeds and indexes documents",
        group: Group::Vectorizer,
        at: (1, 0),
    },
    Stage {
        name: "rekey",
        does: "publishes behavior by item and by request",
        group: Group::Named("rekey"),
        at: (1, 3),
    },
    Stage {
        name: "joiner",
        does: "joins behavior with signals and counts it",
        group: Group::Generations("joiner"),
        at: (3, 1),
    },
    Stage {
        name: "profiles",
        does: "keeps what is known of users",
        group: Group::Generations("profiles"),
        at: (5, 1),
    },
    Stage {
        name: "labeler",
        does: "joins answers with the clicks on them",
        group: Group::Generations("labeler"),
        at: (3, 4),
    },
];

/// A topic, or a place without a group, on the drawing.
#[derive(Debug)]
pub struct Place {
    /// The topic's name as it is declared, or the place's.
    pub name: &'static str,
    /// Whether it is a topic.
    pub topic: bool,
    /// Column and row.
    pub at: (u32, u32),
}

const fn topic(name: &'static str, column: u32, row: u32) -> Place {
    Place {
        name,
        topic: true,
        at: (column, row),
    }
}

const fn place(name: &'static str, column: u32, row: u32) -> Place {
    Place {
        name,
        topic: false,
        at: (column, row),
    }
}

/// All that is drawn besides the steps.
pub const PLACES: &[Place] = &[
    topic("documents", 0, 0),
    topic("documents.dlq", 1, 1),
    place("search index", 2, 0),
    topic("signals", 2, 1),
    topic("documents.outcomes", 2, 2),
    topic("behavior", 0, 3),
    topic("behavior.dlq", 1, 4),
    topic("behavior.by-item", 2, 3),
    topic("behavior.by-request", 2, 4),
    topic("behavior.unmatched", 4, 0),
    topic("feedback", 4, 1),
    topic("item-stats", 4, 3),
    place("recommender", 5, 3),
    topic("impressions", 5, 4),
    topic("training", 4, 5),
];

/// What goes from where to where.
pub const ARROWS: &[(&str, &str)] = &[
    ("documents", "vectorizer"),
    ("vectorizer", "documents.dlq"),
    ("vectorizer", "search index"),
    ("vectorizer", "signals"),
    ("vectorizer", "documents.outcomes"),
    ("behavior", "rekey"),
    ("rekey", "behavior.dlq"),
    ("rekey", "behavior.by-item"),
    ("rekey", "behavior.by-request"),
    ("signals", "joiner"),
    ("behavior.by-item", "joiner"),
    ("joiner", "behavior.unmatched"),
    ("joiner", "feedback"),
    ("joiner", "item-stats"),
    ("feedback", "profiles"),
    ("profiles", "recommender"),
    ("item-stats", "recommender"),
    ("recommender", "impressions"),
    ("behavior.by-request", "labeler"),
    ("impressions", "labeler"),
    ("labeler", "training"),
];

/// Where something stands on the drawing.
pub fn at(name: &str) -> Option<(u32, u32)> {
    let stage = STAGES.iter().find(|stage| stage.name == name);
    let stage = stage.map(|stage| stage.at);
    stage.or_else(|| {
        let place = PLACES.iter().find(|place| place.name == name);
        place.map(|place| place.at)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use millrace_kafka::topics;

    use super::*;

    #[test]
    fn all_that_is_drawn_is_there_and_stands_alone() {
        let mut taken = BTreeSet::new();
        let stages = STAGES.iter().map(|stage| stage.at);
        for at in stages.chain(PLACES.iter().map(|place| place.at)) {
            assert!(taken.insert(at), "two things at {at:?}");
        }
        for (from, to) in ARROWS {
            assert!(at(from).is_some() && at(to).is_some(), "{from} to {to}");
        }
        for place in PLACES.iter().filter(|place| place.topic) {
            assert!(topics::declaration(place.name).is_some(), "{}", place.name);
        }
    }

    #[test]
    fn groups_are_told_apart() {
        let kafka = KafkaConfig::default();
        let stage_of = |group: &str| {
            let mut stages = STAGES
                .iter()
                .filter(|stage| stage.is_group(group, &kafka, "docs"));
            stages.next().map(|stage| stage.name)
        };
        assert_eq!(
            stage_of("millrace.vectorizer.docs-000002"),
            Some("vectorizer")
        );
        assert_eq!(stage_of("millrace.vectorizer.docs-old-000001"), None);
        assert_eq!(
            stage_of(&millrace_joiner::rekey_group(&kafka)),
            Some("rekey")
        );
        assert_eq!(
            stage_of(&millrace_joiner::join_group(&kafka, 1)),
            Some("joiner")
        );
        assert_eq!(stage_of("millrace.profiles.000002"), Some("profiles"));
        assert_eq!(stage_of("millrace.labeler.000001"), Some("labeler"));
        assert_eq!(stage_of("somebody.else"), None);
    }
}
