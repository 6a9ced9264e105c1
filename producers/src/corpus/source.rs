//! Where the bytes of a corpus come from.

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf, Bytes};
use millrace_objects::{ObjectStores, ObjectStream, ObjectUri};
use tokio::runtime::Handle;

use crate::rows::{self, ReadProgress, Reading};

/// A file or an object. It is opened twice: to look at its shape, and to be read.
pub(super) enum Source<'a> {
    File(&'a Path),
    Object {
        stores: &'a ObjectStores,
        uri: &'a ObjectUri,
        /// Drives the requests; the reader itself is on a thread that may block.
        runtime: &'a Handle,
    },
}

/// A source that was opened.
pub(super) struct Opened {
    /// What it holds, decompressed, from its beginning.
    pub reader: Reading,
    pub progress: ReadProgress,
    /// When a bucket's object was last modified, in milliseconds since 1970.
    pub modified_ms: Option<i64>,
}

impl Source<'_> {
    pub fn open(&self, is_gzip: bool) -> io::Result<Opened> {
        let (reader, progress, modified_ms) = match self {
            Self::File(path) => {
                let (reader, progress) = rows::open(path)?;
                (reader, progress, None)
            }
            Self::Object {
                stores,
                uri,
                runtime,
            } => {
                let stream = runtime
                    .block_on(stores.stream(uri))
                    .map_err(io::Error::other)?;
                let progress = ReadProgress::of(stream.meta().size_bytes);
                let modified_ms = stream.meta().last_modified_ms;
                let object = Object {
                    stream,
                    part: Bytes::new(),
                    runtime: Handle::clone(runtime),
                };
                (rows::counted(object, &progress), progress, modified_ms)
            }
        };
        let reader = if is_gzip {
            rows::gunzip(reader)
        } else {
            reader
        };
        Ok(Opened {
            reader,
            progress,
            modified_ms,
        })
    }
}

/// An object's parts for a reader that blocks.
struct Object {
    stream: ObjectStream,
    part: Bytes,
    runtime: Handle,
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Ok(Some(part)) => self.part = part,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let length = self.part.len().min(buffer.len());
        self.part.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
