//! A watched folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use millrace_producers::Publisher;
use millrace_producers::folder::{FolderConfig, FolderCounts, FolderError, FolderWatch};
use millrace_schemas::{DocumentEvent, DocumentNotice};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Kafka, name, stores};

struct Watching {
    stop: CancellationToken,
    task: JoinHandle<FolderCounts>,
}

fn watch(folder: &Path, publisher: Publisher) -> Result<Watching> {
    let config = FolderConfig {
        quiet_ms: 100,
        ..FolderConfig::default()
    };
    let watch = FolderWatch::open(folder, stores(folder)?, publisher, &config)?;
    let stop = CancellationToken::new();
    Ok(Watching {
        task: tokio::spawn(watch.run(stop.clone())),
        stop,
    })
}

impl Watching {
    async fn stop(self) -> Result<FolderCounts> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

/// `name` of a created object, `-name` of a removed one, sorted.
fn told(notices: &[DocumentNotice]) -> Vec<String> {
    let mut told: Vec<_> = notices
        .iter()
        .map(|n| match n.event {
            DocumentEvent::Created => name(&n.uri).to_owned(),
            DocumentEvent::Removed => format!("-{}", name(&n.uri)),
        })
        .collect();
    told.sort_unstable();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_a_folder_is_published() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("before.txt"), "there before")?;
    let watching = watch(folder.path(), kafka.publisher()?)?;
    kafka.notices_until(|n| told(n) == ["before.txt"]).await?;

    fs::write(at(".hidden"), "x")?;
    fs::create_dir(at("sub"))?;
    fs::write(at("sub/new.txt"), "new")?;
    fs::write(at("corpus.jsonl"), "{\"_id\":\"1\",\"text\":\"x\"}\n")?;
    kafka
        .notices_until(|n| told(n) == ["before.txt", "corpus.jsonl#1", "new.txt"])
        .await?;

    // Changed, moved with its folder, removed; each once.
    fs::write(at("before.txt"), "there before, and changed")?;
    kafka
        .notices_until(|n| told(n).iter().filter(|t| *t == "before.txt").count() == 2)
        .await?;
    fs::rename(at("sub"), at("moved"))?;
    fs::remove_file(at("before.txt"))?;
    let expected = [
        "-before.txt",
        "-new.txt",
        "before.txt",
        "before.txt",
        "corpus.jsonl#1",
        "new.txt",
        "new.txt",
    ];
    let notices = kafka.notices_until(|n| told(n) == expected).await?;
    assert!(
        notices
            .iter()
            .any(|n| n.uri.ends_with("/moved/new.txt") && n.event == DocumentEvent::Created)
    );
    assert!(
        notices
            .iter()
            .any(|n| n.uri.ends_with("/sub/new.txt") && n.event == DocumentEvent::Removed)
    );
    let counts = watching.stop().await?;
    assert_eq!(
        counts,
        FolderCounts {
            created: 5,
            removed: 2,
            rejected: 0
        }
    );
    Ok(())
}

/// Somebody compared the folder after the watch was opened: what was seen then is not told again,
/// what happened since the opening is not lost, and what is adopted and gone is a removal.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_adopted_is_told_only_once_it_differs() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("same.txt"), "the same")?;
    let config = FolderConfig {
        quiet_ms: 100,
        initial_listing: false,
    };
    let stores = stores(folder.path())?;
    let mut watch = FolderWatch::open(folder.path(), stores.clone(), kafka.publisher()?, &config)?;
    fs::write(at("seen.txt"), "written before the comparison")?;
    fs::write(at("changes.txt"), "seen, then changed")?;
    for name in ["same.txt", "seen.txt", "changes.txt"] {
        let meta = stores
            .head(&millrace_objects::ObjectUri::file(&at(name))?)
            .await?;
        watch.adopt(at(name), meta.etag);
    }
    fs::write(at("changes.txt"), "changed after the comparison")?;
    fs::write(at("unseen.txt"), "written after the comparison")?;
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch.run(stop.clone()));
    kafka
        .notices_until(|n| told(n) == ["changes.txt", "unseen.txt"])
        .await?;
    fs::remove_file(at("same.txt"))?;
    kafka
        .notices_until(|n| told(n) == ["-same.txt", "changes.txt", "unseen.txt"])
        .await?;
    stop.cancel();
    assert_eq!(task.await?.created, 2);
    Ok(())
}

/// A file that is written slowly is noticed with its last content.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_notice_has_the_last_tag() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("slow.txt");
    let watching = watch(folder.path(), kafka.publisher()?)?;
    let mut file = fs::File::create(&path)?;
    for part in 0..20 {
        std::io::Write::write_all(&mut file, format!("part {part}\n").as_bytes())?;
        file.sync_all()?;
        // The pace of the writer, below the time of quiet; nothing is awaited by it.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(file);
    let size = i64::try_from(fs::metadata(&path)?.len())?;
    let notices = kafka
        .notices_until(|n| n.last().is_some_and(|n| n.size_bytes == Some(size)))
        .await?;
    assert!(notices.len() < 20, "each write was noticed");
    watching.stop().await?;
    Ok(())
}

/// More at once than any queue takes apart nicely.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_published_whole() -> Result<()> {
    let kafka = Kafka::start().await?;
    let folder = tempfile::tempdir()?;
    let watching = watch(folder.path(), kafka.publisher()?)?;
    for n in 0..40 {
        let sub = folder.path().join(format!("{n}"));
        fs::create_dir(&sub)?;
        for m in 0..50 {
            fs::write(sub.join(format!("{m}.txt")), "x")?;
        }
    }
    let distinct = |n: &[DocumentNotice]| {
        n.iter()
            .map(|n| &n.uri)
            .collect::<std::collections::HashSet<_>>()
            .len()
    };
    kafka.notices_until(|n| distinct(n) == 2000).await?;
    fs::remove_dir_all(folder.path().join("7"))?;
    let removed = |n: &[DocumentNotice]| {
        n.iter()
            .filter(|n| n.event == DocumentEvent::Removed)
            .count()
    };
    kafka.notices_until(|n| removed(n) == 50).await?;
    watching.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_watched_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let publisher = crate::fixture::publisher_without_brokers()?;
    let open = |path: &Path| {
        FolderWatch::open(
            path,
            stores(folder.path())?,
            publisher.clone(),
            &FolderConfig::default(),
        )
        .map(drop)
        .context("open")
    };
    let outside = open(Path::new("/etc")).unwrap_err();
    assert!(
        matches!(outside.downcast_ref(), Some(FolderError::Read(_))),
        "{outside:?}"
    );
    let missing = open(&folder.path().join("missing")).unwrap_err();
    assert!(
        matches!(missing.downcast_ref(), Some(FolderError::Watch { .. })),
        "{missing:?}"
    );
    Ok(())
}
