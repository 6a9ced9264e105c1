//! SHA-256 of files, and the files that may have only one.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::DownloadError;

/// A file and the only bytes that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    /// Path inside the installed folder, with `/`.
    pub path: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: &'static str,
}

impl PinnedFile {
    /// Compares the file inside `folder` with its pin.
    ///
    /// # Errors
    /// [`DownloadError::Io`] when it can't be read, [`DownloadError::Checksum`] when it has other
    /// bytes.
    pub fn verify(&self, folder: &Path) -> Result<(), DownloadError> {
        let path = folder.join(self.path);
        let found = sha256_of(&path).map_err(|source| DownloadError::Io {
            action: "read",
            path,
            source,
        })?;
        if found == self.sha256 {
            Ok(())
        } else {
            Err(DownloadError::Checksum {
                file: self.path,
                expected: self.sha256,
                found,
            })
        }
    }
}

/// SHA-256 of a file in lower-case hex.
///
/// # Errors
/// The file can't be read.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_bytes_pass() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        // The SHA-256 of "abc" is FIPS 180-2's first example.
        let pinned = PinnedFile {
            path: "abc.txt",
            bytes: 3,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        };
        let missing = pinned.verify(folder.path());
        assert!(matches!(missing, Err(DownloadError::Io { .. })));
        std::fs::write(folder.path().join("abc.txt"), "abc")?;
        pinned.verify(folder.path())?;
        std::fs::write(folder.path().join("abc.txt"), "abd")?;
        let other = pinned.verify(folder.path());
        assert!(matches!(other, Err(DownloadError::Checksum { .. })));
        Ok(())
    }
}
