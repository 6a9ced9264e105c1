//! What can go wrong between a pin and an installed folder.

use std::io;
use std::path::PathBuf;

/// Why files could not be fetched, checked or installed.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The bytes are not the ones that were pinned.
    #[error("`{file}` has sha256 {found}, but {expected} is pinned: it was damaged or replaced")]
    Checksum {
        /// The file, relative to the installed folder.
        file: &'static str,
        /// The pinned checksum.
        expected: &'static str,
        /// The checksum of what came.
        found: String,
    },
    /// A file or folder could not be read or written.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The package's client could not be run or failed.
    #[error("`{command}` failed: {reason}")]
    Pip {
        /// The command line.
        command: String,
        /// The last line that it printed.
        reason: String,
    },
    /// The package is not the archive that was expected.
    #[error("the package `{}` can't be unpacked", path.display())]
    Archive {
        /// The downloaded file.
        path: PathBuf,
        /// What the archive lacks.
        #[source]
        source: zip::result::ZipError,
    },
}
