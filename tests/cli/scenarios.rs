//! The table `tests/SCENARIOS.md` names tests that exist, and in the right column.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

const SCENARIOS: usize = 20;

/// A test that the table names, and where.
struct Named<'a> {
    name: &'a str,
    place: &'a str,
}

/// `name`, `name` in `place`; `name` in `place`
fn named(cell: &str) -> Vec<Named<'_>> {
    let groups = cell.split(';').filter_map(|group| {
        let (names, place) = group.split_once(" in ")?;
        Some((names, place.trim().trim_matches('`')))
    });
    groups
        .flat_map(|(names, place)| {
            let quoted = names.split(',').map(|name| name.trim().trim_matches('`'));
            quoted.map(move |name| Named { name, place })
        })
        .collect()
}

/// The Rust files at a place: one, or all of a folder.
fn sources(place: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = folder
            .read_dir()
            .with_context(|| format!("{} is not there", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// A function of its own, or an entry in the list of a macro that makes tests.
fn has_test(source: &str, name: &str) -> bool {
    source.contains(&format!("fn {name}("))
        || source
            .lines()
            .any(|line| line.trim().trim_end_matches(',') == name)
}

/// Tests on real servers are in modules of that name, written out or made by a macro.
fn is_on_real_servers(path: &Path, source: &str) -> bool {
    let in_module = path
        .components()
        .any(|part| part.as_os_str() == "real" || part.as_os_str() == "real.rs");
    in_module
        || ["mod real", "on_both_targets!", "conformance_suite!"]
            .iter()
            .any(|mark| source.contains(mark))
}

#[test]
fn every_scenario_names_tests_that_exist() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/SCENARIOS.md"))?;
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| scenario"))
        .collect();
    ensure!(rows.len() == SCENARIOS, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [scenario, embedded, real] = cells[..] else {
            anyhow::bail!("not three cells: {row}");
        };
        ensure!(!named(embedded).is_empty(), "{scenario}: no test");
        ensure!(
            !named(real).is_empty() || real == "above both",
            "{scenario}: {real}"
        );
        for (cell, must_be_real) in [(embedded, false), (real, true)] {
            for Named { name, place } in named(cell) {
                let mut found = false;
                for path in sources(&root.join(place))? {
                    let source = std::fs::read_to_string(&path)?;
                    found |= has_test(&source, name)
                        && (!must_be_real || is_on_real_servers(&path, &source));
                }
                let real = if must_be_real { "real " } else { "" };
                ensure!(
                    found,
                    "{scenario}: there is no {real}test {name} in {place}"
                );
            }
        }
    }
    Ok(())
}
