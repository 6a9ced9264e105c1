//! Corpora of every kind and defect.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;

fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut file = File::create(&path).unwrap();
    if name.ends_with(".gz") {
        let mut gzip = GzEncoder::new(file, Compression::fast());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap();
    } else {
        file.write_all(content).unwrap();
    }
    (folder, path)
}

fn items(name: &str, content: &[u8]) -> Vec<CorpusItem> {
    let (_folder, path) = file(name, content);
    let corpus = Corpus::open(&path, NOW_MS).unwrap().expect("a corpus");
    corpus.map(Result::unwrap).collect()
}

fn documents(name: &str, content: &[u8]) -> Vec<DocumentNotice> {
    let document = |item| match item {
        CorpusItem::Document(document) => *document,
        CorpusItem::Rejected(line) => panic!("{line:?}"),
    };
    items(name, content).into_iter().map(document).collect()
}

/// `id` of a document, `line: error type` of a rejected line.
fn told(items: &[CorpusItem]) -> Vec<String> {
    let tell = |item: &CorpusItem| match item {
        CorpusItem::Document(d) => d.uri.rsplit_once('#').unwrap().1.to_owned(),
        CorpusItem::Rejected(l) => format!("{}: {}", l.line, l.reason.error_type()),
    };
    items.iter().map(tell).collect()
}

fn text(document: &DocumentNotice) -> &str {
    std::str::from_utf8(document.content.as_ref().unwrap()).unwrap()
}

#[test]
fn beir_lines_become_passages() {
    let lines = "\u{FEFF}{\"_id\":\"a/1 #\",\"title\":\"T\",\"text\":\"füller\",\"metadata\":{\"url\":\"u\",\"lang\":\"x\"},\"lang\":\"de\",\"tags\":[\"a\",\"b, c\"],\"year\":2020,\"none\":null}\r\n\n{\"id\":7,\"text\":\"\",\"title\":\"\"}\n{\"_id\":\"last\",\"text\":\"no newline\"}";
    for name in ["c.jsonl", "c.ndjson", "C.JSONL.GZ", "c.jsonl.gz"].map(str::to_lowercase) {
        let documents = documents(&name, lines.as_bytes());
        assert_eq!(documents.len(), 3, "{name}");
        let first = &documents[0];
        assert!(
            first.uri.starts_with("file:///") && first.uri.ends_with(&format!("/{name}#a/1%20%23")),
            "{}",
            first.uri
        );
        assert_eq!((text(first), first.title.as_deref()), ("füller", Some("T")));
        assert_eq!(first.layout, Layout::Passage);
        assert_eq!(
            (
                first.media_type.as_deref(),
                first.event_time_ms,
                first.source.as_str()
            ),
            (Some("text/plain"), NOW_MS, "corpus")
        );
        assert_eq!(first.size_bytes, Some(7));
        let metadata: Vec<_> = first
            .metadata
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            metadata,
            [
                ("lang", "de"),
                ("tags", "a\nb, c"),
                ("url", "u"),
                ("year", "2020")
            ]
        );
        assert_eq!(
            (text(&documents[1]), documents[1].title.as_deref()),
            ("", None)
        );
        assert_eq!(text(&documents[2]), "no newline");
    }
}

#[test]
fn a_bad_line_is_rejected_with_its_number_and_the_rest_follows() {
    let mut lines = b"{\"_id\":\"1\",\"text\":\"x\"}\n{\"_id\":\"2\",\"text\":\n[1]\n{\"text\":\"no id\"}\n{\"_id\":\"5\"}\n{\"_id\":\"6\",\"text\":6}\n".to_vec();
    lines.extend_from_slice(b"{\"_id\":\"7\",\"text\":\"\xff\"}\n{\"_id\":\"8\",\"text\":\"x\"}\n");
    let items = items("c.jsonl", &lines);
    let expected = [
        "1",
        "2: malformed_line",
        "3: malformed_line",
        "4: malformed_line",
        "5: malformed_line",
        "6: malformed_line",
        "7: malformed_line",
        "8",
    ];
    assert_eq!(told(&items), expected);
    assert!(matches!(&items[2], CorpusItem::Rejected(line) if line.raw == b"[1]"));
}

/// Ten megabytes on one line cost one line, and no more memory than the limit.
#[test]
fn a_line_without_end_is_passed_over() {
    let long = "x".repeat(10 << 20);
    let lines = format!(
        "{{\"_id\":\"1\",\"text\":\"x\"}}\n{{\"_id\":\"2\",\"text\":\"{long}\"}}\n{{\"_id\":\"3\",\"text\":\"{}\"}}\n{{\"_id\":\"4\",\"text\":\"x\"}}\n",
        "y".repeat(2 << 20)
    );
    let items = items("c.jsonl.gz", lines.as_bytes());
    assert_eq!(
        told(&items),
        ["1", "2: line_too_long", "3: text_too_long", "4"]
    );
    let CorpusItem::Rejected(line) = &items[1] else {
        panic!("{:?}", items[1])
    };
    assert_eq!(line.raw.len(), MAX_REJECTED_BYTES);
    assert!(matches!(line.reason, LineError::TooLong { bytes } if bytes > 10 << 20));

    let (_folder, path) = file("c.jsonl", lines.as_bytes());
    let mut lines = Lines::new(BufReader::new(File::open(path).unwrap()), MAX_LINE_BYTES);
    let mut longest = 0;
    while let Some(line) = lines.next_line().unwrap() {
        longest = longest.max(line.bytes.len());
    }
    assert_eq!(longest, MAX_LINE_BYTES);
}

