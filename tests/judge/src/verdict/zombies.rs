//! What a zombie's late write or signal leaves wrong, the reconciler sees and mends.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::Findings;
use crate::object_server::BUCKET;
use crate::target::Target;
use crate::target::member::Program;
use crate::workload::OBJECT_PREFIX;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs `millrace reconcile --repair` over the objects and the watched folder. How many documents
/// differed, by what reconciling calls the difference.
pub(super) async fn reconcile(
    target: &Target,
    reconcile: &Program,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let watched = target.watched.to_str();
    let watched = watched.context("the watched folder's name is UTF-8")?;
    for root in [format!("s3://{BUCKET}/{OBJECT_PREFIX}"), watched.to_owned()] {
        let output = Command::new(&reconcile.binary)
            .args(&reconcile.arguments)
            .arg(&root)
            .current_dir(&reconcile.folder)
            .stdin(Stdio::null())
            .process_group(reconcile.group.0)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, output)
            .await
            .with_context(|| format!("reconciling {root} took longer than {LIMIT:?}"))??;
        let told = || String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.stdout.is_empty(),
            "reconciling {root} told nothing: {}",
            told()
        );
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("reconciling {root}: {}", told()))?;
        findings.reconciled += report["differences"]
            .as_u64()
            .with_context(|| format!("no differences in {report}"))?;
        if !output.status.success() {
            findings.violation(
                "the reconciler mends what differs",
                root,
                format!("{}: {report}", output.status),
            );
        }
    }
    Ok(())
}
