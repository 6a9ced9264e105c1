use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::*;

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
