//! A damaged model is refused with its line, and never panics.

use millrace_ranker::{Forest, ForestError};
use proptest::prelude::*;

/// Two features, `a` and `c`. Tree 0: a ≤ 0.5 (NaN left), then c in {1, 33}, else right; tree 1 is one
/// leaf.
const MODEL: &str = include_str!("../data/tiny.txt");

fn with(old: &str, new: &str) -> String {
    assert!(MODEL.contains(old), "{old}");
    MODEL.replacen(old, new, 1)
}

#[test]
fn decisions_go_where_lightgbm_sends_them() {
    let nan = f32::NAN;
    let rows = [
        [0.5, 1.0],
        [0.5, 33.9],
        [0.5, 2.0],
        [0.5, nan],
        [0.5, -1.0],
        [nan, 1.0],
        [0.500_000_06, 1.0],
    ];
    let forest = Forest::parse(MODEL).unwrap();
    let scores = forest.predict(rows.as_flattened()).unwrap();
    assert_eq!(scores, [1.5, 1.5, 4.5, 4.5, 4.5, 1.5, 2.5]);
    let importance = forest.importance();
    assert_eq!((importance[0].splits, importance[0].gain), (1, 2.5));
    assert_eq!((importance[1].splits, importance[1].gain), (1, 0.5));
    assert!(forest.features_without_missing().is_empty());

    // decision_type is 4 · missing + 2 · default left: of NaN (2), of zero and NaN (1), of none (0).
    for (decision, nan, zero) in [
        (10, 1.5, 1.5),
        (8, 2.5, 1.5),
        (6, 1.5, 1.5),
        (4, 2.5, 2.5),
        (2, 1.5, 1.5),
        (0, 1.5, 1.5),
    ] {
        let text = with("decision_type=10 1", &format!("decision_type={decision} 1"));
        let forest = Forest::parse(&text).unwrap();
        let scores = forest.predict(&[f32::NAN, 1.0, 0.0, 1.0]).unwrap();
        assert_eq!(scores, [nan, zero], "decision type {decision}");
        assert_eq!(forest.features_without_missing().is_empty(), decision > 3);
    }
}

#[test]
fn damage_is_named_with_line_and_section() {
    for (text, complaint) in [
        (
            String::new(),
            "line 1 of the model, header: a LightGBM model begins",
        ),
        (
            with("tree\n", "{}\n"),
            "line 1 of the model, header: a LightGBM model begins",
        ),
        (
            with("version=v4\n", ""),
            "line 1 of the model, header: `version` is missing",
        ),
        (
            with("version=v4", "version=v2"),
            "line 2 of the model, header: version \"v2\" is not read",
        ),
        (
            with("num_class=1", "num_class=3"),
            "line 3 of the model, header: `num_class` is 3: only",
        ),
        (
            with("num_class=1", "num_class=-1"),
            "`num_class` is \"-1\", not a whole number",
        ),
        (
            with("max_feature_idx=1", "max_feature_idx=4294967295"),
            "line 8 of the model, header: 2 feature names, but `max_feature_idx` says 4294967296",
        ),
        (
            with("label_index=0", "version=v4"),
            "line 5 of the model, header: `version` is there twice",
        ),
        (
            with("tree_sizes=300 100", "tree_sizes=300"),
            "line 10 of the model, header: `tree_sizes` announces 1 trees, 2 are there",
        ),
        (with("Tree=1", "Tree=2"), "Tree=1 was expected"),
        (
            with("num_leaves=3", "num_leaves=0"),
            "line 13 of the model, Tree=0: `num_leaves` is 0",
        ),
        (
            with("num_leaves=3", "num_leaves=4000000000"),
            "line 21 of the model, Tree=0: `leaf_value` has 3 values instead of 4000000000",
        ),
        (
            with("num_cat=1\n", ""),
            "line 12 of the model, Tree=0: `num_cat` is missing",
        ),
        (
            with("split_feature=0 1", "split_feature=0 2"),
            "line 15 of the model, Tree=0: `split_feature`[1] is 2, but there are 2 features",
        ),
        (
            with("split_feature=0 1", "split_feature=0 -1"),
            "`split_feature`[1] is \"-1\", not a number of its kind",
        ),
        (
            with("threshold=0.5 0", "threshold=nan 0"),
            "line 17 of the model, Tree=0: `threshold`[0] is NaN",
        ),
        (
            with("threshold=0.5 0", "threshold=0.5"),
            "`threshold` has 1 values instead of 2",
        ),
        (
            with("threshold=0.5 0", "threshold=0.5 1"),
            "line 17 of the model, Tree=0: `threshold`[1] names category set 1, but there are 1",
        ),
        (
            with("threshold=0.5 0", "threshold=0.5 -0.5"),
            "names category set -0.5",
        ),
        (
            with("decision_type=10 1", "decision_type=12 1"),
            "`decision_type`[0] is 12",
        ),
        (
            with("left_child=1 -1", "left_child=0 -1"),
            "line 19 of the model, Tree=0: node 0 is reached twice",
        ),
        (
            with("right_child=-2 -3", "right_child=-2 -9"),
            "leaf 8 does not exist",
        ),
        (
            with("leaf_value=1 2 4", "leaf_value=1 2 inf"),
            "`leaf_value`[2] is not finite",
        ),
        (
            with("cat_boundaries=0 2", "cat_boundaries=1 2"),
            "`cat_boundaries` does not rise from 0",
        ),
        (
            with("cat_boundaries=0 2", "cat_boundaries=0 9"),
            "`cat_threshold` has 2 values instead of 9",
        ),
        (
            with("is_linear=0", "is_linear=1"),
            "line 25 of the model, Tree=0: linear trees are not evaluated",
        ),
        (
            with("\nend of trees\n", "\n"),
            "Tree=1: the text ends before `end of trees`: it was cut short",
        ),
        (
            MODEL[..MODEL.find("Tree=1").unwrap()].to_owned(),
            "it was cut short",
        ),
    ] {
        let error = Forest::parse(&text).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(complaint), "{said} / {complaint}");
    }
    let linear = Forest::parse(&with("is_linear=0", "is_linear=1"));
    assert!(matches!(
        linear,
        Err(ForestError::Unsupported { line: 25, .. })
    ));
}

