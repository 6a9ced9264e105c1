//! What may be shown to a user, in a scene, to this caller.
//!
//! | left out | by |
//! |---|---|
//! | deleted items | the catalog, which has none |
//! | what upstream withdrew | `status` among the item's metadata: `0` as in AIRec's item table, `offline`, `withdrawn` |
//! | what has expired | `expire_time` among the metadata, seconds or milliseconds since 1970 |
//! | what the user has seen | acted on it, or was shown it [`Rules::seen_after`] times |
//! | what the scene does not show | [`Rules`] |
//! | what the caller does not want | the request's filter |

use millrace_features::Profile;
use millrace_index::Filter;
use millrace_schemas::Signal;

use crate::config::Rules;

/// Numbers beyond are milliseconds: as seconds they would be after the year 5138.
const LARGEST_SECONDS: i64 = 100_000_000_000;

/// What is asked of each item.
pub(crate) struct Admission<'a> {
    /// Whose seen items are left out.
    pub profile: Option<&'a Profile>,
    pub rules: &'a Rules,
    pub caller: &'a Filter,
    pub now_ms: i64,
}

impl Admission<'_> {
    /// Whether the item may be shown.
    pub fn admits(&self, signal: &Signal) -> bool {
        is_offered(signal, self.now_ms)
            && passes(signal, self.caller)
            && self.in_scene(signal)
            && !self.seen(signal)
    }

    fn in_scene(&self, signal: &Signal) -> bool {
        let rules = self.rules;
        let among = |labels: &[String], excluded: &[String]| {
            labels.iter().any(|label| excluded.contains(label))
        };
        let too_old = rules.max_age_hours.is_some_and(|hours| {
            let published = signal.published_at_ms;
            published.is_some_and(|at_ms| (self.now_ms - at_ms) as f64 > hours * 3_600_000.0)
        });
        !too_old
            && !among(&signal.categories, &rules.exclude_categories)
            && !among(&signal.tags, &rules.exclude_tags)
            && passes(signal, &rules.filter)
    }

    fn seen(&self, signal: &Signal) -> bool {
        if !self.rules.exclude_seen {
            return false;
        }
        let seen = self
            .profile
            .and_then(|profile| profile.seen(&signal.item_id));
        seen.is_some_and(|seen| seen.acted > 0 || seen.shown >= self.rules.seen_after)
    }
}

/// Whether upstream still offers the item.
fn is_offered(signal: &Signal, now_ms: i64) -> bool {
    let told = |key: &str| signal.metadata.get(key).map(|value| value.trim());
    let withdrawn = matches!(told("status"), Some("0" | "offline" | "withdrawn"));
    let expires = told("expire_time").and_then(|time| time.parse::<i64>().ok());
    let expired = expires.is_some_and(|time| {
        let time_ms = if time > LARGEST_SECONDS {
            time
        } else {
            time.saturating_mul(1_000)
        };
        time_ms <= now_ms
    });
    !signal.deleted && !withdrawn && !expired
}

/// As the index's filter has it.
fn passes(signal: &Signal, filter: &Filter) -> bool {
    if filter.is_empty() {
        return true;
    }
    let is = |found: Option<&str>, wanted: &Option<String>| {
        wanted.is_none() || found == wanted.as_deref()
    };
    let published = |test: &dyn Fn(i64) -> bool| signal.published_at_ms.is_some_and(test);
    filter.tags.iter().all(|tag| signal.tags.contains(tag))
        && (filter.categories.is_empty()
            || filter
                .categories
                .iter()
                .any(|c| signal.categories.contains(c)))
        && is(signal.language.as_deref(), &filter.language)
        && is(Some(&signal.media_type), &filter.media_type)
        && filter
            .published_from_ms
            .is_none_or(|from| published(&|at| at >= from))
        && filter
            .published_before_ms
            .is_none_or(|before| published(&|at| at < before))
        && filter
            .uri_prefix
            .as_deref()
            .is_none_or(|prefix| signal.uri.starts_with(prefix))
        && !filter.exclude_doc_ids.contains(&signal.item_id)
}

