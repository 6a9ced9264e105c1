//! CSV and TSV: a row becomes a line of `header: value` pairs, so that a value keeps its meaning
//! when the row is embedded away from its header.

use super::{ExtractError, ExtractedText};

/// Reads a table whose first row names the columns; `delimiter` is found in that row where it is
/// not given. Rows may be shorter or longer than the header.
pub(super) fn read(source: &str, delimiter: Option<u8>) -> Result<ExtractedText, ExtractError> {
    let delimiter = delimiter.unwrap_or_else(|| guess_delimiter(source));
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(source.as_bytes());
    let header = reader.headers().map_err(|error| malformed(&error))?.clone();
    let mut text = String::with_capacity(source.len());
    let mut record = csv::StringRecord::new();
    let mut rows = 0_u64;
    while reader
        .read_record(&mut record)
        .map_err(|error| malformed(&error))?
    {
        rows += 1;
        let mut first = true;
        for (column, value) in record.iter().enumerate() {
            if value.trim().is_empty() {
                continue;
            }
            if !first {
                text.push_str("; ");
            }
            first = false;
            if let Some(name) = header.get(column).filter(|name| !name.trim().is_empty()) {
                text.push_str(name.trim());
                text.push_str(": ");
            }
            text.push_str(value.trim());
        }
        text.push('\n');
    }
    if rows == 0 {
        // A single row is not a header of nothing: it is all there is.
        text = header.iter().collect::<Vec<_>>().join("; ");
    }
    Ok(ExtractedText {
        text,
        ..ExtractedText::default()
    })
}

fn guess_delimiter(source: &str) -> u8 {
    let header = source.lines().next().unwrap_or_default().as_bytes();
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    // The first of equals wins: a comma where nothing else is more frequent.
    [b'|', b'\t', b';', b',']
        .into_iter()
        .max_by_key(|delimiter| count(*delimiter))
        .unwrap_or(b',')
}

fn malformed(error: &csv::Error) -> ExtractError {
    let detail = match error.position() {
        Some(position) => format!("line {}", position.line()),
        None => "unreadable row".to_owned(),
    };
    ExtractError::Malformed {
        format: "CSV".to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_column_names() {
        let read = read("name,plot\nHeat,\"A thief, a cop\"\nAlien,\n", None).unwrap();
        assert_eq!(read.text, "name: Heat; plot: A thief, a cop\nname: Alien\n");
    }

    #[test]
    fn the_delimiter_is_found_in_the_header() {
        assert_eq!(
            super::read("a;b\n1;2\n", None).unwrap().text,
            "a: 1; b: 2\n"
        );
        assert_eq!(
            super::read("a\tb\n1\t2\n", None).unwrap().text,
            "a: 1; b: 2\n"
        );
        assert_eq!(
            super::read("only one row", None).unwrap().text,
            "only one row"
        );
    }
}
