//! Which letters are meant.

use millrace_kafka::{DeadLetter, KafkaConfig, topics};

use super::place::Place;
use crate::audit::{self, Arguments};
use crate::cli::UsageError;
use crate::keys::KeyPrefixes;
use crate::when::parse_when;

/// Flags that choose letters. Without any, all of them are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
    /// Only this topic, such as `documents.dlq`; several times for several.
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Only what failed at this stage, such as `extract`.
    #[arg(long = "stage", value_name = "STAGE")]
    pub stages: Vec<String>,
    /// Only what failed for this reason, such as `unsupported_media_type`.
    #[arg(
        long = "reason",
        visible_alias = "error-type",
        value_name = "ERROR_TYPE"
    )]
    pub reasons: Vec<String>,
    /// Only what first failed then or later: an RFC 3339 time, a day, or how long ago, such as `2h` or `7d`.
    #[arg(long = "from", value_name = "WHEN", value_parser = parse_when)]
    pub from_ms: Option<i64>,
    /// Only what first failed before then.
    #[arg(long = "to", value_name = "WHEN", value_parser = parse_when)]
    pub to_ms: Option<i64>,
    /// Only keys (of documents: URIs) that begin so; a path stands for its URI.
    #[arg(long = "key", visible_alias = "uri", value_name = "PREFIX")]
    pub key_prefix: Option<String>,
    /// Only these places of the original topic: `PARTITION`, `PARTITION/OFFSET` or
    /// `PARTITION/FIRST-LAST`.
    #[arg(long, value_name = "PARTITION/OFFSET")]
    pub origin: Option<Place>,
}

/// Which letters are meant.
#[derive(Clone, Debug)]
pub struct Filter {
    sources: Vec<&'static str>,
    args: FilterArgs,
    /// The key prefix as it is, and as a URI where it is a path.
    key_prefixes: KeyPrefixes,
}

