//! Dashboards ask for metrics that are served, in words that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

const METRICS: &str = include_str!("../../docs/metrics.md");

/// All dashboards by file name.
fn dashboards() -> anyhow::Result<BTreeMap<String, Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/dashboards");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(&path)?;
            let dashboard = serde_json::from_str(&text).with_context(|| name.to_string())?;
            found.insert(name.into_owned(), dashboard);
        }
    }
    Ok(found)
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// The queries of a dashboard, as Prometheus gets them.
fn queries(dashboard: &Value) -> Vec<String> {
    let targets = list(dashboard, "panels").flat_map(|panel| list(panel, "targets"));
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    let filled = expressions.map(|query| {
        query
            .replace("$__rate_interval", "5m")
            .replace("$instance", ".*")
    });
    filled.collect()
}

#[test]
fn dashboards_ask_for_documented_metrics() -> anyhow::Result<()> {
    let mut documented = BTreeSet::new();
    for line in METRICS.lines() {
        let Some((name, rest)) = line
            .strip_prefix("| `")
            .and_then(|line| line.split_once("` | "))
        else {
            continue;
        };
        if rest.starts_with("counter") {
            documented.insert(format!("{name}_total"));
        } else if rest.starts_with("histogram") {
            documented.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            documented.insert(name.to_owned());
        }
    }
    let mut asked = BTreeSet::new();
    for (file, dashboard) in dashboards()? {
        for query in queries(&dashboard) {
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in
                words.filter(|word| word.starts_with("millrace_") || word.starts_with("kafka_"))
            {
                ensure!(documented.contains(word), "{file}: no such metric: {word}");
                asked.insert(word.to_owned());
            }
        }
    }
    let unseen: Vec<_> = documented
        .iter()
        .filter(|name| {
            !asked.contains(*name) && !name.ends_with("_sum") && !name.ends_with("_count")
        })
        .collect();
    ensure!(unseen.is_empty(), "on no dashboard: {unseen:?}");
    Ok(())
}

#[test]
fn prometheus_reads_each_query() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (file, dashboard) in dashboards()? {
        let rules: Vec<Value> = queries(&dashboard)
            .into_iter()
            .enumerate()
            .map(|(number, query)| serde_json::json!({ "record": format!("query:{number}"), "expr": query }))
            .collect();
        ensure!(!rules.is_empty(), "{file} asks for nothing");
        let rules = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
        // JSON is YAML too.
        let path = folder.path().join(&file);
        std::fs::write(&path, rules.to_string())?;
        let checked = Command::new("promtool")
            .args(["check", "rules"])
            .arg(&path)
            .output()
            .context("promtool cannot be run; it is in Debian's package prometheus")?;
        ensure!(
            checked.status.success(),
            "{file}: {}{}",
            String::from_utf8_lossy(&checked.stdout),
            String::from_utf8_lossy(&checked.stderr)
        );
    }
    Ok(())
}

#[test]
fn each_dashboard_and_panel_has_a_name_of_its_own_and_a_place() -> anyhow::Result<()> {
    let readme = include_str!("../../infra/dashboards/README.md");
    let mut names = BTreeSet::new();
    for (file, dashboard) in dashboards()? {
        ensure!(
            readme.contains(&format!("`{file}`")),
            "{file} is not in the README"
        );
        let uid = dashboard["uid"].as_str().context("a uid")?;
        ensure!(names.insert(uid.to_owned()), "{file}: {uid} is another's");
        let mut cells = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            ensure!(ids.insert(panel["id"].to_string()), "{file}: {panel}");
            ensure!(
                panel["title"]
                    .as_str()
                    .is_some_and(|title| !title.is_empty()),
                "{panel}"
            );
            let place = |name: &str| panel["gridPos"][name].as_u64().context(name.to_owned());
            let (x, y, w, h) = (place("x")?, place("y")?, place("w")?, place("h")?);
            ensure!(x + w <= 24, "{file}: {panel}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                ensure!(cells.insert(cell), "{file}: two panels at {cell:?}");
            }
        }
    }
    ensure!(names.len() == 5, "{names:?}");
    Ok(())
}
