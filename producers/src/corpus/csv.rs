//! Records of CSV (RFC 4180) of bounded memory.
//!
//! On `csv-core`, since a record of the `csv` crate's reader grows without limit: one quote that is
//! never closed would take the whole file into memory.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader};

use super::{Document, LineError, MAX_LINE_BYTES};

const MAX_FIELDS: usize = 1024;

pub(super) struct CsvRecords<R> {
    reader: R,
    core: Reader,
    header: Vec<String>,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// Line ends that `core` has not seen.
    skipped_lines: u64,
}

/// A record, read or not.
pub(super) struct CsvRecord<'a> {
    /// The line on which it begins, from 1.
    pub line: u64,
    pub document: Result<Document, LineError>,
    /// Its fields, one after the other.
    pub raw: &'a [u8],
}

/// What the buffers hold after a record.
struct Filled {
    line: u64,
    bytes: usize,
    fields: usize,
    /// Its length where it did not fit.
    overflow: Option<u64>,
}

impl<R: BufRead> CsvRecords<R> {
    /// Reads the header.
    pub(super) fn new(reader: R) -> io::Result<Self> {
        let mut records = Self {
            reader,
            core: Reader::new(),
            header: vec![],
            fields: vec![0; 1 << 12],
            ends: vec![0; MAX_FIELDS],
            skipped_lines: 0,
        };
        if let Some(header) = records.fill()?
            && header.overflow.is_none()
        {
            let text = String::from_utf8_lossy(&records.fields[..header.bytes]).into_owned();
            let mut start = 0;
            for end in &records.ends[..header.fields] {
                let name = text.get(start..*end).unwrap_or_default();
                records
                    .header
                    .push(name.trim_start_matches('\u{FEFF}').trim().to_owned());
                start = *end;
            }
        }
        Ok(records)
    }

    pub(super) fn is_corpus(&self) -> bool {
        let has = |names: &[&str]| self.header.iter().any(|h| names.contains(&h.as_str()));
        has(&["_id", "id"]) && has(&["text", "title"])
    }

    pub(super) fn next_record(&mut self) -> io::Result<Option<CsvRecord<'_>>> {
        let Some(filled) = self.fill()? else {
            return Ok(None);
        };
        let raw = &self.fields[..filled.bytes];
        let document = match filled.overflow {
            Some(bytes) => Err(LineError::TooLong { bytes }),
            None => document(&self.header, raw, &self.ends[..filled.fields]),
        };
        Ok(Some(CsvRecord {
            line: filled.line,
            document,
            raw,
        }))
    }

    /// Passes over empty lines, and the second half of the CRLF that ended the record before: at
    /// CR, `csv-core` gives the record and has not yet counted the line.
    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let input = match self.reader.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let ends = input
                .iter()
                .take_while(|byte| matches!(byte, b'\n' | b'\r'))
                .count();
            let newlines = input[..ends].iter().filter(|byte| **byte == b'\n').count();
            self.skipped_lines += newlines as u64;
            self.reader.consume(ends);
            if ends == 0 {
                return Ok(());
            }
        }
    }

    /// Reads one record into the buffers; of one that is too long the rest is passed over.
    fn fill(&mut self) -> io::Result<Option<Filled>> {
        let (mut bytes, mut fields, mut overflow) = (0, 0, None);
        self.skip_line_ends()?;
        let line = self.core.line() + self.skipped_lines;
        loop {
            let input = match self.reader.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // What does not fit is written over the last bytes, which nobody reads any more.
            let (output, ends) = match overflow {
                Some(_) => (&mut self.fields[..], &mut self.ends[..]),
                None => (&mut self.fields[bytes..], &mut self.ends[fields..]),
            };
            let (result, read, written, ended) = self.core.read_record(input, output, ends);
            self.reader.consume(read);
            match &mut overflow {
                Some(length) => *length += written as u64,
                None => {
                    bytes += written;
                    fields += ended;
                }
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull
                    if overflow.is_none() && self.fields.len() < MAX_LINE_BYTES =>
                {
                    self.fields
                        .resize((self.fields.len() * 2).min(MAX_LINE_BYTES), 0);
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    overflow.get_or_insert(bytes as u64);
                }
                ReadRecordResult::Record => {
                    return Ok(Some(Filled {
                        line,
                        bytes,
                        fields,
                        overflow,
                    }));
                }
                ReadRecordResult::End => return Ok(None),
            }
        }
    }
}

fn document(header: &[String], raw: &[u8], ends: &[usize]) -> Result<Document, LineError> {
    if ends.len() != header.len() {
        return Err(LineError::Shape(
            "has another number of fields than the header",
        ));
    }
    let text = std::str::from_utf8(raw).map_err(|_| LineError::NotUtf8)?;
    let mut document = Document::default();
    let mut metadata = BTreeMap::new();
    let mut start = 0;
    for (name, end) in header.iter().zip(ends) {
        // A field may end within a character only where the text is not UTF-8 field by field.
        let value = text.get(start..*end).ok_or(LineError::NotUtf8)?;
        start = *end;
        match name.as_str() {
            "_id" => document.id = value.to_owned(),
            "id" if document.id.is_empty() && !header.iter().any(|h| h == "_id") => {
                document.id = value.to_owned();
            }
            "title" => document.title = Some(value.to_owned()),
            "text" => document.text = value.to_owned(),
            _ if value.is_empty() => {}
            _ => {
                metadata.insert(name.clone(), value.to_owned());
            }
        }
    }
    if document.id.is_empty() {
        return Err(LineError::Shape("has no id"));
    }
    document.metadata = metadata;
    Ok(document)
}
