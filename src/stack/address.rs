//! Where a running `up` can be reached: a file in its data folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kept_file;

/// Written by `up` once it answers, removed when it stops. After a `kill -9`
/// it stays behind, so readers ask whether the process is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningAddress {
    /// Process id of `up`.
    pub pid: u32,
    /// Base URL of its API.
    pub api: String,
    /// Kafka bootstrap servers, the embedded broker's or the cluster's.
    pub kafka: String,
    /// Prefix of all topic names.
    pub topic_prefix: String,
    /// What control calls must present: whoever can read the data folder may steer it.
    pub control_token: String,
}

impl RunningAddress {
    /// The `up` that runs on this data folder, if one does.
    ///
    /// # Errors
    /// The file is there but can't be read or understood.
    pub fn read(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let address: Option<Self> = kept_file::read(&file(data_dir), "an address file")?;
        Ok(address.filter(Self::is_running))
    }

    /// Leaves the address in the data folder, readable by its owner alone.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        kept_file::replace(&file(data_dir), self)
    }

    /// Removes what [`write`](Self::write) left.
    pub fn remove(data_dir: &Path) {
        if let Err(error) = std::fs::remove_file(file(data_dir)) {
            tracing::debug!(%error, "address file was gone already");
        }
    }

    /// A pid alone may be another program's by now: the name must be ours too.
    fn is_running(&self) -> bool {
        let name = Path::new("/proc").join(self.pid.to_string()).join("comm");
        std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("millrace"))
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("up.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(pid: u32) -> RunningAddress {
        RunningAddress {
            pid,
            api: "http://127.0.0.1:1".to_owned(),
            kafka: "127.0.0.1:2".to_owned(),
            topic_prefix: "millrace.".to_owned(),
            control_token: "secret".to_owned(),
        }
    }

    #[test]
    fn only_a_running_process_has_an_address() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RunningAddress::read(folder.path()).unwrap(), None);
        let alive = address(std::process::id());
        alive.write(folder.path()).unwrap();
        assert_eq!(RunningAddress::read(folder.path()).unwrap(), Some(alive));
        // Process 1 is somebody else; the other can't be.
        address(1).write(folder.path()).unwrap();
        assert_eq!(RunningAddress::read(folder.path()).unwrap(), None);
        address(u32::MAX).write(folder.path()).unwrap();
        assert_eq!(RunningAddress::read(folder.path()).unwrap(), None);
    }
}
