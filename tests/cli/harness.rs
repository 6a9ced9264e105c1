//! Runs the binary on a folder of its own and reads its JSON.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use millrace_broker::{Broker, BrokerConfig};
use millrace_kafka::KafkaConfig;
use serde_json::Value;
use tempfile::TempDir;

/// Where the pipeline of a test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Embedded,
    Real,
}

/// A pipeline with a data folder, topics and index of its own.
pub struct Pipeline {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Pipeline {
    pub fn new(target: Target) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut environment = vec![
            ("MILLRACE_API__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            (
                "MILLRACE_BROKER__LISTEN".to_owned(),
                "127.0.0.1:0".to_owned(),
            ),
        ];
        if target == Target::Real {
            let name = millrace_servers::unique_name("cli");
            let mut set = |key: &str, value: String| environment.push((key.to_owned(), value));
            set("MILLRACE_PROFILE", "cluster".to_owned());
            set("MILLRACE_KAFKA__BOOTSTRAP", millrace_servers::kafka()?);
            set("MILLRACE_KAFKA__TOPIC_PREFIX", format!("{name}."));
            set("MILLRACE_INDEX__NAME", name);
            set(
                "MILLRACE_INDEX__OPENSEARCH__NODES",
                format!("[{:?}]", millrace_servers::opensearch()?),
            );
        }
        Ok(Self {
            folder,
            environment,
        })
    }

    /// A folder for a test's own files.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes a document and returns its path.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// The read alias of its index, as the configuration has it.
    pub fn index_name(&self) -> &str {
        self.variable("MILLRACE_INDEX__NAME")
            .unwrap_or("millrace-documents")
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// The binary with this pipeline's configuration, as a program runs it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.by_hand(arguments);
        command.arg("--json");
        command
    }

    /// The same, as a person runs it.
    pub fn by_hand(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command
            .args(arguments)
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(arguments)
            .output()
            .context("the binary could not be started")
    }

    /// Runs a command that must succeed; its one JSON object.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.output(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{arguments:?} failed with {}:\n{stderr}",
            output.status
        );
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "{arguments:?} did not print one JSON object but {:?}\n{stderr}",
                String::from_utf8_lossy(&output.stdout)
            )
        })
    }

    /// Runs a command that must fail; its standard error.
    pub fn failure(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.output(arguments)?;
        ensure!(!output.status.success(), "{arguments:?} should have failed");
        ensure!(
            output.stdout.is_empty(),
            "{arguments:?} failed and still printed a result"
        );
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn ingest(&self, path: &Path) -> anyhow::Result<Value> {
        self.json(&["ingest", text(path)?])
    }

    /// Titles or URIs of what a search finds, best first.
    pub fn search(&self, query: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.json(&["search", query])?;
        let hits = answer["hits"].as_array().context("hits is a list")?;
        Ok(hits
            .iter()
            .filter_map(|hit| hit["uri"].as_str())
            .map(|uri| uri.rsplit('/').next().unwrap_or(uri).to_owned())
            .collect())
    }

    /// What `/v1/info` says of the index.
    pub fn index_description(&self) -> anyhow::Result<Value> {
        let up = self.up(&[])?;
        let output = Command::new("curl")
            .args(["-sS", "--noproxy", "*"])
            .arg(format!("{}/v1/info", up.api()))
            .output()?;
        up.leave()?;
        let info: Value = serde_json::from_slice(&output.stdout)?;
        Ok(info["index"].clone())
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let mut set = self.environment.iter().rev();
        set.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// What sets the pipeline's topics and groups apart on a cluster that tests share.
    pub fn topic_prefix(&self) -> String {
        self.variable("MILLRACE_KAFKA__TOPIC_PREFIX")
            .map_or_else(|| KafkaConfig::default().topic_prefix, str::to_owned)
    }

    /// The topics, while no command runs: the cluster's, or the embedded broker for as long.
    pub fn with_kafka<T>(
        &self,
        work: impl FnOnce(KafkaConfig) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut kafka = KafkaConfig {
            topic_prefix: self.topic_prefix(),
            ..KafkaConfig::default()
        };
        if let Some(bootstrap) = self.variable("MILLRACE_KAFKA__BOOTSTRAP") {
            bootstrap.clone_into(&mut kafka.bootstrap);
            return work(kafka);
        }
        let broker = Broker::start(BrokerConfig::new(self.path("data/broker")))?;
        kafka.bootstrap = broker.bootstrap();
        let done = work(kafka);
        broker.stop();
        done
    }

    /// Starts `up` and waits until it says that it is ready.
    pub fn up(&self, arguments: &[&str]) -> anyhow::Result<Up> {
        self.serve(&[&["up"], arguments].concat())
    }

    /// Starts `up` or a role, and waits until it says that it is ready.
    pub fn serve(&self, arguments: &[&str]) -> anyhow::Result<Up> {
        Up::start(self.command(arguments).stderr(Stdio::piped()))
    }

    /// As [`up`](Self::up), with its log in this file.
    pub fn up_logging_to(&self, log: File) -> anyhow::Result<Up> {
        Up::start(self.command(&["up"]).stderr(log))
    }
}

/// A running `up`, killed when dropped.
pub struct Up {
    child: Child,
    /// What it said when it became ready.
    pub ready: Value,
}

impl Up {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Ok(ready) = serde_json::from_str(&line) else {
            let output = child.wait_with_output()?;
            bail!(
                "{command:?} did not become ready: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        // Its log would fill the pipe and stop it.
        if let Some(mut stderr) = child.stderr.take() {
            std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        }
        Ok(Self { child, ready })
    }

    pub fn api(&self) -> &str {
        self.ready["api"].as_str().unwrap_or_default()
    }

    /// Status and JSON of a request to its API, through curl with these arguments; null where the
    /// answer is no JSON.
    pub fn http(&self, route: &str, arguments: &[&str]) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{route}", self.api());
        let output = Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(url)
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let (body, status) = stdout
            .rsplit_once('\n')
            .context("curl wrote the status last")?;
        let status = status.trim().parse()?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }

    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status()?;
        ensure!(status.success(), "kill {signal} {pid}: {status}");
        Ok(())
    }

    /// Stops it and waits until it has left.
    pub fn leave(mut self) -> anyhow::Result<()> {
        self.signal("-TERM")?;
        let status = self.wait(Duration::from_secs(60))?;
        ensure!(status.success(), "up left with {status}");
        Ok(())
    }

    /// Waits until it has left.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<std::process::ExitStatus> {
        let child = &mut self.child;
        eventually("up leaves", limit, || Ok(child.try_wait()?))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Gone already is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again until there is an answer or the limit has passed.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(
            Instant::now() < deadline,
            "waited {limit:?} in vain: {what}"
        );
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the path is UTF-8")
}

/// What `gzip` makes of it.
pub fn gzip(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file");
    std::fs::write(&path, content)?;
    let output = Command::new("gzip").arg("-c").arg(&path).output()?;
    ensure!(output.status.success(), "gzip: {}", output.status);
    Ok(output.stdout)
}

/// Each check runs under its name on both targets.
macro_rules! on_both_targets {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $check() -> anyhow::Result<()> {
                super::$check(super::Target::Embedded)
            })*
        }
        mod real {
            $(#[test]
            fn $check() -> anyhow::Result<()> {
                super::$check(super::Target::Real)
            })*
        }
    };
}
pub(crate) use on_both_targets;
