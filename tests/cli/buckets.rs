//! Documents in a bucket of a real S3 endpoint.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::harness::{Pipeline, Target};

mod real {
    #[test]
    fn a_corpus_in_a_bucket_is_one_document_a_line() -> anyhow::Result<()> {
        super::a_corpus_in_a_bucket_is_one_document_a_line()
    }
}

/// PUT, with a signature that the endpoint looks for and does not check.
fn put(url: &str, content: &[u8]) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), content)?;
    let path = file.path().to_str().context("the path is UTF-8")?;
    let status = Command::new("curl")
        .args(["-sSf", "--noproxy", "*", "-o", "/dev/null", "-T", path])
        .args([
            "-H",
            "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0",
        ])
        .arg(url)
        .status()?;
    ensure!(status.success(), "PUT {url}: {status}");
    Ok(())
}

fn gzip(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    std::fs::write(&path, content)?;
    let output = Command::new("gzip").arg("-c").arg(&path).output()?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}

fn a_corpus_in_a_bucket_is_one_document_a_line() -> anyhow::Result<()> {
    let endpoint = millrace_servers::s3()?;
    let bucket = millrace_servers::unique_name("corpora");
    put(&format!("{endpoint}/{bucket}"), b"")?;
    let films = "{\"_id\":\"1\",\"title\":\"Whales\",\"text\":\"The largest mammals of the sea.\"}\n\
                 not a line\n\
                 {\"_id\":\"2\",\"text\":\"A bridge of steel across the river.\"}\n";
    put(
        &format!("{endpoint}/{bucket}/in/films.jsonl"),
        films.as_bytes(),
    )?;
    let stars = "id,title,text\n7,Sirius,The brightest star of the night sky.\n";
    put(
        &format!("{endpoint}/{bucket}/in/stars.csv.gz"),
        &gzip(stars.as_bytes())?,
    )?;
    put(
        &format!("{endpoint}/{bucket}/in/plain.txt"),
        b"Flour, water and salt become bread.",
    )?;

    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_OBJECTS__S3__ENDPOINT", &endpoint);
    pipeline.set("MILLRACE_OBJECTS__S3__ACCESS_KEY_ID", "test");
    // A secret of digits is a text.
    pipeline.set("MILLRACE_OBJECTS__S3__SECRET_ACCESS_KEY", "0123");
    let summary = pipeline.json(&["ingest", &format!("s3://{bucket}/in/")])?;
    ensure!(
        summary["documents"] == 5 && summary["indexed"] == 4 && summary["dead_lettered"] == 1,
        "{summary}"
    );
    for (query, name) in [
        ("huge ocean animals", "films.jsonl#1"),
        ("crossing water", "films.jsonl#2"),
        ("astronomy", "stars.csv.gz#7"),
        ("baking a loaf", "plain.txt"),
    ] {
        let found = pipeline.search(query)?;
        ensure!(found[0] == name, "{query}: {found:?}");
    }
    let status = pipeline.json(&["status", &format!("s3://{bucket}/in/films.jsonl#2")])?;
    ensure!(status["outcome"] == "indexed", "{status}");
    // What is there already is not published again.
    let again = pipeline.json(&[
        "ingest",
        "--missing",
        &format!("s3://{bucket}/in/films.jsonl"),
    ])?;
    ensure!(again["indexed"] == 0, "{again}");

    // A comparison knows its lines too, and repairs them from the bucket.
    let root = format!("s3://{bucket}/in/");
    let same = pipeline.json(&["reconcile", &root])?;
    ensure!(same["documents"] == 4, "{same:#}");
    let changed = "{\"_id\":\"2\",\"text\":\"Glaciers melt.\"}\n";
    put(
        &format!("{endpoint}/{bucket}/in/films.jsonl"),
        changed.as_bytes(),
    )?;
    let repaired = pipeline.json(&["reconcile", &root, "--repair"])?;
    ensure!(
        repaired["counts"]["stale"] == 1 && repaired["counts"]["orphaned"] == 1,
        "{repaired:#}"
    );
    ensure!(pipeline.search("ice and warming")?[0] == "films.jsonl#2");
    pipeline.json(&["reconcile", &root])?;
    Ok(())
}
