//! Names of objects, in one normal form.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// OSS allows 1,023 bytes, S3 1,024.
const MAX_KEY_BYTES: usize = 1024;
/// Linux's `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;
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

/// `(scheme, what follows, offset of what follows)`; `None` for a plain path.
fn split_scheme(text: &str) -> Option<(&str, &str, usize)> {
    let colon = text.find(':')?;
    let scheme = &text[..colon];
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let rest = &text[colon + 1..];
    // `file:/path` is a URI too (RFC 8089); `notes:1.txt` is a path.
    if !is_scheme || !(rest.starts_with("//") || (scheme == "file" && rest.starts_with('/'))) {
        return None;
    }
    let skip = if rest.starts_with("//") { 2 } else { 0 };
    Some((scheme, &rest[skip..], colon + 1 + skip))
}

fn check_escapes(text: &str, offset: usize) -> Result<(), UriError> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            return Err(UriError::Escape { at: offset + at });
        }
    }
    Ok(())
}

fn decode_utf8(text: &str, what: &'static str) -> Result<String, UriError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| UriError::NotUtf8(what))
}

fn parse_bucket(service: BucketService, text: &str) -> Result<Location, UriError> {
    let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
    bucket_location(service, bucket, &decode_utf8(key, "key")?)
}

fn parse_file(text: &str) -> Result<Location, UriError> {
    let (host, path) = match text.find('/') {
        Some(slash) => text.split_at(slash),
        None => (text, ""),
    };
    if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
        return Err(UriError::Host(host.to_owned()));
    }
    if path.is_empty() {
        return Err(UriError::Empty);
    }
    let bytes: Vec<u8> = percent_decode_str(path).collect();
    for segment in bytes.split(|b| *b == b'/') {
        if matches!(segment, b"." | b"..") {
            return Err(UriError::Segment(
                String::from_utf8_lossy(segment).into_owned(),
            ));
        }
    }
    file_location(Path::new(OsStr::from_bytes(&bytes)))
}

fn bucket_location(service: BucketService, bucket: &str, key: &str) -> Result<Location, UriError> {
    let name_ok = (3..=255).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !bucket.starts_with('.')
        && !bucket.contains("..");
    if !name_ok {
        return Err(UriError::Bucket(bucket.to_owned()));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(UriError::TooLong {
            bytes: key.len(),
            limit_bytes: MAX_KEY_BYTES,
        });
    }
    if key.contains('\0') {
        return Err(UriError::Character("a NUL character"));
    }
    if key.trim() != key {
        return Err(UriError::Character("white space at the beginning or end"));
    }
    // The slash at the end of a prefix is no empty segment.
    let segments = key.strip_suffix('/').unwrap_or(key);
    if !key.is_empty()
        && let Some(bad) = segments.split('/').find(|s| matches!(*s, "" | "." | ".."))
    {
        return Err(UriError::Segment(bad.to_owned()));
    }
    Ok(Location::Bucket {
        service,
        bucket: bucket.to_owned(),
        key: key.to_owned(),
    })
}

