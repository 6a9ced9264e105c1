//! The child process that reads HTML, PDF and DOCX, seen from both sides.
//!
//! The parent starts `program args… MEDIA_TYPE` with the limits in the environment, writes the
//! document to its stdin, and reads one JSON `Result<ExtractedText, ExtractError>` from its stdout.
//! The child limits *itself* before it reads a byte: setting limits between fork and exec would
//! need `unsafe`, and the program that is started is our own.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::media_type::Resolved;
use super::{
    ExtractError, ExtractLimits, ExtractedText, MediaType, charset, docx, html, pdf, within,
};

/// The environment variable that holds the worker's limits.
const LIMITS: &str = "MILLRACE_EXTRACT_LIMITS";

/// How much of the child's stderr is kept for the log.
const STDERR_BYTES: u64 = 4096;

/// How to start the extraction worker: a program whose `main` hands over to
/// [`extract_worker_main`] when it sees these arguments, with the one after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractorCommand {
    /// The program.
    pub program: PathBuf,
    /// Arguments before the media type.
    pub args: Vec<OsString>,
}

impl ExtractorCommand {
    /// This very program with the hidden subcommand `extract-worker`.
    ///
    /// On Linux through `/proc/self/exe`, which still names the right image after the file was
    /// replaced by an upgrade.
    pub fn this_program() -> std::io::Result<Self> {
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe()?
        };
        Ok(Self {
            program,
            args: vec!["extract-worker".into()],
        })
    }
}

/// Reads one document in a child process.
pub(super) async fn run(
    command: &ExtractorCommand,
    document: &Resolved,
    bytes: &[u8],
    limits: &ExtractLimits,
) -> Result<ExtractedText, ExtractError> {
    let media_type = document.media_type;
    let unavailable = |error: &std::io::Error| ExtractError::WorkerUnavailable {
        program: command.program.display().to_string(),
        detail: error.to_string(),
    };
    let timed_out = || ExtractError::TimedOut {
        limit_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let mut child = Command::new(&command.program)
        .args(&command.args)
        .arg(document.to_argument())
        // The worker needs nothing of our environment, which may hold credentials.
        .env_clear()
        .env(LIMITS, Limits::of(limits).to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| unavailable(&error))?;
    let Ok(exchanged) =
        tokio::time::timeout(limits.timeout, exchange(&mut child, bytes, limits)).await
    else {
        // Reaped here, so that a stream of hostile files leaves no row of zombies. One that cannot be
        // killed has ended.
        let _ = child.kill().await;
        return Err(timed_out());
    };
    let Exchange {
        status,
        stdout,
        stderr,
    } = exchanged.map_err(|error| unavailable(&error))?;
    if status.success() {
        return serde_json::from_slice(&stdout).unwrap_or_else(|_| {
            Err(ExtractError::Crashed {
                format: media_type.name().to_owned(),
                detail: "its answer is not readable".to_owned(),
            })
        });
    }
    let stderr = String::from_utf8_lossy(&stderr);
    // Logged, never sent on: parsers quote the document in their panics.
    tracing::debug!(%status, media_type = media_type.as_str(), stderr = %stderr, "extraction worker failed");
    Err(classify(status, &stderr, media_type, limits, timed_out))
}

struct Exchange {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn exchange(
    child: &mut Child,
    bytes: &[u8],
    limits: &ExtractLimits,
) -> std::io::Result<Exchange> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("the worker's pipes are missing"));
    };
    let write = async {
        // A worker that dies early closes the pipe; its status says more than this error.
        let _ = stdin.write_all(bytes).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
    };
    // Six times: JSON writes a control character as `\u0000`.
    let answer_bytes = limits
        .max_text_bytes
        .saturating_mul(6)
        .saturating_add(64 * 1024);
    let (mut answer, mut log) = (Vec::new(), Vec::new());
    let read = async {
        let mut stdout = stdout.take(answer_bytes);
        stdout.read_to_end(&mut answer).await
    };
    let read_log = async {
        let mut stderr = stderr;
        (&mut stderr)
            .take(STDERR_BYTES)
            .read_to_end(&mut log)
            .await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await
    };
    let ((), answered, logged) = tokio::join!(write, read, read_log);
    answered?;
    logged?;
    let status = child.wait().await?;
    Ok(Exchange {
        status,
        stdout: answer,
        stderr: log,
    })
}

