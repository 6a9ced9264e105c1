//! Finds LightGBM's shared library, or takes it from its official Python package.

use std::error::Error;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use millrace_downloads::{
    DownloadError, Installed, PinnedFile, Progress, PythonPackage, Staging, cache_folder, inspect,
};

use crate::lightgbm::LightGbm;
use crate::lightgbm::ffi::Api;

/// Names the library to use, whatever else is there.
const VARIABLE: &str = "LIGHTGBM_LIBRARY";
/// As the system's packages and LightGBM's own installation call it.
const FILE: &str = "lib_lightgbm.so";

const PACKAGE: PythonPackage = PythonPackage {
    requirement: "lightgbm==4.7.0",
    folder: "lightgbm/lib/",
};

/// The library in the package for this machine; `None` where no package has one that was pinned.
const PINNED: Option<&[PinnedFile]> = if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
)) {
    Some(&[PinnedFile {
        path: FILE,
        bytes: 9_247_120,
        sha256: "573d57e8a2c6290c2271b99b87afa7a802e796eafc9e8d66aefa0913cbc1616a",
    }])
} else if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "aarch64"
)) {
    Some(&[PinnedFile {
        path: FILE,
        bytes: 8_085_632,
        sha256: "05ec49bad350009b9debd36769ef1cced2132cd93abfe3fe0b8aa116c4388052",
    }])
} else {
    None
};

/// Why there is no LightGBM to train with.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The library needs an OpenMP runtime that this machine lacks.
    #[error(
        "LightGBM's library `{}` needs the OpenMP runtime libgomp.so.1: install it (Debian and \
         Ubuntu: `apt-get install libgomp1`; Fedora: `dnf install libgomp`)", path.display()
    )]
    OpenMp {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: libloading::Error,
    },
    /// The file is missing, not a library for this machine, or not LightGBM 4.
    #[error(
        "`{}` can't be loaded as LightGBM's library; LIGHTGBM_LIBRARY may name another (version 4), \
         or leave it unset to take the official one", path.display()
    )]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: libloading::Error,
    },
    /// There is no pinned library for this kind of machine.
    #[error(
        "no LightGBM library is pinned for this kind of machine and the system has none: install \
         LightGBM 4 and set LIGHTGBM_LIBRARY to its lib_lightgbm"
    )]
    NoPackage,
    /// There is no place for a per-user cache.
    #[error(
        "no folder for LightGBM's library: set MILLRACE_LIBRARIES to one (XDG_CACHE_HOME and HOME \
         are unset too)"
    )]
    NoHome,
    /// The package could not be had.
    #[error(
        "LightGBM's library is out of reach: make `python3 -m pip download {}` work, or set \
         LIGHTGBM_LIBRARY to a lib_lightgbm.so of version 4", PACKAGE.requirement
    )]
    OutOfReach(#[source] DownloadError),
}

impl LightGbm {
    /// The library that `LIGHTGBM_LIBRARY` names, else the one in the system's paths, else the
    /// official one of a pinned checksum: from this user's cache (`MILLRACE_LIBRARIES`, else
    /// `$XDG_CACHE_HOME/millrace/libraries`, else `~/.cache/millrace/libraries`), where it is put on
    /// the first call, out of the Python package `lightgbm`. `pip` tells no progress: the bar goes
    /// from 0 to all of its 9 MB at once.
    ///
    /// # Errors
    /// [`LibraryError`], with what to install or set.
    pub async fn obtain(progress: &mut Progress<'_>) -> Result<Self, LibraryError> {
        if let Some(named) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            return Self::load(Path::new(&named));
        }
        match Self::load(Path::new(FILE)) {
            Ok(library) => return Ok(library),
            Err(error) => tracing::debug!(
                error = &error as &dyn Error,
                "the system has no LightGBM; taking the pinned one"
            ),
        }
        let root = cache_folder("MILLRACE_LIBRARIES", "libraries").ok_or(LibraryError::NoHome)?;
        Self::pinned_in(&root, progress).await
    }

    /// The pinned library, kept under `root`, to which it is fetched where it is missing or damaged.
    ///
    /// # Errors
    /// [`LibraryError`], with what to install or set.
    pub async fn pinned_in(root: &Path, progress: &mut Progress<'_>) -> Result<Self, LibraryError> {
        let files = PINNED.ok_or(LibraryError::NoPackage)?;
        let folder = root.join(PACKAGE.requirement.replace("==", "-"));
        if inspect(&folder, files).await != Installed::Whole {
            fetch(&folder, files, progress)
                .await
                .map_err(LibraryError::OutOfReach)?;
        }
        Self::load(&folder.join(FILE))
    }
}

async fn fetch(
    folder: &Path,
    files: &'static [PinnedFile],
    progress: &mut Progress<'_>,
) -> Result<(), DownloadError> {
    let staging = Staging::beside(folder).await?;
    PACKAGE.fetch(files, staging.path(), progress).await?;
    staging.install(folder, files).await
}

pub(super) fn open(path: &Path) -> Result<Api, LibraryError> {
    Api::load(OsStr::new(path)).map_err(|source| {
        let path = path.to_owned();
        if said_by_the_loader(&source).is_some_and(|said| lacks_openmp(&said)) {
            LibraryError::OpenMp { path, source }
        } else {
            LibraryError::Load { path, source }
        }
    })
}

/// The loader's own words, beneath libloading's.
fn said_by_the_loader(error: &libloading::Error) -> Option<String> {
    error.source().map(ToString::to_string)
}

/// Whether the loader names the OpenMP runtime as what is missing; it has no error code for it.
fn lacks_openmp(said: &str) -> bool {
    said.starts_with("libgomp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_openmp_runtime_is_told_from_a_missing_library() {
        // As glibc says it.
        assert!(lacks_openmp(
            "libgomp.so.1: cannot open shared object file: No such file or directory"
        ));
        assert!(!lacks_openmp(
            "lib_lightgbm.so: cannot open shared object file: No such file or directory"
        ));
    }

    #[test]
    fn another_library_is_refused_by_the_function_that_it_lacks() {
        let LibraryError::Load { source, .. } = LightGbm::load(Path::new("libm.so.6")).unwrap_err()
        else {
            panic!("loaded as something else");
        };
        let said = said_by_the_loader(&source).unwrap();
        assert!(said.contains("LGBM_"), "{said}");
    }

    #[test]
    fn the_loader_s_words_begin_with_what_is_missing() {
        let LibraryError::Load { source, .. } =
            LightGbm::load(Path::new("libnone.so")).unwrap_err()
        else {
            panic!("loaded as something else");
        };
        let said = said_by_the_loader(&source).unwrap();
        assert!(said.starts_with("libnone.so: "), "{said}");
    }
}
