//! `docs/features.md` against the code.

use std::collections::BTreeMap;

use millrace_features::{FeatureDeclaration, FeatureKind, FeatureSet};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/features.md");
    std::fs::read_to_string(path).unwrap()
}

/// Rows of the table under a heading, their cells without backticks.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn the_table_of_default_features_is_the_default_set() {
    let written: Vec<(String, String)> = table(&document(), "Default features")
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone()))
        .collect();
    let set = FeatureSet::default_for("e1");
    let declared: Vec<(String, String)> = set.declarations().iter().map(as_written).collect();
    assert_eq!(written, declared);
}

/// `kind` and its parameters, as the table has them.
fn as_written(declared: &FeatureDeclaration) -> (String, String) {
    let fields: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&serde_json::to_string(declared).unwrap()).unwrap();
    let mut text = declared.kind.name().to_owned();
    for parameter in [
        "of",
        "with",
        "last",
        "event",
        "half_life",
        "field",
        "combine",
        "transform",
    ] {
        if let Some(value) = fields.get(parameter) {
            text.push(' ');
            text.push_str(&value.to_string().replace('"', ""));
        }
    }
    (declared.name.clone(), text)
}

#[test]
fn each_kind_is_described() {
    let described: Vec<String> = table(&document(), "Kinds")
        .into_iter()
        .map(|cells| cells[0].clone())
        .collect();
    // The message about an unknown kind lists those there are.
    let error =
        serde_json::from_str::<FeatureDeclaration>(r#"{"name":"x","kind":"none"}"#).unwrap_err();
    let error = error.to_string();
    let known = error
        .split("known: ")
        .nth(1)
        .unwrap()
        .split(" at line")
        .next()
        .unwrap();
    assert_eq!(described, known.split(", ").collect::<Vec<_>>());
    assert!(described.contains(&FeatureKind::Coec.name().to_owned()));
}
