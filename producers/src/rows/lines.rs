//! Lines of bounded memory.

use std::io::{self, BufRead};

/// A line without its end.
pub(crate) struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// The line, or as much of it as may be held.
    pub bytes: &'a [u8],
    /// Its whole length.
    pub length: u64,
}

pub(crate) struct Lines<R> {
    reader: R,
    max_line_bytes: usize,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Of a longer line than `max_line_bytes` that much is held.
    pub(crate) fn new(reader: R, max_line_bytes: usize) -> Self {
        Self {
            reader,
            max_line_bytes,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// The next line; of one that is too long the rest is passed over without being kept.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut length = 0u64;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let ended = available.is_empty();
            if ended && length == 0 {
                return Ok(None);
            }
            let newline = available.iter().position(|b| *b == b'\n');
            let part = &available[..newline.unwrap_or(available.len())];
            let room = self.max_line_bytes - self.buffer.len();
            self.buffer.extend_from_slice(&part[..part.len().min(room)]);
            length += part.len() as u64;
            let consumed = newline.map_or(available.len(), |at| at + 1);
            self.reader.consume(consumed);
            if newline.is_some() || ended {
                break;
            }
        }
        self.number += 1;
        let mut bytes = self.buffer.as_slice();
        if length == bytes.len() as u64 {
            if let Some(without) = bytes.strip_suffix(b"\r") {
                bytes = without;
            }
            length = bytes.len() as u64;
        }
        // A byte order mark is no part of the first line.
        if self.number == 1
            && let Some(without) = bytes.strip_prefix(b"\xEF\xBB\xBF")
        {
            bytes = without;
            length -= 3;
        }
        Ok(Some(Line {
            number: self.number,
            bytes,
            length,
        }))
    }
}
