//! From text to a location: decoding, and what is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::percent_decode_str;

use super::{BucketService, Location, UriError};

/// OSS allows 1,023 bytes, S3 1,024.
const MAX_KEY_BYTES: usize = 1024;
/// Linux's `PATH_MAX`.
const MAX_PATH_BYTES: usize = 4096;

/// `(scheme, what follows, offset of what follows)`; `None` for a plain path.
pub(super) fn split_scheme(text: &str) -> Option<(&str, &str, usize)> {
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

pub(super) fn check_escapes(text: &str, offset: usize) -> Result<(), UriError> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            return Err(UriError::Escape { at: offset + at });
        }
    }
    Ok(())
}

pub(super) fn decode_utf8(text: &str, what: &'static str) -> Result<String, UriError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| UriError::NotUtf8(what))
}

pub(super) fn parse_bucket(service: BucketService, text: &str) -> Result<Location, UriError> {
    let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
    bucket_location(service, bucket, &decode_utf8(key, "key")?)
}

pub(super) fn parse_file(text: &str) -> Result<Location, UriError> {
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

pub(super) fn bucket_location(
    service: BucketService,
    bucket: &str,
    key: &str,
) -> Result<Location, UriError> {
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

pub(super) fn file_location(path: &Path) -> Result<Location, UriError> {
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
