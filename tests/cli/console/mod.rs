//! The console from outside: as a browser without script sees it, and in a real one.

mod access;
mod browser;
mod hostile;
mod looking;
mod orders;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_kafka::{KafkaConfig, Producer, RawRecord};
use serde_json::Value;

use crate::harness::{Pipeline, Up};

const LONG: Duration = Duration::from_secs(90);

/// An answer: status, head and body.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// The value of the first header of this name; the empty text where there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let named = lines.find(|(header, _)| header.trim().eq_ignore_ascii_case(name));
        named.map_or("", |(_, value)| value.trim())
    }

    fn ok(self) -> anyhow::Result<Self> {
        ensure!(self.status == 200, "{}: {}", self.status, self.body);
        Ok(self)
    }

    fn has(&self, text: &str) -> anyhow::Result<()> {
        ensure!(self.body.contains(text), "no {text:?} in {}", self.body);
        Ok(())
    }
}

/// A browser without script: it keeps cookies, and sends forms as browsers do.
pub struct Visitor {
    base: String,
    jar: PathBuf,
}

impl Visitor {
    /// Of this console, with no cookie yet; `name` tells its cookies from another visitor's.
    pub fn new(pipeline: &Pipeline, up: &Up, name: &str) -> Self {
        Self {
            base: up.api().to_owned(),
            jar: pipeline.path(&format!("cookies-{name}")),
        }
    }

    fn send(&self, path: &str, arguments: &[&str]) -> anyhow::Result<Answer> {
        let output = Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-i", "-b"])
            .arg(&self.jar)
            .arg("-c")
            .arg(&self.jar)
            .args(arguments)
            .arg(format!("{}{path}", self.base))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&text);
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| {
            format!(
                "no answer to {path}: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok(Answer {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(path, &[])
    }

    /// What the forms of this session carry.
    pub fn csrf(&self) -> anyhow::Result<String> {
        let page = self.get("/console/")?.ok()?;
        let (_, rest) = page
            .body
            .split_once("name=\"csrf\" value=\"")
            .context("a form")?;
        let (token, _) = rest.split_once('"').context("a value")?;
        Ok(token.to_owned())
    }

    /// Sends a form of this session from a page of this console.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let csrf = self.csrf()?;
        self.post_as(
            path,
            &[&[("csrf", csrf.as_str())], fields].concat(),
            &self.base,
        )
    }

    /// Sends these fields alone, as a page of this origin does.
    pub fn post_as(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        origin: &str,
    ) -> anyhow::Result<Answer> {
        let origin = format!("origin: {origin}");
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut arguments = vec!["-X", "POST", "-H", origin.as_str()];
        for field in &fields {
            arguments.extend(["--data-urlencode", field]);
        }
        self.send(path, &arguments)
    }
}

/// The topics of a running `up`.
pub fn kafka(up: &Up) -> KafkaConfig {
    KafkaConfig {
        bootstrap: up.ready["kafka"].as_str().unwrap_or_default().to_owned(),
        ..KafkaConfig::default()
    }
}

/// Publishes records as they are.
pub fn publish(kafka: &KafkaConfig, records: Vec<RawRecord>) -> anyhow::Result<Vec<(i32, i64)>> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let producer = Producer::connect(kafka)?;
        let mut places = Vec::new();
        for record in records {
            let stands = producer.send_raw(record).await?;
            places.push((stands.partition, stands.offset));
        }
        Ok(places)
    })
}

/// Events on the topic `audit`, as (action, phase, event).
pub fn audited(pipeline: &Pipeline) -> anyhow::Result<Vec<(String, String, Value)>> {
    let peeked = pipeline.json(&["peek", "audit", "-n", "1000"])?;
    let records = peeked["records"].as_array().cloned().unwrap_or_default();
    let event = |record: Value| {
        let event = record["value"].clone();
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("action"), text("phase"), event.clone())
    };
    Ok(records.into_iter().map(event).collect())
}
