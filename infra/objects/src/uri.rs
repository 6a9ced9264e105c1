//! Names of objects, in one normal form.

mod parse;

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use self::parse::{
    bucket_location, check_escapes, decode_utf8, file_location, parse_bucket, parse_file,
    split_scheme,
};

/// Left as they are in a path: RFC 3986's `pchar` and the slash. Everything else is encoded.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A record's id inside its file.
const MAX_FRAGMENT_BYTES: usize = 1024;

/// A kind of bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BucketService {
    /// Alibaba Cloud OSS, `oss://`.
    Oss,
    /// Amazon S3 and what speaks its protocol, `s3://`.
    S3,
}

impl BucketService {
    /// The URI scheme: `oss` or `s3`.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Oss => "oss",
            Self::S3 => "s3",
        }
    }
}

/// Where an object lies, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// An absolute path without `.`, `..` or a slash at its end.
    File(PathBuf),
    /// A key in a bucket; an empty one or one that ends in `/` names a prefix.
    Bucket {
        /// The service that holds the bucket.
        service: BucketService,
        /// The bucket's name.
        bucket: String,
        /// The key as the service knows it, not encoded.
        key: String,
    },
}

/// The name of an object: `oss://bucket/key`, `s3://bucket/key`, `file:///path`, and optionally a
/// record inside it: `#id`.
///
/// # Encoding
/// The text form is a URI (RFC 3986) in one normal form, so that one object has one name: letters,
/// digits and `-._~!$&'()*+,;=:@/` stand for themselves, every other byte of the key is
/// percent-encoded with upper-case digits. A space is `%20`, `#` is `%23`, `%` is `%25`, `?` is
/// `%3F`, and text beyond ASCII is its UTF-8 bytes encoded; `+` is a plus. A file name that is not
/// UTF-8 is encoded byte by byte.
///
/// [`ObjectUri::parse`] also takes spaces, `?` and non-ASCII text as they are and encodes them; a
/// `%` must begin an escape and a `#` begins the record's id. What has no scheme is a path, taken
/// literally: nothing in it is decoded and it has no record id.
///
/// # Refused
/// `.` and `..` segments (encoded ones too), NUL, keys over 1,024 bytes, and keys that OpenDAL
/// would silently turn into another key: empty segments (`a//b`) and white space at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectUri {
    location: Location,
    fragment: Option<String>,
}

