//! Which declarations make a set, what the others are told, and what the version depends on.

use std::collections::BTreeSet;

use millrace_features::{
    Combine, DEFAULT_WEIGHTS, DeclarationError, FeatureDeclaration, FeatureKind, FeatureSet, Field,
    Scope,
};
use millrace_schemas::BehaviorKind;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Config {
    features: Vec<FeatureDeclaration>,
}

fn read(toml: &str) -> Result<Vec<FeatureDeclaration>, String> {
    let config: Result<Config, _> = toml::from_str(toml);
    config
        .map(|config| config.features)
        .map_err(|error| error.to_string())
}

fn one(lines: &str) -> Result<FeatureDeclaration, String> {
    let mut features = read(&format!("[[features]]\n{lines}"))?;
    Ok(features.remove(0))
}

fn version(features: &[FeatureDeclaration]) -> String {
    FeatureSet::new(features.to_vec(), "e1")
        .unwrap()
        .version()
        .to_owned()
}

#[test]
fn a_file_declares_features() {
    let features = read(
        r#"
        [[features]]
        name = "clicks_24h"
        kind = "count"
        event = "click"
        half_life = "day"
        refresh_seconds = 60
        ttl_days = 30

        [[features]]
        name = "actor_residual"
        kind = "residual_affinity"
        field = "metadata.actors"
        combine = "sum"
        scope = "pair"
        "#,
    )
    .unwrap();
    assert_eq!(features[0].scope, Scope::Item);
    assert_eq!(features[0].refresh_seconds, Some(60));
    let field = Field::Metadata("actors".to_owned());
    let kind = FeatureKind::ResidualAffinity {
        field: field.clone(),
        combine: Combine::Sum,
    };
    assert_eq!(features[1].kind, kind);
    let set = FeatureSet::new(features, "e1").unwrap();
    assert_eq!(set.spec().names, ["clicks_24h", "actor_residual"]);
    assert!(set.profile_settings().fields.contains(&field));
}