fn classify(
    status: ExitStatus,
    stderr: &str,
    media_type: MediaType,
    limits: &ExtractLimits,
    timed_out: impl Fn() -> ExtractError,
) -> ExtractError {
    use std::os::unix::process::ExitStatusExt;
    const SIGXCPU: i32 = 24;
    const SIGKILL: i32 = 9;
    // Both lines are the standard library's own, printed before it aborts.
    if stderr.contains("memory allocation of") || stderr.contains("capacity overflow") {
        return ExtractError::OutOfMemory {
            limit_bytes: limits.memory_bytes,
        };
    }
    match status.signal() {
        Some(SIGXCPU) => timed_out(),
        // Nobody but the kernel's memory killer and an operator sends this to a worker.
        Some(SIGKILL) => ExtractError::OutOfMemory {
            limit_bytes: limits.memory_bytes,
        },
        Some(signal) => ExtractError::Crashed {
            format: media_type.name().to_owned(),
            detail: if stderr.contains("has overflowed its stack") {
                "stack overflow".to_owned()
            } else {
                format!("signal {signal}")
            },
        },
        None => ExtractError::Crashed {
            format: media_type.name().to_owned(),
            detail: status.to_string(),
        },
    }
}

/// What the worker allows itself: `MAX_TEXT_BYTES MEMORY_BYTES CPU_SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    max_text_bytes: u64,
    memory_bytes: u64,
    cpu_seconds: u64,
}

impl Limits {
    fn of(limits: &ExtractLimits) -> Self {
        Self {
            max_text_bytes: limits.max_text_bytes,
            memory_bytes: limits.memory_bytes,
            // Rounded up and one more: the parent's clock should speak first.
            cpu_seconds: limits.timeout.as_secs() + 2,
        }
    }

    fn from_environment() -> Option<Self> {
        let text = std::env::var(LIMITS).ok()?;
        let numbers: Vec<u64> = text
            .split(' ')
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        let [max_text_bytes, memory_bytes, cpu_seconds] = numbers[..] else {
            return None;
        };
        Some(Self {
            max_text_bytes,
            memory_bytes,
            cpu_seconds,
        })
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.max_text_bytes, self.memory_bytes, self.cpu_seconds
        )
    }
}

/// `main` of the extraction worker: limits its own memory and processor time, reads a document of
/// `media_type` (as the parent gave it) from stdin and writes the answer to stdout.
///
/// Call it first thing in `main`, before threads or a runtime exist.
pub fn extract_worker_main(media_type: &str) -> ExitCode {
    let Some(document) = Resolved::from_argument(media_type) else {
        return usage("unknown media type");
    };
    let Some(limits) = Limits::from_environment() else {
        return usage(
            "no limits in MILLRACE_EXTRACT_LIMITS; this command is for the vectorizer's own use",
        );
    };
    let limit = |resource, amount| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(amount),
                maximum: Some(amount),
            },
        )
    };
    // No limit, no parsing: a worker without limits is what this process exists to avoid.
    if limit(Resource::As, limits.memory_bytes)
        .and_then(|()| limit(Resource::Cpu, limits.cpu_seconds))
        .is_err()
    {
        return usage("the system refused the limits");
    }
    // A crash is reported through the pipe; a core file would hold the document.
    let _ = limit(Resource::Core, 0);
    match answer(&document, limits.max_text_bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(document: &Resolved, max_text_bytes: u64) -> std::io::Result<()> {
    // Parsers print to stdout as they please: the answer goes through a copy of it, and their
    // prints to stderr.
    let mut out = std::fs::File::from(rustix::io::dup(std::io::stdout())?);
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    let media_type = document.media_type;
    let read = || match media_type {
        MediaType::Pdf => pdf::read(&bytes, max_text_bytes),
        MediaType::Docx => docx::read(&bytes, max_text_bytes),
        MediaType::Html => {
            let declared = document
                .charset
                .clone()
                .or_else(|| html::declared_charset(&bytes));
            let extracted = html::read(&charset::decode(&bytes, declared.as_deref())?);
            within(&extracted.text, max_text_bytes)?;
            Ok(extracted)
        }
        other => Err(ExtractError::UnsupportedMediaType {
            media_type: other.as_str().to_owned(),
        }),
    };
    let result =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|_| {
            Err(ExtractError::Crashed {
                format: media_type.name().to_owned(),
                detail: "panic".to_owned(),
            })
        });
    serde_json::to_writer(&mut out, &result)?;
    out.flush()
}

fn usage(problem: &str) -> ExitCode {
    // Directly, not through tracing: nothing is set up in this process.
    let _ = writeln!(std::io::stderr(), "extract-worker: {problem}");
    ExitCode::from(64)
}
