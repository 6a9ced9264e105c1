//! What fuzzing asks of object names. Compiled for fuzzing and for the test that replays the corpus.

use std::sync::LazyLock;

use crate::allow::AllowList;
use crate::{Location, ObjectStoresConfig, ObjectUri};

static ALLOWED: LazyLock<AllowList> = LazyLock::new(|| {
    let config = ObjectStoresConfig {
        allowed_roots: vec!["/usr".into()],
        allowed_buckets: vec!["s3://docs/public/".to_owned(), "oss://uploads".to_owned()],
        ..ObjectStoresConfig::default()
    };
    match AllowList::new(&config) {
        Ok(list) => list,
        Err(error) => panic!("the list is not valid: {error}"),
    }
});

/// Any text as an object's name: it has one normal form, which names the same object, and what is
/// allowed lies where the list says.
pub fn object_uri(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(uri) = ObjectUri::parse(text) else {
        return;
    };
    let normal = uri.to_string();
    assert!(normal.is_ascii(), "{normal}");
    assert_eq!(ObjectUri::parse(&normal).as_ref(), Ok(&uri), "{normal}");
    let whole = uri.without_fragment();
    assert_eq!(whole.location(), uri.location());
    if let Some(id) = uri.fragment() {
        assert_eq!(whole.with_fragment(id).as_ref(), Ok(&uri));
    }
    let _ = uri.extension();
    if ALLOWED.permits(&uri).is_err() {
        return;
    }
    match uri.location() {
        Location::File(path) => {
            assert!(path.starts_with("/usr"), "{path:?}");
            let climbs = |part| matches!(part, std::path::Component::ParentDir);
            assert!(!path.components().any(climbs), "{path:?}");
        }
        Location::Bucket { bucket, key, .. } => {
            assert!(bucket == "uploads" || (bucket == "docs" && key.starts_with("public/")));
            assert!(!key.split('/').any(|segment| segment == ".."), "{key:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_object_names() {
        millrace_fuzz::replay("object_uri", super::object_uri);
    }
}
