//! Documents in a bucket of a real S3 endpoint.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::harness::{Pipeline, Target, gzip};
use crate::reconcile::{found, reconcile, repaired_for_good};

mod real {
    #[test]
    fn a_corpus_in_a_bucket_is_one_document_a_line() -> anyhow::Result<()> {
        super::a_corpus_in_a_bucket_is_one_document_a_line()
    }

    #[test]
    fn a_bucket_is_compared_and_repaired() -> anyhow::Result<()> {
        super::a_bucket_is_compared_and_repaired()
    }
}

/// A bucket of its own for one test.
pub struct Bucket {
    endpoint: String,
    name: String,
}

impl Bucket {
    pub fn make(prefix: &str) -> anyhow::Result<Self> {
        let bucket = Self {
            endpoint: millrace_servers::s3()?,
            name: millrace_servers::unique_name(prefix),
        };
        bucket.request("", &["-X", "PUT"])?;
        Ok(bucket)
    }

    /// A pipeline that may read it.
    pub fn pipeline(&self) -> anyhow::Result<Pipeline> {
        let mut pipeline = Pipeline::new(Target::Embedded)?;
        for (key, value) in [
            ("ENDPOINT", self.endpoint.as_str()),
            ("REGION", "us-east-1"),
            ("ACCESS_KEY_ID", "test"),
            // A secret of digits is a text.
            ("SECRET_ACCESS_KEY", "0123"),
        ] {
            pipeline.set(&format!("MILLRACE_OBJECTS__S3__{key}"), value);
        }
        Ok(pipeline)
    }

    pub fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// `path` is the key as URLs have it.
    fn put(&self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), content)?;
        let file = file.path().to_str().context("the path is UTF-8")?;
        self.request(path, &["-T", file])
    }

    fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.request(path, &["-X", "DELETE"])
    }

    /// With a signature that the endpoint looks for and does not check.
    fn request(&self, path: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let url = format!("{}/{}/{path}", self.endpoint, self.name);
        let status = Command::new("curl")
            .args(["-sSf", "--noproxy", "*", "-o", "/dev/null"])
            .args([
                "-H",
                "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                 SignedHeaders=host, Signature=0",
            ])
            .args(arguments)
            .arg(&url)
            .status()?;
        ensure!(status.success(), "curl {arguments:?} {url}: {status}");
        Ok(())
    }
}

fn a_corpus_in_a_bucket_is_one_document_a_line() -> anyhow::Result<()> {
    let bucket = Bucket::make("corpora")?;
    let films = "{\"_id\":\"1\",\"title\":\"Whales\",\"text\":\"The largest mammals of the sea.\"}\n\
                 not a line\n\
                 {\"_id\":\"2\",\"text\":\"A bridge of steel across the river.\"}\n";
    bucket.put("in/films.jsonl", films.as_bytes())?;
    let stars = "id,title,text\n7,Sirius,The brightest star of the night sky.\n";
    bucket.put("in/stars.csv.gz", &gzip(stars.as_bytes())?)?;
    bucket.put("in/plain.txt", b"Flour, water and salt become bread.")?;

    let pipeline = bucket.pipeline()?;
    let summary = pipeline.json(&["ingest", &bucket.uri("in/")])?;
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
    let status = pipeline.json(&["status", &bucket.uri("in/films.jsonl#2")])?;
    ensure!(status["outcome"] == "indexed", "{status}");
    // What is there already is not published again.
    let again = pipeline.json(&["ingest", "--missing", &bucket.uri("in/films.jsonl")])?;
    ensure!(again["indexed"] == 0, "{again}");

    // A comparison knows its lines too, and repairs them from the bucket.
    let root = bucket.uri("in/");
    let same = pipeline.json(&["reconcile", &root])?;
    ensure!(same["documents"] == 4, "{same:#}");
    let changed = "{\"_id\":\"2\",\"text\":\"Glaciers melt.\"}\n";
    bucket.put("in/films.jsonl", changed.as_bytes())?;
    let repaired = pipeline.json(&["reconcile", &root, "--repair"])?;
    ensure!(
        repaired["counts"]["stale"] == 1 && repaired["counts"]["orphaned"] == 1,
        "{repaired:#}"
    );
    ensure!(pipeline.search("ice and warming")?[0] == "films.jsonl#2");
    pipeline.json(&["reconcile", &root])?;
    Ok(())
}

/// Objects whose notices never came.
fn a_bucket_is_compared_and_repaired() -> anyhow::Result<()> {
    let bucket = Bucket::make("reconcile")?;
    let pipeline = bucket.pipeline()?;
    // A comparison alone makes no data folder.
    let seed = pipeline.write("seed.txt", "Something else entirely.\n")?;
    pipeline.ingest(&seed)?;
    // Names whose order is another one in the bucket than in URIs.
    for path in ["a/b%20c.txt", "a%2Bb.txt", "a.txt", "%C3%A9t%C3%A9.txt"] {
        let body = format!("The object {path} tells of summer.");
        bucket.put(path, body.as_bytes())?;
    }
    let root = bucket.uri("");
    let (report, code) = reconcile(&pipeline, &[&root])?;
    found(&report, &[("missing", 4)])?;
    ensure!(code == 1);
    repaired_for_good(&pipeline, &root, 4)?;
    bucket.put("a.txt", b"Winter is cold.")?;
    bucket.delete("a/b%20c.txt")?;
    let (report, _) = reconcile(&pipeline, &[&root])?;
    found(&report, &[("orphaned", 1), ("stale", 1)])?;
    repaired_for_good(&pipeline, &root, 2)?;
    ensure!(pipeline.search("a season of frost")?[0] == "a.txt");
    Ok(())
}