#[test]
fn csv_records_become_passages() {
    let csv = "id,title,text,lang\r\n1,\"A, b\",\"two\nlines \"\"quoted\"\"\",en\r\n2,,ü,\r\n3,x\r\n,t,x,en\r\n5,t,last,en";
    for name in ["c.csv", "c.csv.gz"] {
        let items = items(name, csv.as_bytes());
        assert_eq!(
            told(&items),
            ["1", "2", "5: malformed_line", "6: malformed_line", "5"],
            "{name}"
        );
        let CorpusItem::Document(first) = &items[0] else {
            panic!("{:?}", items[0])
        };
        assert_eq!(
            (text(first), first.title.as_deref()),
            ("two\nlines \"quoted\"", Some("A, b"))
        );
        assert_eq!(first.metadata["lang"], "en");
        let CorpusItem::Document(second) = &items[1] else {
            panic!("{:?}", items[1])
        };
        assert_eq!(
            (text(second), second.title.as_deref(), second.metadata.len()),
            ("ü", None, 0)
        );
    }
}

#[test]
fn a_line_of_csv_ends_with_lf_crlf_or_cr() {
    let items = items("c.csv", b"id,text\r1,x\r2\r\r3,x\r\n4\n5,y");
    assert_eq!(
        told(&items),
        ["1", "3: malformed_line", "3", "6: malformed_line", "5"]
    );
}

#[test]
fn a_csv_record_without_end_is_passed_over() {
    let csv = format!(
        "_id,text\n1,x\n2,\"{}\"\n3,x\n4,\"never closed\n5,x\n",
        "y\n".repeat(5 << 20)
    );
    let items = items("c.csv", csv.as_bytes());
    let told = told(&items);
    assert_eq!(told[..3], ["1", "3: line_too_long", "3"], "{told:?}");
    // What follows an open quote belongs to its field.
    assert_eq!(told[3..], ["4"]);
    let many = format!("_id,text\n1{}\n2,x\n", ",".repeat(5000));
    assert_eq!(
        self::told(&self::items("c.csv", many.as_bytes())),
        ["2: line_too_long", "2"]
    );
}

#[test]
fn ranklens_items_become_passages() {
    let lines = r#"{"event":"ranking","items":[],"id":"r"}
{"event":"item","fields":[{"name":"title","value":"Grumpier Old Men"},{"name":"vote_avg","value":6.5},{"name":"release_date","value":8.195904E8},{"name":"genres","value":["romance","comedy"]},{"name":"tags","value":["fishing","old"]},{"name":"actors","value":["daryl hannah"]},{"name":"description","value":"A family wedding."}],"id":"x","item":"3","timestamp":"1636907100000"}
{"event":"interaction","item":"3","id":"i"}
{"event":"item","fields":[],"id":"y","item":"4","timestamp":"1636907100000"}
"#;
    let items = items("events.jsonl.gz", lines.as_bytes());
    assert_eq!(told(&items), ["3", "4: malformed_line"]);
    let CorpusItem::Document(film) = &items[0] else {
        panic!("{:?}", items[0])
    };
    assert_eq!(
        text(film),
        "A family wedding.\nGenres: romance, comedy\nTags: fishing, old"
    );
    assert_eq!(film.title.as_deref(), Some("Grumpier Old Men"));
    assert_eq!(film.metadata["categories"], "romance\ncomedy");
    assert_eq!(film.metadata["tags"], "fishing\nold");
    assert_eq!(film.metadata["published_at_ms"], "819590400000");
    assert_eq!(film.metadata["vote_avg"], "6.5");
}

#[test]
fn other_files_are_no_corpora() {
    for (name, content) in [
        ("a.txt", "{\"_id\":\"1\",\"text\":\"x\"}\n"),
        ("a.jsonl", "{\"message\":\"a log line\"}\n"),
        ("a.jsonl", "not json\n"),
        ("a.jsonl", ""),
        ("a.csv", "name,age\nx,1\n"),
        ("a.csv", ""),
        ("a.gz", "x"),
        ("jsonl", "x"),
    ] {
        let (_folder, path) = file(name, content.as_bytes());
        assert!(
            Corpus::open(&path, NOW_MS).unwrap().is_none(),
            "{name} {content}"
        );
    }
}

#[test]
fn a_cut_gzip_gives_what_it_has_and_an_error() {
    let lines: String = (0..20_000)
        .map(|n| format!("{{\"_id\":\"{n}\",\"text\":\"{}\"}}\n", n * 7919 % 104_729))
        .collect();
    let (_folder, path) = file("c.jsonl.gz", lines.as_bytes());
    let size = std::fs::metadata(&path).unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(size / 2)
        .unwrap();
    let items: Vec<_> = Corpus::open(&path, NOW_MS)
        .unwrap()
        .expect("a corpus")
        .collect();
    assert!(
        items.len() > 1000 && items.len() < 20_000,
        "{}",
        items.len()
    );
    let (last, all_but_last) = items.split_last().unwrap();
    assert!(all_but_last.iter().all(Result::is_ok));
    let error = last.as_ref().unwrap_err();
    assert!(error.to_string().contains("c.jsonl.gz"), "{error}");
}

#[test]
fn progress_ends_at_the_size_of_the_file() {
    let lines: String = (0..5000)
        .map(|n| format!("{{\"_id\":\"{n}\",\"text\":\"text\"}}\n"))
        .collect();
    let (_folder, path) = file("c.jsonl.gz", lines.as_bytes());
    let corpus = Corpus::open(&path, NOW_MS).unwrap().expect("a corpus");
    let progress = corpus.progress();
    assert_eq!(corpus.count(), 5000);
    assert_eq!(progress.read_bytes(), progress.total_bytes);
}