#[test]
fn each_mistake_is_named() {
    let complaint = |lines: &str| one(lines).unwrap_err();
    for (lines, part) in [
        ("kind = 'age'", "missing field `name`"),
        (
            "name = 'x'\nkind = 'age'\nhalflife = 'day'",
            "unknown field `halflife`",
        ),
        (
            "name = 'a b'\nkind = 'age'",
            "feature name `a b` is not 1 to 64 ASCII letters",
        ),
        ("name = ''\nkind = 'age'", "is not 1 to 64 ASCII letters"),
        (
            "name = 'x'\nkind = 'position'",
            "feature `x`: unknown kind `position`; known: score, cosine",
        ),
        (
            "name = 'x'\nkind = 'count'\nevent = 'click'",
            "feature `x`: kind `count` needs `half_life`",
        ),
        (
            "name = 'x'\nkind = 'ctr'\nhalf_life = 'day'\nfield = 'tags'",
            "feature `x`: kind `ctr` takes no `field`; it takes: half_life",
        ),
        (
            "name = 'x'\nkind = 'user_number'",
            "feature `x`: kind `user_number` needs `user_field`",
        ),
        (
            "name = 'x'\nkind = 'user_match'\nuser_field = 'tags'",
            "feature `x`: kind `user_match` needs `field`",
        ),
        (
            "name = 'x'\nkind = 'user_number'\nuser_field = ''",
            "feature `x`: user_field = ``; a key of users' fields has 1 to 256 bytes",
        ),
        (
            "name = 'x'\nkind = 'user_number'\nuser_field = 'age'\nttl_days = 3",
            "feature `x`: ttl_days = `3`; the value does not expire",
        ),
        (
            "name = 'x'\nkind = 'coec'\nlast = 3",
            "kind `coec` takes no `last`; it takes: nothing",
        ),
        (
            "name = 'x'\nkind = 'ctr'\nhalf_life = 'year'",
            "feature `x`: half_life = `year`; one of hour, day, week",
        ),
        (
            "name = 'x'\nkind = 'velocity'\nevent = 'clik'",
            "feature `x`: event = `clik`; one of expose, click, like",
        ),
        (
            "name = 'x'\nkind = 'velocity'\nevent = 'unknown'",
            "event = `unknown`",
        ),
        (
            "name = 'x'\nkind = 'affinity'\nfield = 'colour'",
            "feature `x`: field = `colour`; one of categories, tags",
        ),
        (
            "name = 'x'\nkind = 'number'\nfield = 'tags'",
            "field = `tags`; numbers are in `metadata.KEY`",
        ),
        (
            "name = 'x'\nkind = 'age'\nscope = 'user'",
            "feature `x`: scope = `user`; kind `age` is about item",
        ),
        (
            "name = 'x'\nkind = 'max_cosine'\nlast = 51",
            "feature `x`: last = `51`; 1 to 50 items are kept",
        ),
        ("name = 'x'\nkind = 'max_cosine'\nlast = 0", "last = `0`"),
        (
            "name = 'x'\nkind = 'age'\nrefresh_seconds = 0",
            "refresh_seconds = `0`; 1 second to 7 days",
        ),
        (
            "name = 'x'\nkind = 'score'\nof = 'text'\nrefresh_seconds = 5",
            "the value does not depend on time",
        ),
        (
            "name = 'x'\nkind = 'coec'\nttl_days = 4000",
            "ttl_days = `4000`; 1 to 3650 days",
        ),
        (
            "name = 'x'\nkind = 'age'\nttl_days = 4",
            "the value does not expire",
        ),
    ] {
        let complaint = complaint(lines);
        assert!(complaint.contains(part), "{lines}\n{complaint}");
    }
    let long = complaint(&format!("name = 'x'\nkind = '{}'", "k".repeat(1 << 20)));
    assert!(long.len() < 3 << 20, "the file's line, once");
    let error: DeclarationError = FeatureSet::new(vec![], "e1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "0 features are declared; 1 to 500 make a row"
    );
    let age = FeatureDeclaration::new("age", FeatureKind::Age);
    let twice = FeatureSet::new(vec![age.clone(), age.clone()], "e1").unwrap_err();
    assert_eq!(twice.to_string(), "feature `age` is declared twice");
    // What no file can say is checked as well.
    let scope = FeatureDeclaration {
        scope: Scope::User,
        ..age
    };
    assert!(FeatureSet::new(vec![scope], "e1").is_err());
}

#[test]
fn the_version_names_the_declarations_and_the_embedding_alone() {
    let lines = "name = 'x'\nkind = 'count'\nevent = 'click'\nhalf_life = 'day'";
    let base = one(lines).unwrap();
    let changes = [
        "name = 'y'\nkind = 'count'\nevent = 'click'\nhalf_life = 'day'",
        "name = 'x'\nkind = 'velocity'\nevent = 'click'",
        "name = 'x'\nkind = 'count'\nevent = 'like'\nhalf_life = 'day'",
        "name = 'x'\nkind = 'count'\nevent = 'click'\nhalf_life = 'week'",
        "name = 'x'\nkind = 'count'\nevent = 'click'\nhalf_life = 'day'\nrefresh_seconds = 60",
        "name = 'x'\nkind = 'count'\nevent = 'click'\nhalf_life = 'day'\nrefresh_seconds = 61",
        "name = 'x'\nkind = 'count'\nevent = 'click'\nhalf_life = 'day'\nttl_days = 60",
        "name = 'x'\nkind = 'score'\nof = 'text'",
        "name = 'x'\nkind = 'score'\nof = 'rank'",
        "name = 'x'\nkind = 'cosine'\nwith = 'session'",
        "name = 'x'\nkind = 'cosine'\nwith = 'residual'",
        "name = 'x'\nkind = 'max_cosine'\nlast = 5",
        "name = 'x'\nkind = 'max_cosine'\nlast = 6",
        "name = 'x'\nkind = 'affinity'\nfield = 'tags'",
        "name = 'x'\nkind = 'affinity'\nfield = 'metadata.tags'",
        "name = 'x'\nkind = 'affinity'\nfield = 'tags'\ncombine = 'sum'",
        "name = 'x'\nkind = 'residual_affinity'\nfield = 'tags'",
        "name = 'x'\nkind = 'number'\nfield = 'metadata.year'",
        "name = 'x'\nkind = 'number'\nfield = 'metadata.year'\ntransform = 'log1p'",
        "name = 'x'\nkind = 'seen'\nof = 'shown'",
        "name = 'x'\nkind = 'seen'\nof = 'acted'",
    ];
    let mut versions = BTreeSet::from([version(std::slice::from_ref(&base))]);
    for change in changes {
        let changed = one(change).unwrap_or_else(|error| panic!("{change}\n{error}"));
        assert!(versions.insert(version(&[changed])), "{change}");
    }
    let other = FeatureSet::new(vec![base.clone()], "e2").unwrap();
    assert!(versions.insert(other.version().to_owned()));
    let age = FeatureDeclaration::new("age", FeatureKind::Age);
    assert!(versions.insert(version(&[base.clone(), age.clone()])));
    assert!(
        versions.insert(version(&[age, base.clone()])),
        "order is a row's"
    );

    // A default that is written out, and the order of lines, change nothing.
    let same = "half_life = 'day'\nscope = 'item'\nevent = 'click'\nkind = 'count'\nname = 'x'";
    assert_eq!(version(&[one(same).unwrap()]), version(&[base]));
}

