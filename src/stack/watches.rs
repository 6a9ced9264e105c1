//! Watched folders: compared with the index once, then followed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_objects::ObjectUri;
use millrace_producers::Publisher;
use millrace_producers::folder::FolderWatch;
use millrace_reconciler::schedule::publish;
use millrace_retry::error_chain;
use tokio_util::sync::CancellationToken;

use super::reconciler::{Compares, removal_limit};

/// After a comparison that was not possible: the index or the brokers did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Publishes what changed in `folder` since the index last heard of it, then what happens there.
///
/// The watch was opened before this looks, so whatever happens meanwhile has been announced: it is
/// looked at afterwards, and told only where it differs from what this has seen.
pub async fn follow(
    mut watch: FolderWatch,
    folder: PathBuf,
    compares: Compares,
    publisher: Publisher,
    stopping: CancellationToken,
) {
    let caught_up = async {
        loop {
            match catch_up(&folder, &compares, &publisher).await {
                Ok(seen) => return seen,
                Err(reason) => {
                    tracing::warn!(folder = %folder.display(), reason, "not compared with the index; trying again");
                }
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    };
    let Some(seen) = stopping.run_until_cancelled(caught_up).await else {
        return;
    };
    for (path, tag) in seen {
        watch.adopt(path, tag);
    }
    let counts = watch.run(stopping).await;
    tracing::info!(folder = %folder.display(), ?counts, "stopped watching");
}

/// Publishes the differences; returns the files that were seen, with their tags.
async fn catch_up(
    folder: &Path,
    compares: &Compares,
    publisher: &Publisher,
) -> Result<Vec<(PathBuf, Option<String>)>, String> {
    let root = ObjectUri::file(folder).map_err(|error| error_chain(&error))?;
    let mut seen = Vec::new();
    let reconciler = compares.reconciler(false).await;
    let reconciler = reconciler.map_err(|error| error_chain(error.as_ref()))?;
    let compared = reconciler
        .compare_seen(&root, &|_| {}, &mut |item| {
            let uri = ObjectUri::parse(&item.uri).ok();
            if let Some(path) = uri.as_ref().and_then(ObjectUri::path) {
                seen.push((path.to_owned(), item.etag.clone()));
            }
        })
        .await
        .map_err(|error| error_chain(&error))?;
    let limit = removal_limit(&compares.config.reconciler);
    let repairs = compared
        .repairs(limit)
        .map_err(|error| error_chain(&error))?;
    if let Some(withheld) = &repairs.withheld {
        tracing::warn!(
            folder = %folder.display(),
            reason = withheld.reason,
            "removals withheld; `millrace reconcile {} --repair --force` publishes them",
            folder.display()
        );
    }
    let published = publish(repairs.notices, publisher, |_| {}).await?;
    tracing::info!(
        folder = %folder.display(),
        files = seen.len(),
        published,
        on_their_way = compared.report.on_their_way,
        incomplete = compared.report.incomplete,
        "compared with the index"
    );
    Ok(seen)
}
