//! What fuzzing asks of behavior. Compiled for fuzzing and for the tests that replay the corpora.

use std::io::Cursor;
use std::path::PathBuf;

use millrace_schemas::{BehaviorEvent, DocId, Framing, decode, encode};

use super::collector::split;
use super::file::{BehaviorFile, FileRow};
use super::{BehaviorConfig, Dialect, MAX_ID_BYTES, MAX_RANKING_ITEMS, RowReader, Told};
use crate::rows::ReadProgress;

/// A day after the rows of the corpora.
const NOW_MS: i64 = 1_700_086_400_000;
const MAX_ROWS: usize = 1_000;
const DIALECTS: [Option<Dialect>; 5] = [
    None,
    Some(Dialect::Own),
    Some(Dialect::Airec),
    Some(Dialect::Metarank),
    Some(Dialect::Ubi),
];

/// Any body of `POST /v1/events`: its rows are all that it holds, and what one makes, in whatever dialect
/// it is read, can be published and sent again.
pub fn behavior_body(body: &[u8]) {
    let Some(rows) = split(body, MAX_ROWS) else {
        return;
    };
    nothing_is_between(body, &rows);
    let reader = reader();
    for row in rows {
        for dialect in DIALECTS {
            let told = reader.clone().of_dialect(dialect).read_json(row, NOW_MS);
            if let Ok(told) = told {
                is_sound(&told, &reader);
            }
        }
    }
}

/// Any file, gzip by its first bytes, JSON lines or CSV by what follows: reading ends, rows stand in its
/// order, what they make can be published and sent again, and a second reading tells the same.
pub fn behavior_file(file: &[u8]) {
    let reader = reader().of_any_age();
    let (rows, again) = (rows_of(file, &reader), rows_of(file, &reader));
    assert_eq!(rows.len(), again.len());
    let mut last = 0;
    for (row, again) in rows.iter().zip(&again) {
        assert!(row.number > last, "row {} after row {last}", row.number);
        last = row.number;
        match (&row.told, &again.told) {
            (Ok(told), Ok(again)) => {
                assert_eq!(told, again);
                is_sound(told, &reader);
            }
            (Err(rejection), Err(again)) => {
                assert_eq!(
                    (rejection.error_type, &rejection.raw),
                    (again.error_type, &again.raw)
                );
                assert_eq!(rejection.row, Some(row.number));
            }
            (told, again) => panic!("{told:?} at first, then {again:?}"),
        }
    }
}

fn reader() -> RowReader {
    let config = BehaviorConfig {
        item_uri: Some("file:///data/items.jsonl.gz#{item}".to_owned()),
        ..BehaviorConfig::default()
    };
    match RowReader::new(&config) {
        Ok(reader) => reader,
        Err(error) => panic!("{error}"),
    }
}

/// The rows up to where the file can be read no further.
fn rows_of(file: &[u8], reader: &RowReader) -> Vec<FileRow> {
    let source = Box::new(Cursor::new(file.to_vec()));
    let name = PathBuf::from("input");
    let progress = ReadProgress::default();
    let mut rows = vec![];
    if let Ok(mut file) = BehaviorFile::over(source, progress, name, "input".to_owned(), None) {
        while let Ok(Some(row)) = file.next_row(reader) {
            rows.push(row);
        }
    }
    rows
}

/// Without its rows, in their order, a body is white space and an array's marks.
fn nothing_is_between(body: &[u8], rows: &[&[u8]]) {
    let is_mark = |byte: &u8| byte.is_ascii_whitespace() || b"[],".contains(byte);
    let mut rest = body;
    for row in rows {
        rest = loop {
            if let Some(after) = rest.strip_prefix(*row) {
                break after;
            }
            match rest.split_first() {
                Some((byte, after)) if is_mark(byte) => rest = after,
                _ => panic!("a row is not of the body, or something before it was lost"),
            }
        };
    }
    assert!(rest.iter().all(is_mark), "the end of the body was lost");
}

fn is_sound(told: &Told, reader: &RowReader) {
    let Told::Events(events) = told else {
        return;
    };
    assert!((1..=MAX_RANKING_ITEMS).contains(&events.len()));
    for event in events {
        fits_its_schema(event);
        // What stands on the topic can be sent again, and is the same event.
        let Ok(sent) = serde_json::to_vec(event) else {
            panic!("an event cannot be written: {event:?}");
        };
        let expected = BehaviorEvent {
            source: Dialect::Own.as_str().to_owned(),
            ..event.clone()
        };
        match reader.read_json(&sent, NOW_MS.max(event.event_time_ms)) {
            Ok(Told::Events(again)) => assert_eq!(again, [expected]),
            other => panic!("{other:?} is read of {event:?}"),
        }
    }
}

fn fits_its_schema(event: &BehaviorEvent) {
    assert!(DocId::parse(&event.item_id).is_some());
    for id in [&event.event_id, &event.user_id, &event.item] {
        assert!(!id.trim().is_empty() && id.len() <= MAX_ID_BYTES);
        assert!(!id.contains(char::is_control));
    }
    assert!(event.value.is_none_or(f64::is_finite));
    assert!(event.position.is_none_or(|position| position >= 1));
    let Ok(value) = encode(event, &Framing::SingleObject) else {
        panic!("an event cannot be published: {event:?}");
    };
    assert_eq!(decode::<BehaviorEvent>(&value).ok().as_ref(), Some(event));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_bodies() {
        millrace_fuzz::replay("behavior_body", super::behavior_body);
    }

    #[test]
    fn the_corpus_of_files() {
        millrace_fuzz::replay("behavior_file", super::behavior_file);
    }
}
