//! What a run starts ends with it, also where the judge itself is killed.
//!
//! The processes are in one group, whose leader is a shell that reads from a pipe of the judge's: it
//! closes however the judge ends, and then the group is killed. `PR_SET_PDEATHSIG` would not do, since
//! it goes by the *thread* that started a process, and a runtime ends threads while it works.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;

use super::kafka_server::PID_FILE;

/// Waits for the end of standard input, then kills the Kafka whose pid stands in `$1`, where `$0` is
/// on its command line (it has a session of its own, so it is not in the group), and the group.
const LEADER: &str = r#"
read -r _
if pid=$(cat "$1" 2>/dev/null) && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qF "$0"; then
    kill -9 "$pid"
fi
kill -9 0
"#;

/// A group of processes; killed when dropped, or when the process that began it is gone.
#[derive(Debug)]
pub struct ProcessGroup {
    leader: Child,
    /// Held open: its end is the sign.
    stdin: Option<ChildStdin>,
}

impl ProcessGroup {
    /// Begins one for the run in `folder`.
    ///
    /// # Errors
    /// The leader can't be started.
    pub fn begin(folder: &Path) -> anyhow::Result<Self> {
        let mut leader = Command::new("sh")
            .args(["-c", LEADER])
            .args([folder, &folder.join(PID_FILE)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("can't start a shell")?;
        let stdin = leader.stdin.take();
        Ok(Self { leader, stdin })
    }

    /// For `process_group` of what is to be in it.
    #[must_use]
    pub fn id(&self) -> ProcessGroupId {
        // A pid is positive and fits: the kernel's limit is 2²².
        ProcessGroupId(self.leader.id().cast_signed())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Not waited for, it would stay a zombie; an error means that it is gone.
        let _ = self.leader.wait();
    }
}

/// Which group a process is started in.
#[derive(Clone, Copy, Debug)]
pub struct ProcessGroupId(pub i32);
