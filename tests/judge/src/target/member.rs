//! One process of the pipeline: started, signalled by its pid, and started again when it ends.
//!
//! A task owns the child, so a pid is signalled only while it is not reaped yet.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::process_group::ProcessGroupId;
use crate::schedule::Role;

/// Who ends by itself is started again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Beyond this a process that was asked to leave is killed; that it took so long is told.
const LEAVE_LIMIT: Duration = Duration::from_secs(40);

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The `millrace` binary.
    pub binary: PathBuf,
    /// Subcommand and flags.
    pub arguments: Vec<String>,
    /// Current folder of the process; its log goes there too.
    pub folder: PathBuf,
    /// Where it is started.
    pub group: ProcessGroupId,
}

/// How a process left after SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Its status; none where it had to be killed.
    pub status: Option<ExitStatus>,
    /// From the signal to the end.
    pub took: Duration,
    /// Whether it had become ready before.
    pub was_ready: bool,
}

enum Order {
    Kill {
        meanwhile: Box<dyn FnOnce() + Send>,
        done: oneshot::Sender<()>,
    },
    Terminate(oneshot::Sender<Left>),
    Stop(oneshot::Sender<Left>),
    Signal(Signal),
    LimitFiles(Option<u64>),
}

/// A process of the pipeline.
pub struct Member {
    orders: mpsc::UnboundedSender<Order>,
    ready: watch::Receiver<bool>,
    self_exits: Arc<AtomicU64>,
    log: PathBuf,
    supervising: JoinHandle<()>,
}

impl Member {
    /// Starts the process and keeps it running.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(role: Role, program: Program) -> anyhow::Result<Self> {
        let log = program.folder.join(format!("{}.log", role.name()));
        let (orders, received) = mpsc::unbounded_channel();
        let (is_ready, ready) = watch::channel(false);
        let self_exits = Arc::new(AtomicU64::new(0));
        let supervisor = Supervisor {
            child: spawn(&program, &log, &is_ready)?,
            program,
            log: log.clone(),
            is_ready,
            self_exits: Arc::clone(&self_exits),
        };
        let supervising = tokio::spawn(supervisor.run(received));
        Ok(Self {
            orders,
            ready,
            self_exits,
            log,
            supervising,
        })
    }

    /// `kill -9`, then `meanwhile`, which may block, then it is started again; returns then what
    /// `meanwhile` gave.
    ///
    /// # Errors
    /// The member was stopped.
    pub async fn kill_and<T: Send + 'static>(
        &self,
        meanwhile: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (given, gave) = oneshot::channel();
        let (done, started) = oneshot::channel();
        self.order(Order::Kill {
            // Who ordered it may have left.
            meanwhile: Box::new(move || drop(given.send(meanwhile()))),
            done,
        });
        let gave = gave.await.context("it was stopped already")?;
        started.await.context("it was stopped already")?;
        Ok(gave)
    }

    /// SIGTERM; returns once it has left. It is started again.
    pub async fn terminate(&self) -> Option<Left> {
        let (done, left) = oneshot::channel();
        self.order(Order::Terminate(done));
        left.await.ok()
    }

    /// SIGTERM; it is not started again.
    pub async fn stop(&self) -> Option<Left> {
        let (done, left) = oneshot::channel();
        self.order(Order::Stop(done));
        left.await.ok()
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.order(Order::Signal(Signal::STOP));
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.order(Order::Signal(Signal::CONT));
    }

    /// No file of the process may grow beyond `bytes`, or beyond what it wants.
    pub fn limit_files(&self, bytes: Option<u64>) {
        self.order(Order::LimitFiles(bytes));
    }

    /// Waits until it has said that it is ready.
    ///
    /// # Errors
    /// It has not within `limit`; the end of its log is told.
    pub async fn ready(&self, limit: Duration) -> anyhow::Result<()> {
        let mut ready = self.ready.clone();
        let waited = tokio::time::timeout(limit, ready.wait_for(|ready| *ready)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => anyhow::bail!(
                "not ready after {limit:?}; the end of its log:\n{}",
                self.log_tail()
            ),
        }
    }

    /// How often it ended without being told to.
    #[must_use]
    pub fn self_exits(&self) -> u64 {
        self.self_exits.load(Relaxed)
    }

    /// Lines of its log that tell of a panic.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn panics(&self) -> anyhow::Result<Vec<String>> {
        let log = std::fs::read(&self.log)
            .with_context(|| format!("can't read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| line.contains("panicked at"))
            .map(str::to_owned)
            .collect())
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn order(&self, order: Order) {
        // A member that was stopped takes no orders any more.
        let _ = self.orders.send(order);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The child is killed with the task that owns it.
        self.supervising.abort();
    }
}

struct Supervisor {
    child: Child,
    program: Program,
    log: PathBuf,
    is_ready: watch::Sender<bool>,
    self_exits: Arc<AtomicU64>,
}

impl Supervisor {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = tokio::select! {
                _ = self.child.wait() => {
                    self.self_exits.fetch_add(1, Relaxed);
                    tokio::time::sleep(AGAIN_AFTER).await;
                    self.start_again().await;
                    continue;
                }
                order = orders.recv() => order,
            };
            match order {
                None => return,
                Some(Order::Kill { meanwhile, done }) => {
                    // An error means that it has ended already.
                    let _ = self.child.kill().await;
                    // That it panicked is told by what it did not give.
                    let _ = tokio::task::spawn_blocking(meanwhile).await;
                    self.start_again().await;
                    let _ = done.send(());
                }
                Some(Order::Terminate(done)) => {
                    let left = self.leave().await;
                    self.start_again().await;
                    let _ = done.send(left);
                }
                Some(Order::Stop(done)) => {
                    let _ = done.send(self.leave().await);
                    return;
                }
                Some(Order::Signal(signal)) => self.signal(signal),
                Some(Order::LimitFiles(bytes)) => self.limit_files(bytes),
            }
        }
    }

    async fn leave(&mut self) -> Left {
        let asked = Instant::now();
        let was_ready = *self.is_ready.borrow();
        self.signal(Signal::TERM);
        let status = match tokio::time::timeout(LEAVE_LIMIT, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = self.child.kill().await;
                None
            }
        };
        Left {
            status,
            took: asked.elapsed(),
            was_ready,
        }
    }

    async fn start_again(&mut self) {
        self.is_ready.send_replace(false);
        // Forking fails when the machine is out of processes or memory, which passes.
        loop {
            match spawn(&self.program, &self.log, &self.is_ready) {
                Ok(child) => {
                    self.child = child;
                    return;
                }
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id()?.try_into().ok()?)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // Not reaped yet, so it is ours; where it has ended, nothing happens.
            let _ = kill_process(pid, signal);
        }
    }

    fn limit_files(&self, bytes: Option<u64>) {
        if let Some(pid) = self.pid() {
            let limit = Rlimit {
                current: bytes,
                maximum: None,
            };
            let _ = prlimit(Some(pid), Resource::Fsize, limit);
        }
    }
}

fn spawn(program: &Program, log: &Path, is_ready: &watch::Sender<bool>) -> anyhow::Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)?;
    // A write beyond a limit on file sizes is to fail like one on a full disk; by default its
    // signal would end the process instead, and an ignored signal stays ignored across exec.
    let mut child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(&program.binary)
        .args(&program.arguments)
        .current_dir(&program.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(program.group.0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {}", program.binary.display()))?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let is_ready = is_ready.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        // The first line says that it is ready; an end without one, that it never was.
        if let Ok(Some(_)) = lines.next_line().await {
            is_ready.send_replace(true);
        }
    });
    Ok(child)
}
