//! Alerts ask for metrics that are served, and lead to a page that says what to do.

use std::collections::BTreeSet;

use anyhow::ensure;

const RULES: &str = include_str!("../../infra/alerts/millrace.rules.yaml");
const TESTS: &str = include_str!("../../infra/alerts/millrace.rules.test.yaml");
const METRICS: &str = include_str!("../../docs/metrics.md");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");

#[test]
fn alerts_ask_for_documented_metrics() -> anyhow::Result<()> {
    let documented: BTreeSet<String> = METRICS
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let suffix = if rest.starts_with("counter") {
                "_total"
            } else {
                ""
            };
            Some(format!("{name}{suffix}"))
        })
        .collect();
    let asked: BTreeSet<&str> = RULES
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("millrace_"))
        .collect();
    let unknown: Vec<_> = asked
        .iter()
        .filter(|name| !documented.contains(**name))
        .collect();
    ensure!(unknown.is_empty(), "no such metrics: {unknown:?}");
    ensure!(asked.len() > 10, "hardly any metric was found: {asked:?}");
    Ok(())
}

#[test]
fn each_alert_has_a_page_and_tests_that_it_fires_and_keeps_still() -> anyhow::Result<()> {
    let alerts: BTreeSet<&str> = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let pages: BTreeSet<&str> = RUNBOOK
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    ensure!(alerts == pages, "alerts {alerts:#?}\npages {pages:#?}");
    for alert in alerts {
        let link = format!("docs/runbook.md#{}\"", alert.to_lowercase());
        ensure!(RULES.contains(&link), "{alert} does not link to its page");
        let of_alert = TESTS.split("  - name: ").filter(|test| {
            test.starts_with(&format!("{alert}, "))
                && test.contains(&format!("alertname: {alert}\n"))
        });
        let (quiet, firing): (Vec<_>, Vec<_>) =
            of_alert.partition(|test| test.contains("exp_alerts: []"));
        ensure!(
            !quiet.is_empty() && !firing.is_empty(),
            "{alert} needs a test in which it fires and one in which it does not"
        );
    }
    Ok(())
}
