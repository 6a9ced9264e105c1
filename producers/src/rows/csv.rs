//! Records of CSV (RFC 4180) of bounded memory.
//!
//! On `csv-core`, since a record of the `csv` crate's reader grows without limit: one quote that is
//! never closed would take the whole file into memory.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader};

const MAX_FIELDS: usize = 1024;

pub(crate) struct CsvRecords<R> {
    reader: R,
    max_record_bytes: usize,
    core: Reader,
    header: Vec<String>,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// The record as it stands in the file.
    raw: Vec<u8>,
    /// Lines that `core` has not counted.
    uncounted_lines: u64,
    /// The last byte read was the CR of a line end.
    after_cr: bool,
}

/// A record, read or not.
pub(crate) struct CsvRecord<'a> {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// Names and values, in the header's order.
    pub fields: Result<CsvFields<'a>, CsvError>,
    /// The record as it stands in the file, or as much of it as may be held.
    pub raw: &'a [u8],
}

/// Why a record has no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// Longer than may be held, or more than 1,024 fields.
    #[error("the record has {bytes} bytes, or too many fields")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// Not as many fields as the header names.
    #[error("the record has {fields} fields and the header {header}")]
    FieldCount {
        /// In the record.
        fields: usize,
        /// In the header.
        header: usize,
    },
    /// Not UTF-8.
    #[error("the record is not UTF-8")]
    NotUtf8,
}

/// The fields of one record.
pub(crate) struct CsvFields<'a> {
    header: &'a [String],
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> CsvFields<'a> {
    /// Names and values, in the header's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (text, mut start) = (self.text, 0);
        self.header.iter().zip(self.ends).map(move |(name, &end)| {
            let value = &text[start..end];
            start = end;
            (name.as_str(), value)
        })
    }

    /// Whether the header has this column.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.header.iter().any(|column| column == name)
    }
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
    /// Reads the header. Of a longer record than `max_record_bytes` that much is held.
    pub(crate) fn new(reader: R, max_record_bytes: usize) -> io::Result<Self> {
        let mut records = Self {
            reader,
            max_record_bytes,
            core: Reader::new(),
            header: vec![],
            fields: vec![0; 1 << 12],
            ends: vec![0; MAX_FIELDS],
            raw: vec![],
            uncounted_lines: 0,
            after_cr: false,
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

    /// The names in the header.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    pub(crate) fn next_record(&mut self) -> io::Result<Option<CsvRecord<'_>>> {
        let Some(filled) = self.fill()? else {
            return Ok(None);
        };
        let ends = &self.ends[..filled.fields];
        let fields = match filled.overflow {
            Some(bytes) => Err(CsvError::TooLong { bytes }),
            None => fields(&self.header, &self.fields[..filled.bytes], ends),
        };
        let ending = self.raw.iter().rev();
        let ending = ending.take_while(|byte| matches!(byte, b'\n' | b'\r'));
        let raw = &self.raw[..self.raw.len() - ending.count()];
        Ok(Some(CsvRecord {
            line: filled.line,
            fields,
            raw,
        }))
    }

    /// Passes over empty lines, and the second half of the CRLF that ended the record before. A line
    /// ends with LF, CRLF, or CR alone.
    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let input = match self.reader.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let ends = input
                .iter()
                .take_while(|byte| matches!(byte, b'\n' | b'\r'));
            let mut passed = 0;
            for byte in ends {
                let is_second_half = self.after_cr && *byte == b'\n';
                self.uncounted_lines += u64::from(!is_second_half);
                self.after_cr = *byte == b'\r';
                passed += 1;
            }
            self.reader.consume(passed);
            if passed == 0 {
                self.after_cr = false;
                return Ok(());
            }
        }
    }

    /// Reads one record into the buffers; of one that is too long the rest is passed over.
    fn fill(&mut self) -> io::Result<Option<Filled>> {
        let (mut bytes, mut fields, mut overflow) = (0, 0, None);
        self.skip_line_ends()?;
        let line = self.core.line() + self.uncounted_lines;
        self.raw.clear();
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
            // `csv-core` gives the record at CR, and counts LF alone.
            self.after_cr = result == ReadRecordResult::Record && input[..read].ends_with(b"\r");
            self.uncounted_lines += u64::from(self.after_cr);
            let room = self.max_record_bytes.saturating_sub(self.raw.len());
            self.raw.extend_from_slice(&input[..read.min(room)]);
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
                    if overflow.is_none() && self.fields.len() < self.max_record_bytes =>
                {
                    self.fields
                        .resize((self.fields.len() * 2).min(self.max_record_bytes), 0);
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

fn fields<'a>(
    header: &'a [String],
    values: &'a [u8],
    ends: &'a [usize],
) -> Result<CsvFields<'a>, CsvError> {
    if ends.len() != header.len() {
        return Err(CsvError::FieldCount {
            fields: ends.len(),
            header: header.len(),
        });
    }
    let text = std::str::from_utf8(values).map_err(|_| CsvError::NotUtf8)?;
    // A field may end within a character only where the text is not UTF-8 field by field.
    if ends.iter().any(|&end| !text.is_char_boundary(end)) {
        return Err(CsvError::NotUtf8);
    }
    Ok(CsvFields { header, text, ends })
}
