//! A Kafka of the judge's own, so that it may be killed: run by `infra/servers/servers` in a folder
//! of its own, from a copy of the installation that the tests share.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/servers/servers");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/servers/.servers");
/// In the folder of a run.
const SERVERS: &str = "servers";
/// There too.
pub(super) const PID_FILE: &str = "servers/kafka/pid";
const GONE_LIMIT: Duration = Duration::from_secs(20);

/// A running Kafka; killed when dropped.
#[derive(Debug)]
pub struct KafkaServer {
    folder: PathBuf,
    port: u16,
    relayed: String,
    /// One kill at a time: the next one waits until it runs again.
    killing: tokio::sync::Mutex<()>,
}

impl KafkaServer {
    /// Starts it on `port`, for the run in `folder`. For each pair of `relayed` it listens on the first
    /// port too, and tells clients who come there to come to the second one: a relay in front of the first.
    ///
    /// # Errors
    /// It can't be installed or started.
    pub async fn start(folder: &Path, port: u16, relayed: &[(u16, u16)]) -> anyhow::Result<Self> {
        copy_installation(&folder.join(SERVERS)).await?;
        let pairs: Vec<String> = relayed
            .iter()
            .map(|(listen, told)| format!("{listen}:{told}"))
            .collect();
        let server = Self {
            folder: folder.to_owned(),
            port,
            relayed: pairs.join(" "),
            killing: tokio::sync::Mutex::default(),
        };
        server.launch().await?;
        Ok(server)
    }

    /// `kill -9`, and a start after `down`.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn kill(&self, down: Duration) -> anyhow::Result<()> {
        let _one = self.killing.lock().await;
        self.end().await?;
        tokio::time::sleep(down).await;
        self.launch().await
    }

    /// No file of it may grow for `lasting`, as on a full disk: a Kafka whose only folder fails gives
    /// up. Then a start with room again.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn fill_disk(&self, lasting: Duration) -> anyhow::Result<()> {
        let _one = self.killing.lock().await;
        let pid = self.pid().context("the judge's Kafka does not run")?;
        let limit = Rlimit {
            current: Some(0),
            maximum: None,
        };
        prlimit(Some(pid), Resource::Fsize, limit)
            .context("can't limit the files of the judge's Kafka")?;
        tokio::time::sleep(lasting).await;
        self.end().await?;
        self.launch().await
    }

    /// `kill -9`, where it still runs; returns once it is gone.
    async fn end(&self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid() {
            // Where it has ended meanwhile there is nobody to signal.
            let _ = kill_process(pid, Signal::KILL);
        }
        let deadline = Instant::now() + GONE_LIMIT;
        while self.pid().is_some() {
            ensure!(Instant::now() < deadline, "the killed Kafka is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn launch(&self) -> anyhow::Result<()> {
        let output = Command::new(SCRIPT)
            .args(["start", "kafka"])
            .env("SERVERS_DIR", self.folder.join(SERVERS))
            .env("KAFKA_PORT", self.port.to_string())
            .env("KAFKA_RELAYED", &self.relayed)
            .env("KAFKA_HEAP", "384m")
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .context("infra/servers/servers can't be run")?;
        ensure!(
            output.status.success(),
            "the judge's Kafka did not start:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Its pid, while it runs: a recycled pid has not our folder on its command line.
    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.folder.join(PID_FILE)).ok()?;
        let number: i32 = text.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let ours = self.folder.to_str()?.as_bytes();
        let is_ours = command.windows(ours.len()).any(|part| part == ours);
        is_ours.then(|| Pid::from_raw(number)).flatten()
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Links the shared installation's files; without one the script installs by itself. What the
/// script writes into an installation is left out, or it would be written through the links.
async fn copy_installation(folder: &Path) -> anyhow::Result<()> {
    let shared =
        std::env::var_os("SERVERS_DIR").map_or_else(|| PathBuf::from(SHARED), PathBuf::from);
    let from = shared.join("kafka");
    let to = folder.join("kafka");
    std::fs::create_dir_all(&to)?;
    if !from.join("installed").is_file() {
        return Ok(());
    }
    // A link needs one file system; elsewhere it is a copy.
    let linked = Command::new("cp")
        .arg("-al")
        .arg(from.join("home"))
        .arg(&to)
        .output();
    if !linked.await?.status.success() {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from.join("home"))
            .arg(&to)
            .output();
        let copied = copied.await?;
        ensure!(
            copied.status.success(),
            "can't copy {}: {}",
            from.display(),
            String::from_utf8_lossy(&copied.stderr)
        );
    }
    for written in ["server.properties", "log4j2.yaml"] {
        let file = to.join("home").join(written);
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
    }
    std::fs::copy(from.join("installed"), to.join("installed"))?;
    Ok(())
}
