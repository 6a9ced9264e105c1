//! Lines of JSON on standard output. What a reader has taken can't be taken back, so it has no position.

use std::io::{ErrorKind, Write};

use millrace_kafka::Record;

use super::{Written, lines, size};

/// Writes to standard output.
#[derive(Default)]
pub struct StdoutSink {
    buffer: Vec<u8>,
}

impl StdoutSink {
    /// Writes records as lines.
    ///
    /// # Errors
    /// Standard output can't be written to. A reader that went away (`| head`) is none.
    pub fn write(&mut self, records: &[Record]) -> anyhow::Result<Written> {
        self.buffer.clear();
        lines(records, &mut self.buffer)?;
        match std::io::stdout().write_all(&self.buffer) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written {
                is_enough: true,
                ..Written::default()
            }),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Written {
                records: records.len() as u64,
                bytes: size(records),
                ..Written::default()
            }),
        }
    }

    /// Gives the reader what is buffered.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn flush(&mut self) -> anyhow::Result<()> {
        match std::io::stdout().flush() {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}
