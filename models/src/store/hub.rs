//! Fetches a model's files from the Hugging Face hub or a mirror of it.

use std::path::Path;
use std::time::Duration;

use millrace_downloads::{DownloadError, PinnedFile, Progress, hex};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::store::catalog::Catalogued;
use crate::store::error::StoreError;

/// A hub that is out of reach must not hold a newcomer up for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence within an answer; a slow line is no reason to give up, a dead one is.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes every file of the model under `folder`, checked.
pub(super) async fn fetch(
    endpoint: &str,
    model: &Catalogued,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), StoreError> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|source| StoreError::Http {
            url: endpoint.to_owned(),
            source,
        })?;
    let mut done = 0;
    progress(0, model.total_bytes());
    for file in model.files {
        // `main` and not a commit: the checksum pins the bytes, and mirrors may lack old commits.
        let url = format!("{endpoint}/{}/resolve/main/{}", model.repository, file.path);
        let mut advance = |bytes| {
            done += bytes;
            progress(done, model.total_bytes());
        };
        fetch_file(&client, &url, file, &folder.join(file.path), &mut advance).await?;
    }
    Ok(())
}

async fn fetch_file(
    client: &reqwest::Client,
    url: &str,
    file: &PinnedFile,
    path: &Path,
    advance: &mut (dyn FnMut(u64) + Send),
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Http {
        url: url.to_owned(),
        source,
    };
    let write = |source| DownloadError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut response = client.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(StoreError::Status {
            url: url.to_owned(),
            status: response.status(),
        });
    }
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(write)?;
    }
    let mut output = tokio::fs::File::create(path).await.map_err(write)?;
    let mut hash = Sha256::new();
    let mut received = 0;
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        received += chunk.len() as u64;
        // A server that sends something else must not fill the disk before the checksum says so.
        if received > file.bytes {
            break;
        }
        hash.update(&chunk);
        output.write_all(&chunk).await.map_err(write)?;
        advance(chunk.len() as u64);
    }
    output.flush().await.map_err(write)?;
    let found = hex(&hash.finalize());
    if found == file.sha256 && received == file.bytes {
        return Ok(());
    }
    let found = if received > file.bytes {
        "of a longer file".to_owned()
    } else {
        found
    };
    Err(DownloadError::Checksum {
        file: file.path,
        expected: file.sha256,
        found,
    }
    .into())
}