#[test]
fn categories_of_huge_numbers_are_refused_before_they_fill_the_memory() {
    let words = 3_000_000;
    let text = with("cat_boundaries=0 2", &format!("cat_boundaries=0 {words}")).replacen(
        "cat_threshold=2 2",
        &format!("cat_threshold={}", "2 ".repeat(words)),
        1,
    );
    let error = Forest::parse(&text).unwrap_err();
    assert_eq!(
        error,
        ForestError::CategorySets {
            limit_mebibytes: 256
        }
    );
    assert!(error.to_string().contains("without gaps"), "{error}");
}

#[test]
fn windows_line_ends_are_read() {
    let forest = Forest::parse(&MODEL.replace('\n', "\r\n")).unwrap();
    assert_eq!(forest.trees(), 2);
}

#[derive(Clone, Debug)]
enum Damage {
    Replace(usize, char),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
    SwapLines(usize, usize),
    Number(usize, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        Just("-1".to_owned()),
        Just("0".to_owned()),
        Just("4294967295".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("-2147483648".to_owned()),
        Just("1e308".to_owned()),
        Just("nan".to_owned()),
        Just(String::new()),
        any::<i32>().prop_map(|number| number.to_string()),
    ];
    prop_oneof![
        (any::<usize>(), any::<char>()).prop_map(|(at, new)| Damage::Replace(at, new)),
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<usize>(), 1..40usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Damage::SwapLines(a, b)),
        (any::<usize>(), number).prop_map(|(at, new)| Damage::Number(at, new)),
    ]
}

fn apply(text: &str, damage: &Damage) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return String::new();
    }
    let at = |position: &usize| position % chars.len();
    let end = |position: &usize, length: &usize| (at(position) + length).min(chars.len());
    match damage {
        Damage::Replace(position, new) => {
            let mut chars = chars.clone();
            chars[at(position)] = *new;
            chars.into_iter().collect()
        }
        Damage::Remove(position, length) => {
            let rest = &chars[end(position, length)..];
            chars[..at(position)].iter().chain(rest).collect()
        }
        Damage::Repeat(position, length) => {
            let end = end(position, length);
            chars[..end].iter().chain(&chars[at(position)..]).collect()
        }
        Damage::Cut(position) => chars[..at(position)].iter().collect(),
        Damage::SwapLines(a, b) => {
            let mut lines: Vec<&str> = text.lines().collect();
            let (a, b) = (a % lines.len().max(1), b % lines.len().max(1));
            if !lines.is_empty() {
                lines.swap(a, b);
            }
            lines.join("\n")
        }
        Damage::Number(position, new) => {
            let digits = |c: char| c.is_ascii_digit() || c == '-' || c == '.';
            let numbers: Vec<usize> = text
                .char_indices()
                .filter(|(index, c)| digits(*c) && !text[..*index].ends_with(digits))
                .map(|(index, _)| index)
                .collect();
            let Some(&start) = numbers.get(position % numbers.len().max(1)) else {
                return text.to_owned();
            };
            let length = text[start..]
                .find(|c| !digits(c))
                .unwrap_or(text.len() - start);
            format!("{}{new}{}", &text[..start], &text[start + length..])
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn no_damage_makes_the_reader_or_the_evaluator_panic(
        damages in prop::collection::vec(damage(), 1..4),
        values in prop::collection::vec(any::<f32>(), 40),
    ) {
        let text = damages.iter().fold(MODEL.to_owned(), |text, damage| apply(&text, damage));
        match Forest::parse(&text) {
            Err(error) => prop_assert!(error.to_string().starts_with("line ")),
            Ok(forest) => {
                let features = forest.feature_names().len();
                let rows = &values[..40 / features * features];
                let scores = forest.predict(rows).unwrap();
                prop_assert!(scores.iter().all(|score| score.is_finite()));
            }
        }
    }
}