/// Why a text names no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Nothing there.
    #[error("an empty object name")]
    Empty,
    /// Not one of ours.
    #[error("scheme `{0}` of an object name; expected oss, s3 or file")]
    Scheme(String),
    /// `file://host/…`.
    #[error("a file URI on host `{0}`; expected file:///path")]
    Host(String),
    /// Not a bucket's name.
    #[error("`{0}` cannot be a bucket's name (3 to 255 of letters, digits, `-`, `_`, `.`)")]
    Bucket(String),
    /// A `%` that begins no escape.
    #[error(
        "`%` at byte {at} begins no escape of two hexadecimal digits; write a plain `%` as %25"
    )]
    Escape {
        /// Offset in the text that was parsed.
        at: usize,
    },
    /// A key or record id that does not decode to UTF-8.
    #[error("the {0} is not UTF-8 once decoded")]
    NotUtf8(&'static str),
    /// `.`, `..` or an empty segment.
    #[error("segment `{0}` in an object name; it must name one object without `.`, `..` or `//`")]
    Segment(String),
    /// White space at an end, or NUL.
    #[error("{0} in an object name")]
    Character(&'static str),
    /// Longer than the service allows.
    #[error("an object name of {bytes} bytes; the limit is {limit_bytes}")]
    TooLong {
        /// Its length, decoded.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// A relative path that cannot be resolved.
    #[error("cannot resolve the path `{path}`: {reason}")]
    Path {
        /// The path as given.
        path: String,
        /// What the system said.
        reason: String,
    },
}

impl ObjectUri {
    /// Reads a URI, or a plain path, which is made absolute against the working folder.
    ///
    /// # Errors
    /// A name that is not one of ours, or that is refused (see the type).
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.is_empty() {
            return Err(UriError::Empty);
        }
        let Some((scheme, rest, offset)) = split_scheme(text) else {
            return Self::file(Path::new(text));
        };
        check_escapes(rest, offset)?;
        let (before, fragment) = match rest.split_once('#') {
            Some((before, id)) => (before, Some(decode_utf8(id, "record id")?)),
            None => (rest, None),
        };
        let location = match scheme.to_ascii_lowercase().as_str() {
            "oss" => parse_bucket(BucketService::Oss, before)?,
            "s3" => parse_bucket(BucketService::S3, before)?,
            "file" => parse_file(before)?,
            _ => return Err(UriError::Scheme(scheme.to_owned())),
        };
        let uri = Self {
            location,
            fragment: None,
        };
        match fragment {
            Some(id) => uri.with_fragment(&id),
            None => Ok(uri),
        }
    }

    /// The name of a key, given as the service knows it (not encoded). An empty key, or one that
    /// ends in `/`, names everything below.
    ///
    /// # Errors
    /// A bucket or key that is refused (see the type).
    pub fn bucket(service: BucketService, bucket: &str, key: &str) -> Result<Self, UriError> {
        Ok(Self {
            location: bucket_location(service, bucket, key)?,
            fragment: None,
        })
    }

    /// The name of a path, taken literally. A relative path is made absolute against the working
    /// folder; the part up to its last `..` is resolved on the file system and must exist.
    ///
    /// # Errors
    /// A path that cannot be resolved, or is too long.
    pub fn file(path: &Path) -> Result<Self, UriError> {
        if path.as_os_str().is_empty() {
            return Err(UriError::Empty);
        }
        let unresolved = |error: std::io::Error| UriError::Path {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let absolute = std::path::absolute(path).map_err(unresolved)?;
        let components: Vec<Component<'_>> = absolute.components().collect();
        let resolved = match components.iter().rposition(|c| *c == Component::ParentDir) {
            // `a/link/../b` is beside where the link leads, so `..` is never cut as text.
            Some(last) => {
                let prefix: PathBuf = components[..=last].iter().collect();
                let rest: PathBuf = components[last + 1..].iter().collect();
                prefix.canonicalize().map_err(unresolved)?.join(rest)
            }
            None => components.iter().collect(),
        };
        Ok(Self {
            location: file_location(&resolved)?,
            fragment: None,
        })
    }

    /// The object `name` right below this folder or prefix.
    ///
    /// # Errors
    /// As [`ObjectUri::bucket`] and [`ObjectUri::file`].
    pub fn child(&self, name: &str) -> Result<Self, UriError> {
        match &self.location {
            Location::File(folder) => Self::file(&folder.join(name)),
            Location::Bucket {
                service,
                bucket,
                key,
            } => match key.trim_end_matches('/') {
                "" => Self::bucket(*service, bucket, name),
                prefix => Self::bucket(*service, bucket, &format!("{prefix}/{name}")),
            },
        }
    }

    /// The same object with a record id; an earlier one is replaced.
    ///
    /// # Errors
    /// An id that is empty or longer than 1,024 bytes.
    pub fn with_fragment(mut self, id: &str) -> Result<Self, UriError> {
        if id.is_empty() {
            return Err(UriError::Empty);
        }
        if id.len() > MAX_FRAGMENT_BYTES {
            return Err(UriError::TooLong {
                bytes: id.len(),
                limit_bytes: MAX_FRAGMENT_BYTES,
            });
        }
        self.fragment = Some(id.to_owned());
        Ok(self)
    }

    /// The object itself, without a record id.
    #[must_use]
    pub fn without_fragment(&self) -> Self {
        Self {
            location: self.location.clone(),
            fragment: None,
        }
    }

    /// Where it lies, decoded.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The record inside the object, decoded.
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref()
    }

    /// The path, for a `file` URI.
    pub fn path(&self) -> Option<&Path> {
        match &self.location {
            Location::File(path) => Some(path),
            Location::Bucket { .. } => None,
        }
    }

    /// The key or path with a `.`-extension: what follows the last dot of the last segment, in
    /// lower case.
    pub fn extension(&self) -> Option<String> {
        let name = match &self.location {
            Location::File(path) => path.file_name()?.to_string_lossy().into_owned(),
            Location::Bucket { key, .. } => key.rsplit('/').next()?.to_owned(),
        };
        let (stem, extension) = name.rsplit_once('.')?;
        (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
    }
}

impl fmt::Display for ObjectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::File(path) => {
                write!(
                    f,
                    "file://{}",
                    percent_encode(path.as_os_str().as_bytes(), PATH)
                )?;
            }
            Location::Bucket {
                service,
                bucket,
                key,
            } => {
                write!(
                    f,
                    "{}://{bucket}/{}",
                    service.scheme(),
                    percent_encode(key.as_bytes(), PATH)
                )?;
            }
        }
        match &self.fragment {
            Some(id) => write!(f, "#{}", percent_encode(id.as_bytes(), PATH)),
            None => Ok(()),
        }
    }
}

impl FromStr for ObjectUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

impl Serialize for ObjectUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