impl Filter {
    /// As the flags say.
    ///
    /// # Errors
    /// A topic has no dead letters, or the times are the wrong way round.
    pub fn new(args: &FilterArgs, kafka: &KafkaConfig) -> Result<Self, UsageError> {
        if let (Some(from), Some(to)) = (args.from_ms, args.to_ms)
            && from > to
        {
            let refusal = "--from is after --to: nothing could ever be between them";
            return Err(UsageError(refusal.to_owned()));
        }
        let mut sources = Vec::new();
        for topic in &args.topics {
            let source = source_of(topic, kafka)?;
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        if sources.is_empty() {
            sources.extend(topics::with_dead_letters());
        }
        let key_prefixes = KeyPrefixes::of(args.key_prefix.as_deref());
        Ok(Self {
            sources,
            args: args.clone(),
            key_prefixes,
        })
    }

    /// The same for the dead letters of this topic alone.
    pub fn of(&self, source: &'static str) -> Self {
        Self {
            sources: vec![source],
            ..self.clone()
        }
    }

    /// The topics whose dead letters are meant, as they are declared.
    pub fn sources(&self) -> &[&'static str] {
        &self.sources
    }

    /// Whether topics were named.
    pub fn names_topics(&self) -> bool {
        !self.args.topics.is_empty()
    }

    /// Whether this letter is meant.
    pub fn lets_pass(&self, letter: &DeadLetter) -> bool {
        let FilterArgs {
            stages,
            reasons,
            from_ms,
            to_ms,
            origin,
            ..
        } = &self.args;
        let is_one_of =
            |wanted: &[String], it: &str| wanted.is_empty() || wanted.iter().any(|w| w == it);
        let failed_at_ms = letter.failed_at_ms();
        is_one_of(stages, &letter.stage)
            && is_one_of(reasons, &letter.error_type)
            && from_ms.is_none_or(|from| failed_at_ms.is_some_and(|at| at >= from))
            && to_ms.is_none_or(|to| failed_at_ms.is_some_and(|at| at < to))
            && origin.is_none_or(|place| place.holds(letter))
            && self.is_key_meant(letter)
    }

    /// Of what never was on a topic, where it came from stands for the key: a corpus, an endpoint.
    fn is_key_meant(&self, letter: &DeadLetter) -> bool {
        let key = match &letter.original.key {
            Some(key) => key,
            None => letter.origin.topic.as_bytes(),
        };
        self.key_prefixes.begin(Some(key))
    }

    /// The flags that were given, by name.
    pub fn arguments(&self) -> Arguments {
        let FilterArgs {
            topics: _,
            stages,
            reasons,
            from_ms,
            to_ms,
            key_prefix,
            origin,
        } = &self.args;
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        let topics: Vec<String> = self
            .sources
            .iter()
            .map(|it| topics::dead_letter_topic(it))
            .collect();
        audit::arguments([
            ("topics", Some(topics.join(","))),
            ("stage", list(stages)),
            ("reason", list(reasons)),
            ("from_ms", from_ms.map(|ms| ms.to_string())),
            ("to_ms", to_ms.map(|ms| ms.to_string())),
            ("key", key_prefix.clone()),
            ("origin", origin.map(|place| place.to_string())),
        ])
    }
}

/// The topic whose dead letters `name` means: `documents.dlq`, `documents`, or either with the prefix.
fn source_of(name: &str, kafka: &KafkaConfig) -> Result<&'static str, UsageError> {
    let declared = name.strip_prefix(&kafka.topic_prefix).unwrap_or(name);
    let named =
        |source: &&str| *source == declared || topics::dead_letter_topic(source) == declared;
    topics::with_dead_letters().find(named).ok_or_else(|| {
        let there: Vec<String> = topics::with_dead_letters()
            .map(topics::dead_letter_topic)
            .collect();
        UsageError(format!(
            "{name:?} is no topic of dead letters; there are {}",
            there.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_kafka::Record;

    use super::*;

    fn letter(key: Option<&str>, headers: &[(&str, &str)]) -> DeadLetter {
        let header = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Some(Bytes::from((*value).to_owned())))
        };
        DeadLetter::from_record(Record {
            topic: "millrace.documents.dlq".to_owned(),
            partition: 0,
            offset: 3,
            timestamp_ms: Some(500),
            key: key.map(|key| Bytes::from(key.to_owned())),
            value: None,
            headers: headers.iter().map(header).collect(),
        })
    }

    fn failed() -> DeadLetter {
        letter(
            Some("file:///srv/docs/a.txt"),
            &[
                ("__connect.errors.topic", "millrace.documents"),
                ("__connect.errors.partition", "2"),
                ("__connect.errors.offset", "17"),
                ("__connect.errors.stage", "extract"),
                ("dlq.error.type", "unsupported_media_type"),
                ("dlq.first_failed_at", "1000"),
            ],
        )
    }

    fn passes(args: &FilterArgs) -> bool {
        Filter::new(args, &KafkaConfig::default())
            .unwrap()
            .lets_pass(&failed())
    }

    #[test]
    fn without_flags_all_are_meant() {
        assert!(passes(&FilterArgs::default()));
        let filter = Filter::new(&FilterArgs::default(), &KafkaConfig::default()).unwrap();
        assert_eq!(filter.sources().len(), 7);
        assert!(filter.lets_pass(&letter(None, &[])), "somebody else's");
    }

    #[test]
    fn each_flag_chooses() {
        let of = |change: &dyn Fn(&mut FilterArgs)| {
            let mut args = FilterArgs::default();
            change(&mut args);
            passes(&args)
        };
        assert!(of(
            &|args| args.stages = vec!["fetch".into(), "extract".into()]
        ));
        assert!(!of(&|args| args.stages = vec!["fetch".into()]));
        assert!(of(
            &|args| args.reasons = vec!["unsupported_media_type".into()]
        ));
        assert!(!of(&|args| args.reasons = vec!["empty".into()]));
        assert!(of(
            &|args| (args.from_ms, args.to_ms) = (Some(1000), Some(1001))
        ));
        assert!(!of(&|args| args.to_ms = Some(1000)), "before, not at");
        assert!(!of(&|args| args.from_ms = Some(1001)));
        assert!(of(
            &|args| args.key_prefix = Some("file:///srv/docs/".into())
        ));
        assert!(
            of(&|args| args.key_prefix = Some("/srv/docs".into())),
            "a path"
        );
        assert!(of(&|args| args.key_prefix = Some("/srv/docs/".into())));
        assert!(!of(&|args| args.key_prefix = Some("/srv/doc/".into())));
        assert!(!of(&|args| args.key_prefix = Some("/srv/other".into())));
        for (place, meant) in [
            ("2", true),
            ("1", false),
            ("2/17", true),
            ("2/18", false),
            ("2/10-17", true),
        ] {
            assert_eq!(
                of(&|args| args.origin = place.parse().ok()),
                meant,
                "{place}"
            );
        }
    }

    #[test]
    fn times_the_wrong_way_round_are_refused() {
        let turned = FilterArgs {
            from_ms: Some(2),
            to_ms: Some(1),
            ..FilterArgs::default()
        };
        assert!(Filter::new(&turned, &KafkaConfig::default()).is_err());
    }

    #[test]
    fn a_topic_has_several_names() {
        let kafka = KafkaConfig::default();
        for name in [
            "documents",
            "documents.dlq",
            "millrace.documents.dlq",
            "millrace.documents",
        ] {
            assert_eq!(source_of(name, &kafka).unwrap(), "documents", "{name}");
        }
        let error = source_of("signals", &kafka).unwrap_err().to_string();
        assert!(
            error.contains("documents.dlq") && error.contains("users.dlq"),
            "{error}"
        );
    }
}