/// A filter for the index that passes at least what both do: what they have in common can be asked
/// for, and the rest is left out afterwards.
pub(crate) fn for_the_index(scene: &Filter, caller: &Filter) -> Filter {
    let mut both = caller.clone();
    for tag in &scene.tags {
        if !both.tags.contains(tag) {
            both.tags.push(tag.clone());
        }
    }
    if both.categories.is_empty() {
        both.categories.clone_from(&scene.categories);
    }
    let or = |one: &mut Option<String>, other: &Option<String>| {
        if one.is_none() {
            one.clone_from(other);
        }
    };
    or(&mut both.uri_prefix, &scene.uri_prefix);
    or(&mut both.language, &scene.language);
    or(&mut both.media_type, &scene.media_type);
    both.published_from_ms = both.published_from_ms.max(scene.published_from_ms);
    both.published_before_ms = match (both.published_before_ms, scene.published_before_ms) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    both.exclude_doc_ids
        .extend(scene.exclude_doc_ids.iter().cloned());
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{feedback, signal};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn admits(signal: &Signal, rules: &Rules, caller: &Filter) -> bool {
        let admission = Admission {
            profile: None,
            rules,
            caller,
            now_ms: NOW_MS,
        };
        admission.admits(signal)
    }

    #[test]
    fn what_is_withdrawn_or_expired_is_not_shown() {
        let told = |key: &str, value: &str| {
            let mut signal = signal("a", 1);
            signal.metadata.insert(key.to_owned(), value.to_owned());
            admits(&signal, &Rules::default(), &Filter::default())
        };
        assert!(told("status", "1") && told("status", "Released"));
        assert!(!told("status", "0") && !told("status", "offline"));
        assert!(told("expire_time", "1700000001") && !told("expire_time", "1700000000"));
        assert!(told("expire_time", "1700000000001") && !told("expire_time", "1699999999999"));
        assert!(told("expire_time", "next year"));
        let mut deleted = signal("a", 1);
        deleted.deleted = true;
        assert!(!admits(&deleted, &Rules::default(), &Filter::default()));
    }

    #[test]
    fn a_scene_has_its_rules() {
        let mut signal = signal("a", 1);
        signal.tags = vec!["x".to_owned()];
        signal.published_at_ms = Some(NOW_MS - 3_600_000);
        let with = |change: fn(&mut Rules)| {
            let mut rules = Rules::default();
            change(&mut rules);
            admits(&signal, &rules, &Filter::default())
        };
        assert!(with(|_| ()));
        assert!(with(|r| r.max_age_hours = Some(1.0)));
        assert!(!with(|r| r.max_age_hours = Some(0.99)));
        assert!(!with(|r| r.exclude_categories = vec!["news".to_owned()]));
        assert!(!with(
            |r| r.exclude_tags = vec!["y".to_owned(), "x".to_owned()]
        ));
        assert!(!with(|r| r.filter.language = Some("de".to_owned())));
        assert!(with(|r| r.filter.tags = vec!["x".to_owned()]));
    }

    #[test]
    fn seen_is_what_was_acted_on_or_shown_often() {
        let profile = |kinds: &[millrace_schemas::BehaviorKind]| {
            let mut profile = Profile::new("u", crate::samples::MODEL);
            for (n, kind) in kinds.iter().enumerate() {
                let feedback = feedback("a", *kind, n as i64);
                profile.apply(&feedback, &millrace_features::ProfileSettings::default());
            }
            profile
        };
        use millrace_schemas::BehaviorKind::{Click, Expose};
        let seen = |profile: &Profile, exclude_seen| {
            let rules = Rules {
                exclude_seen,
                ..Rules::default()
            };
            let admission = Admission {
                profile: Some(profile),
                rules: &rules,
                caller: &Filter::default(),
                now_ms: NOW_MS,
            };
            assert!(admission.admits(&signal("b", 1)));
            !admission.admits(&signal("a", 1))
        };
        assert!(!seen(&profile(&[Expose, Expose]), true));
        assert!(seen(&profile(&[Expose, Expose, Expose]), true));
        assert!(seen(&profile(&[Click]), true));
        assert!(!seen(&profile(&[Click]), false));
    }

    fn labels() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(
            prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned),
            0..3,
        )
    }

    prop_compose! {
        fn filters()(
            tags in labels(), categories in labels(),
            uri_prefix in prop::option::of(prop::sample::select(vec!["", "file:///", "file:///i", "s3://"])),
            language in prop::option::of(prop::sample::select(vec!["en", "de"])),
            from in prop::option::of(0..4_i64), before in prop::option::of(0..4_i64),
            exclude in prop::option::of(prop::sample::select(vec!["i", "j"])),
        ) -> Filter {
            Filter {
                tags, categories,
                uri_prefix: uri_prefix.map(str::to_owned),
                language: language.map(str::to_owned),
                media_type: None,
                published_from_ms: from,
                published_before_ms: before,
                exclude_doc_ids: exclude.map(str::to_owned).into_iter().collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_both_filters_pass_the_index_is_asked_for(
            scene in filters(), caller in filters(), tags in labels(), categories in labels(),
            language in prop::option::of(prop::sample::select(vec!["en", "de"])), at in prop::option::of(0..4_i64),
        ) {
            let mut signal = signal("i", 1);
            (signal.tags, signal.categories, signal.published_at_ms) = (tags, categories, at);
            signal.language = language.map(str::to_owned);
            let both = passes(&signal, &scene) && passes(&signal, &caller);
            prop_assert!(!both || passes(&signal, &for_the_index(&scene, &caller)));
        }
    }
}
