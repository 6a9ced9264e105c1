//! Which records are meant.

use millrace_kafka::replay::{ReplayStart, Wanted};
use millrace_kafka::{KafkaConfig, Record, topics};

use crate::cli::UsageError;
use crate::keys::KeyPrefixes;
use crate::when::Moment;

/// Flags that choose records. Without any, all that the topic has are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// Only this partition; several times for several.
    #[arg(long = "partition", value_name = "N")]
    pub partitions: Vec<i32>,
    /// From this offset on, in each partition.
    #[arg(long, value_name = "N", conflicts_with = "from", value_parser = clap::value_parser!(i64).range(0..))]
    pub from_offset: Option<i64>,
    /// Up to before this offset, in each partition.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub to_offset: Option<i64>,
    /// Only records of this time or later: an RFC 3339 time, a day, or how long ago, such as `2h` or `7d`.
    #[arg(long, value_name = "WHEN")]
    pub from: Option<Moment>,
    /// Only records from before this time.
    #[arg(long, value_name = "WHEN")]
    pub to: Option<Moment>,
    /// Only keys (of documents: URIs) that begin so; a path stands for its URI.
    #[arg(long, visible_alias = "uri", value_name = "PREFIX")]
    pub key: Option<String>,
    /// Only events of this CloudEvents type, such as `millrace.documents.created`; several times for
    /// several.
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Of `signals`: only those of this version of the model.
    #[arg(long, value_name = "VERSION")]
    pub model: Option<String>,
}

impl FilterArgs {
    /// The time from which on records are meant, ms since 1970.
    pub fn since_ms(&self) -> Option<i64> {
        self.from.as_ref().map(|moment| moment.ms)
    }

    /// The time before which they are.
    pub fn before_ms(&self) -> Option<i64> {
        self.to.as_ref().map(|moment| moment.ms)
    }

    /// The offsets that are meant.
    pub fn wanted(&self) -> Wanted {
        let from = match (&self.from_offset, &self.from) {
            (Some(offset), _) => ReplayStart::Offset(*offset),
            (None, Some(moment)) => ReplayStart::Time(moment.ms),
            (None, None) => ReplayStart::Oldest,
        };
        Wanted {
            partitions: self.partitions.iter().copied().collect(),
            from,
            to_offset: self.to_offset,
        }
    }

    /// Refuses what can never choose a record of `topic` (full name).
    ///
    /// # Errors
    /// Bounds the wrong way round, or `--model` of a topic without models.
    pub fn check(&self, topic: &str, kafka: &KafkaConfig) -> Result<(), UsageError> {
        let nothing = |bounds: &str| format!("{bounds}: nothing could ever be between them");
        let refusal = match (&self.from, &self.to, self.from_offset, self.to_offset) {
            (Some(from), Some(to), _, _) if from.ms >= to.ms => {
                nothing("--from is not before --to")
            }
            (_, _, Some(from), Some(to)) if from >= to => {
                nothing("--from-offset is not before --to-offset")
            }
            _ if self.model.is_some() && topic != kafka.topic(topics::SIGNALS) => {
                let signals = kafka.topic(topics::SIGNALS);
                format!(
                    "--model chooses among records of {signals}; those of {topic} name no model"
                )
            }
            _ => return Ok(()),
        };
        Err(UsageError(refusal))
    }
}

/// Which records of the offsets that are read are meant.
#[derive(Clone, Debug)]
pub struct Filter {
    from_ms: Option<i64>,
    to_ms: Option<i64>,
    key_prefixes: KeyPrefixes,
    types: Vec<String>,
    /// How the key of a signal of the model ends.
    key_end: Option<String>,
}

impl Filter {
    /// As the flags say, between these times.
    pub fn new(args: &FilterArgs, from_ms: Option<i64>, to_ms: Option<i64>) -> Self {
        Self {
            from_ms,
            to_ms,
            key_prefixes: KeyPrefixes::of(args.key.as_deref()),
            types: args.types.clone(),
            // The key, since a tombstone has no value that could name the model.
            key_end: args.model.as_ref().map(|model| format!("@{model}")),
        }
    }

    /// Whether this record is meant.
    pub fn lets_pass(&self, record: &Record) -> bool {
        let at_ms = record.timestamp_ms;
        let key = record.key.as_deref().unwrap_or_default();
        let is_one_of = |types: &[String]| {
            let named = record.header("ce_type");
            named.is_some_and(|named| types.iter().any(|it| it.as_bytes() == named))
        };
        // Times on a topic are in no order: the offsets alone do not say which records are meant.
        self.from_ms
            .is_none_or(|from| at_ms.is_some_and(|at| at >= from))
            && self.to_ms.is_none_or(|to| at_ms.is_some_and(|at| at < to))
            && self.key_prefixes.begin(record.key.as_deref())
            && self
                .key_end
                .as_ref()
                .is_none_or(|it| key.ends_with(it.as_bytes()))
            && (self.types.is_empty() || is_one_of(&self.types))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record() -> Record {
        Record {
            topic: "millrace.signals".to_owned(),
            partition: 0,
            offset: 3,
            timestamp_ms: Some(1_000),
            key: Some(Bytes::from_static(b"file:///srv/a.txt@m2")),
            value: None,
            headers: vec![(
                "ce_type".to_owned(),
                Some(Bytes::from_static(b"millrace.signals.removed")),
            )],
        }
    }

    fn passes(args: &FilterArgs) -> bool {
        Filter::new(args, args.since_ms(), args.before_ms()).lets_pass(&record())
    }

    fn at(ms: i64) -> Option<Moment> {
        let text = String::new();
        Some(Moment { text, ms })
    }

    #[test]
    fn each_flag_chooses() {
        let of = |change: &dyn Fn(&mut FilterArgs)| {
            let mut args = FilterArgs::default();
            change(&mut args);
            passes(&args)
        };
        assert!(of(&|_| {}));
        assert!(of(&|args| (args.from, args.to) = (at(1_000), at(1_001))));
        assert!(!of(&|args| args.to = at(1_000)), "before, not at");
        assert!(!of(&|args| args.from = at(1_001)));
        assert!(of(&|args| args.key = Some("/srv".into())), "a path");
        assert!(!of(&|args| args.key = Some("/var".into())));
        assert!(
            of(&|args| args.model = Some("m2".into())),
            "a tombstone too"
        );
        assert!(!of(&|args| args.model = Some("m1".into())));
        assert!(of(&|args| {
            args.types = vec!["a".into(), "millrace.signals.removed".into()];
        }));
        assert!(!of(&|args| args.types = vec!["millrace.signals".into()]));
    }

    #[test]
    fn what_can_never_be_is_refused() {
        let kafka = KafkaConfig::default();
        let (signals, behavior) = (kafka.topic("signals"), kafka.topic("behavior"));
        let args = FilterArgs {
            model: Some("m".into()),
            ..FilterArgs::default()
        };
        assert!(args.check(&signals, &kafka).is_ok());
        assert!(args.check(&behavior, &kafka).is_err());
        let turned = FilterArgs {
            from: at(2),
            to: at(2),
            ..FilterArgs::default()
        };
        assert!(turned.check(&signals, &kafka).is_err());
        let turned = FilterArgs {
            from_offset: Some(3),
            to_offset: Some(2),
            ..FilterArgs::default()
        };
        assert!(turned.check(&signals, &kafka).is_err());
    }
}