fn file_location(path: &Path) -> Result<Location, UriError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > MAX_PATH_BYTES {
        return Err(UriError::TooLong {
            bytes: bytes.len(),
            limit_bytes: MAX_PATH_BYTES,
        });
    }
    if bytes.contains(&0) {
        return Err(UriError::Character("a NUL character"));
    }
    // Through the components: doubled slashes and one at the end mean nothing in a path.
    Ok(Location::File(path.components().collect()))
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        ObjectUri::parse(text).unwrap().to_string()
    }

    #[test]
    fn one_object_has_one_name() {
        for (given, expected) in [
            ("oss://docs/a b.txt", "oss://docs/a%20b.txt"),
            ("oss://docs/a%20b.txt", "oss://docs/a%20b.txt"),
            ("OSS://docs/%61%2Eb", "oss://docs/a.b"),
            ("s3://docs/100%25.md", "s3://docs/100%25.md"),
            ("s3://docs/c%23.md", "s3://docs/c%23.md"),
            ("s3://docs/q?x=1", "s3://docs/q%3Fx=1"),
            ("s3://docs/a+b", "s3://docs/a+b"),
            ("s3://docs/文档.txt", "s3://docs/%E6%96%87%E6%A1%A3.txt"),
            ("s3://docs/%e6%96%87.txt", "s3://docs/%E6%96%87.txt"),
            ("s3://docs", "s3://docs/"),
            ("s3://docs/reports/", "s3://docs/reports/"),
            ("file:///srv//docs/a.txt", "file:///srv/docs/a.txt"),
            ("file://localhost/srv/docs/", "file:///srv/docs"),
            ("file:/srv/a b", "file:///srv/a%20b"),
            ("/srv/100%.txt", "file:///srv/100%25.txt"),
            ("/srv/c#.txt", "file:///srv/c%23.txt"),
            (
                "file:///srv/corpus.jsonl#id 7/ü",
                "file:///srv/corpus.jsonl#id%207/%C3%BC",
            ),
        ] {
            assert_eq!(normal(given), expected, "{given}");
        }
    }

    #[test]
    fn what_could_name_another_object_is_refused() {
        use UriError as E;
        for (given, expected) in [
            ("", E::Empty),
            ("http://docs/a", E::Scheme("http".into())),
            ("file://server/a", E::Host("server".into())),
            ("oss:///a", E::Bucket(String::new())),
            ("oss://a b/c", E::Bucket("a b".into())),
            ("s3://docs/100%.md", E::Escape { at: 13 }),
            ("s3://docs/%FF", E::NotUtf8("key")),
            ("s3://docs/../x", E::Segment("..".into())),
            ("s3://docs/a/%2e%2E/x", E::Segment("..".into())),
            ("s3://docs/a//b", E::Segment(String::new())),
            ("s3://docs//b", E::Segment(String::new())),
            (
                "s3://docs/ a",
                E::Character("white space at the beginning or end"),
            ),
            ("s3://docs/a%00b", E::Character("a NUL character")),
            ("file:///srv/../etc/passwd", E::Segment("..".into())),
            ("file:///srv/%2E%2e/etc/passwd", E::Segment("..".into())),
            ("file:///srv/a%00b", E::Character("a NUL character")),
        ] {
            assert_eq!(ObjectUri::parse(given).unwrap_err(), expected, "{given}");
        }
        let long = format!("s3://docs/{}", "a".repeat(1025));
        assert!(matches!(
            ObjectUri::parse(&long),
            Err(E::TooLong { bytes: 1025, .. })
        ));
    }

    #[test]
    fn plain_paths_are_absolute_and_literal() {
        let here = std::env::current_dir().unwrap();
        let uri = ObjectUri::parse("some dir/../x").unwrap_err();
        assert!(matches!(uri, UriError::Path { .. }), "{uri:?}");
        assert_eq!(
            ObjectUri::parse("./a:b %41").unwrap().path().unwrap(),
            here.join("a:b %41")
        );
        assert_eq!(
            ObjectUri::parse("../x").unwrap().path().unwrap(),
            here.canonicalize().unwrap().parent().unwrap().join("x"),
        );
    }

    #[test]
    fn names_that_are_not_utf8_survive() {
        let path = Path::new(OsStr::from_bytes(b"/srv/caf\xe9.txt"));
        let uri = ObjectUri::file(path).unwrap();
        assert_eq!(uri.to_string(), "file:///srv/caf%E9.txt");
        assert_eq!(
            ObjectUri::parse("file:///srv/caf%E9.txt")
                .unwrap()
                .path()
                .unwrap(),
            path
        );
    }

    #[test]
    fn extensions_are_of_the_last_segment() {
        for (given, expected) in [
            ("s3://docs/a.b/c.TXT", Some("txt")),
            ("s3://docs/a.b/c", None),
            ("/x/.profile", None),
            ("/x/corpus.jsonl.gz", Some("gz")),
        ] {
            assert_eq!(
                ObjectUri::parse(given).unwrap().extension().as_deref(),
                expected,
                "{given}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in "[^\0/ ][^\0]{0,40}", id in proptest::option::of("\\PC{1,20}")) {
            if let Ok(uri) = ObjectUri::bucket(BucketService::S3, "docs", &key) {
                let uri = match id { Some(id) => uri.with_fragment(&id).unwrap(), None => uri };
                let text = uri.to_string();
                prop_assert!(text.is_ascii());
                let back = ObjectUri::parse(&text).unwrap();
                prop_assert_eq!(back.to_string(), text);
                prop_assert_eq!(back, uri);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = ObjectUri::parse(&text);
        }
    }
}
