//! Why an object could not be read.

use opendal::ErrorKind;

/// What came of a read that gave no object. The variants are what a caller acts upon: remove,
/// read again, give up on the object, or wait.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The object is not there, while its bucket or root folder is: it was removed.
    #[error("there is no such object")]
    NotFound,
    /// It is not the version asked for, or it changed while it was read.
    #[error("the object is not the version that was asked for")]
    Changed,
    /// Larger than the caller takes.
    #[error("the object has {size_bytes} bytes or more; the limit is {limit_bytes}")]
    TooLarge {
        /// What it is known to have at least.
        size_bytes: u64,
        /// The caller's cap.
        limit_bytes: u64,
    },
    /// Outside the allow-list, or not a regular file. Reading again does not help.
    #[error("reading this object is not allowed: {reason}")]
    NotAllowed {
        /// Which rule refused it, and what to change.
        reason: String,
    },
    /// The store refused (HTTP 403, `EACCES`). S3 says this of a missing object too where the
    /// credentials may not list the bucket.
    #[error("the store refused access to the object")]
    Denied {
        /// What the store said.
        #[source]
        source: Source,
    },
    /// The store, the bucket or the root folder could not be reached. Worth a retry.
    #[error("the store of the object is unavailable")]
    Unavailable {
        /// What happened.
        #[source]
        source: Source,
    },
}

/// A cause of any kind.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

impl ReadError {
    pub(crate) fn not_allowed(reason: impl Into<String>) -> Self {
        Self::NotAllowed {
            reason: reason.into(),
        }
    }

    pub(crate) fn unavailable(source: impl Into<Source>) -> Self {
        Self::Unavailable {
            source: source.into(),
        }
    }

    /// A stable name for metrics and dead letters: `object_not_found`, `object_changed`,
    /// `object_too_large`, `object_not_allowed`, `object_denied`, `object_unavailable`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::NotFound => "object_not_found",
            Self::Changed => "object_changed",
            Self::TooLarge { .. } => "object_too_large",
            Self::NotAllowed { .. } => "object_not_allowed",
            Self::Denied { .. } => "object_denied",
            Self::Unavailable { .. } => "object_unavailable",
        }
    }

    pub(crate) fn from_io(error: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        if error.raw_os_error() == Some(libc::ELOOP) {
            return Self::not_allowed("its path is a loop of symbolic links");
        }
        match error.kind() {
            K::NotFound | K::NotADirectory => Self::NotFound,
            K::PermissionDenied => Self::Denied {
                source: error.into(),
            },
            K::InvalidFilename => Self::not_allowed("its name is too long for the file system"),
            _ => Self::unavailable(error),
        }
    }
}

impl From<opendal::Error> for ReadError {
    fn from(error: opendal::Error) -> Self {
        match error.kind() {
            // OpenDAL gives a missing bucket the kind of a missing object; only the service's code
            // tells them apart, and OpenDAL keeps it nowhere but in the message.
            ErrorKind::NotFound if error.to_string().contains("NoSuchBucket") => {
                Self::unavailable(error)
            }
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::ConditionNotMatch => Self::Changed,
            ErrorKind::PermissionDenied => Self::Denied {
                source: error.into(),
            },
            ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
                Self::not_allowed("it is a folder, not an object")
            }
            // Also what OpenDAL calls unexpected: losing a document to an answer that nobody
            // understood would be worse than asking again.
            _ => Self::unavailable(error),
        }
    }
}