#[test]
fn the_default_set_has_a_version_that_a_change_must_mean() {
    let set = FeatureSet::default_for("e1");
    assert_eq!(set.len(), 40);
    let again = FeatureSet::new(set.declarations().to_vec(), "e1").unwrap();
    assert_eq!(again, set);
    // Models that are in use were trained on these: see `COMPUTATION` in set.rs.
    assert_eq!(set.version(), "85ef3fcf869cb1d3");
}

#[test]
fn weights_are_of_default_features() {
    let names: Vec<String> = FeatureSet::default_for("e1").spec().names;
    for (feature, weight) in DEFAULT_WEIGHTS {
        assert!(names.iter().any(|name| name == feature), "{feature}");
        assert!(weight.is_finite());
    }
}

#[test]
fn position_is_no_feature() {
    let set = FeatureSet::default_for("e1");
    assert!(set.names().all(|name| !name.contains("position")));
}

fn declarations() -> impl Strategy<Value = FeatureDeclaration> {
    let mut known = FeatureSet::default_for("e1").declarations().to_vec();
    let of_user = "user_field = 'a key'\nfield = 'metadata.a'";
    known.push(one(&format!("name = 'x'\nkind = 'user_match'\n{of_user}")).unwrap());
    known.push(one("name = 'x'\nkind = 'user_number'\nuser_field = 'ä'").unwrap());
    let event = prop::sample::select(BehaviorKind::ALL.to_vec());
    let refresh = prop::option::of(1..604_801_u64);
    let ttl = prop::option::of(1..3_651_u32);
    let drawn = (
        prop::sample::select(known),
        event,
        refresh,
        ttl,
        "[A-Za-z0-9_.-]{1,64}",
    );
    drawn.prop_map(|(declared, drawn, refresh_seconds, ttl_days, name)| {
        let mut kind = declared.kind;
        if let FeatureKind::Count { event, .. } | FeatureKind::UserCount { event } = &mut kind {
            *event = drawn;
        }
        let timeless = matches!(
            kind,
            FeatureKind::Score { .. }
                | FeatureKind::Number { .. }
                | FeatureKind::UserNumber { .. }
                | FeatureKind::UserMatch { .. }
        );
        let lasting = timeless || kind == FeatureKind::Age;
        FeatureDeclaration {
            refresh_seconds: refresh_seconds.filter(|_| !timeless),
            ttl_days: ttl_days.filter(|_| !lasting),
            ..FeatureDeclaration::new(&name, kind)
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(declared in declarations()) {
        let json = serde_json::to_string(&declared).unwrap();
        prop_assert_eq!(&serde_json::from_str::<FeatureDeclaration>(&json).unwrap(), &declared);
        let toml = toml::to_string(&declared).unwrap();
        prop_assert_eq!(&toml::from_str::<FeatureDeclaration>(&toml).unwrap(), &declared);
        let again: FeatureDeclaration = toml::from_str(&toml).unwrap();
        prop_assert_eq!(version(&[again]), version(&[declared]));
    }
}
