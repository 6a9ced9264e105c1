//! What makes two replays the same one: what they read and where it goes.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::filter::FilterArgs;
use super::target::Target;
use crate::audit::{self, Arguments};
use crate::output::printable;

/// The arguments that may not change between two runs of a replay, by name. How fast it goes, and what is
/// told of it, may.
pub fn arguments(topic: &str, args: &FilterArgs, target: &Target) -> Arguments {
    let FilterArgs {
        partitions,
        from_offset,
        to_offset,
        from,
        to,
        key,
        types,
        model,
    } = args;
    let mut partitions = partitions.clone();
    partitions.sort_unstable();
    partitions.dedup();
    let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
    audit::arguments([
        ("topic", Some(topic.to_owned())),
        ("to", Some(target.to_string())),
        ("partition", list(&partitions)),
        ("from_offset", from_offset.map(|offset| offset.to_string())),
        ("to_offset", to_offset.map(|offset| offset.to_string())),
        // As it was written: `2h` ago is asked for again when the replay goes on.
        ("from", from.as_ref().map(|moment| moment.text.clone())),
        ("to_time", to.as_ref().map(|moment| moment.text.clone())),
        ("key", key.clone()),
        ("type", list(types)),
        ("model", model.clone()),
    ])
}

/// A name of its own for each set of arguments, which begins with the topic's.
pub fn default_name(topic: &str, arguments: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in arguments {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    let digest = hash.finalize();
    let digits = digest.iter().take(5).map(|byte| format!("{byte:02x}"));
    let digits: String = digits.collect();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let topic: String = topic.chars().filter(is_plain).take(60).collect();
    format!("{topic}-{digits}")
}

/// What differs, as `name: before, now after`; nothing where they are the same.
pub fn differences(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Option<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let told = |value: Option<&String>| {
        value.map_or_else(|| "none".to_owned(), |value| printable(value).into_owned())
    };
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| {
            let (before, now) = (told(before.get(name)), told(now.get(name)));
            format!("{name}: {before}, now {now}")
        })
        .collect();
    (!differing.is_empty()).then(|| differing.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &FilterArgs) -> BTreeMap<String, String> {
        arguments("millrace.documents", args, &Target::Index)
    }

    #[test]
    fn a_name_stands_for_its_arguments() {
        let plain = of(&FilterArgs::default());
        let name = default_name("millrace.documents", &plain);
        assert_eq!(name, default_name("millrace.documents", &plain));
        assert!(millrace_kafka::replay::is_replay_name(&name), "{name}");
        let args = |change: &dyn Fn(&mut FilterArgs)| {
            let mut args = FilterArgs::default();
            change(&mut args);
            of(&args)
        };
        let keyed = args(&|args| args.key = Some("a".into()));
        assert_ne!(name, default_name("millrace.documents", &keyed));
        // The order of partitions is no difference.
        assert_eq!(
            args(&|args| args.partitions = vec![2, 1, 2]),
            args(&|args| args.partitions = vec![1, 2])
        );
        let hostile = default_name("a b\u{1b}/..", &keyed);
        assert!(
            millrace_kafka::replay::is_replay_name(&hostile),
            "{hostile}"
        );
    }

    #[test]
    fn what_differs_is_named() {
        let plain = of(&FilterArgs::default());
        assert_eq!(differences(&plain, &plain), None);
        let keyed = of(&FilterArgs {
            key: Some("a\u{1b}".into()),
            ..FilterArgs::default()
        });
        let told = differences(&plain, &keyed).unwrap();
        assert_eq!(told, "key: none, now a\\u{1b}");
    }
}
