//! Where tests find what the repository itself can't hold: real servers and shared data.
//!
//! **For** the tests and benchmarks of every crate. `infra/servers/servers` runs a real Kafka, OpenSearch,
//! Redis and S3 endpoint and says where; this crate reads that from the environment.
//!
//! **Promises** that what is missing is an error which says the command that provides it: a test on a
//! real server fails without one, it is never skipped. To leave such tests out on purpose, select by
//! name (they live in modules called `real`), as `make test-embedded` does.
//!
//! **Leaves to others** starting and stopping the servers (the script), and talking to them (each test,
//! through the client that it tests).

use std::{
    env,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

/// Bootstrap address of the real Kafka, `host:port`, from `MILLRACE_TEST_KAFKA`.
///
/// # Errors
/// When the variable is unset or no `host:port`.
pub fn kafka() -> Result<String> {
    let variable = "MILLRACE_TEST_KAFKA";
    let address = required(variable, env::var(variable).ok(), "start")?;
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() =>
        {
            Ok(address)
        }
        _ => bail!("{variable} is {address:?}, not host:port like 127.0.0.1:9092"),
    }
}

/// Base URL of the real OpenSearch without a closing slash, from `MILLRACE_TEST_OPENSEARCH`.
///
/// # Errors
/// When the variable is unset or no HTTP address.
pub fn opensearch() -> Result<String> {
    let variable = "MILLRACE_TEST_OPENSEARCH";
    base_url(
        variable,
        &required(variable, env::var(variable).ok(), "start")?,
    )
}

/// Base URL of the S3 endpoint without a closing slash, from `MILLRACE_TEST_S3`. It accepts any
/// credentials, and wants requests signed.
///
/// # Errors
/// When the variable is unset or no HTTP address.
pub fn s3() -> Result<String> {
    let variable = "MILLRACE_TEST_S3";
    base_url(
        variable,
        &required(variable, env::var(variable).ok(), "start s3")?,
    )
}

/// URL of the real Redis, `redis://host:port`, from `MILLRACE_TEST_REDIS`.
///
/// # Errors
/// When the variable is unset or no such URL.
pub fn redis() -> Result<String> {
    let variable = "MILLRACE_TEST_REDIS";
    let url = required(variable, env::var(variable).ok(), "start redis")?;
    if url.strip_prefix("redis://").is_none_or(str::is_empty) {
        bail!("{variable} is {url:?}, not an address like redis://127.0.0.1:6379");
    }
    Ok(url)
}

/// A file or folder of the test data shared beside the repository, for example `scifact/corpus.jsonl`.
///
/// It is looked for in the folder that `MILLRACE_SHARED_DATA` names, and without that variable in
/// `../shared/data`, seen from the repository's root.
///
/// # Errors
/// When the file or folder is not there; the message says where it was looked for.
pub fn shared_data(relative: &str) -> Result<PathBuf> {
    let root = env::var_os("MILLRACE_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    existing(&root, relative)
}

/// A name that no other test, process or earlier run uses: for topics, consumer groups and indexes on
/// servers which tests share. Keeps to what Kafka and OpenSearch both allow if `prefix` does.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(
        "{prefix}-{}-{}-{count}",
        since_epoch.as_millis(),
        process::id()
    )
}

fn required(variable: &str, value: Option<String>, start: &str) -> Result<String> {
    value
        .filter(|address| !address.trim().is_empty())
        .with_context(|| {
            format!(
                "{variable} is not set: this test runs against a real server. Start it with\n    \
             eval \"$(infra/servers/servers {start} && infra/servers/servers env)\"\n\
             or run `make test`, which starts and stops the servers by itself"
            )
        })
}

fn base_url(variable: &str, url: &str) -> Result<String> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() => Ok(url.trim_end_matches('/').to_owned()),
        _ => bail!("{variable} is {url:?}, not an address like http://127.0.0.1:9200"),
    }
}

fn existing(root: &Path, relative: &str) -> Result<PathBuf> {
    let path = root.join(relative);
    if !path.exists() {
        bail!(
            "test data {relative} is not in {}: put the shared data folder beside the repository \
             (../shared/data), or set MILLRACE_SHARED_DATA to the folder that holds it",
            root.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_absent_address_says_what_to_run() {
        for absent in [None, Some(String::new()), Some(" ".to_owned())] {
            let message = required("MILLRACE_TEST_S3", absent, "start s3")
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with("MILLRACE_TEST_S3 is not set"),
                "{message}"
            );
            assert!(
                message.contains("infra/servers/servers start s3 && infra/servers/servers env"),
                "{message}"
            );
            assert!(message.contains("make test"), "{message}");
        }
    }

    #[test]
    fn a_base_url_loses_its_closing_slash_and_needs_a_scheme() {
        assert_eq!(
            base_url("V", "http://127.0.0.1:9200/").unwrap(),
            "http://127.0.0.1:9200"
        );
        for wrong in ["127.0.0.1:9200", "http://", "http:///", "ftp://127.0.0.1"] {
            let message = base_url("V", wrong).unwrap_err().to_string();
            assert!(message.starts_with(&format!("V is {wrong:?}")), "{message}");
        }
    }

    #[test]
    fn missing_data_names_the_file_the_folder_and_the_variable() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(
            existing(root, "src/lib.rs").unwrap(),
            root.join("src/lib.rs")
        );
        let message = existing(root, "scifact/none.jsonl")
            .unwrap_err()
            .to_string();
        for part in [
            "scifact/none.jsonl",
            &root.display().to_string(),
            "MILLRACE_SHARED_DATA",
        ] {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }

    #[test]
    fn unique_names_are_unique_and_allowed_everywhere() {
        let names: HashSet<String> = (0..1_000).map(|_| unique_name("documents")).collect();
        assert_eq!(names.len(), 1_000);
        for name in names {
            assert!(
                name.len() < 100
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
    }
}
