//! Where the bytes of a corpus come from.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use millrace_objects::{ObjectStores, ObjectStream, ObjectUri};
use tokio::runtime::Handle;

use super::CorpusProgress;

const BUFFER_BYTES: usize = 1 << 16;

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
    pub reader: Box<dyn BufRead + Send>,
    pub progress: CorpusProgress,
    /// When a bucket's object was last modified, in milliseconds since 1970.
    pub modified_ms: Option<i64>,
}

impl Source<'_> {
    pub fn open(&self, is_gzip: bool) -> io::Result<Opened> {
        let mut modified_ms = None;
        let (inner, total_bytes): (Box<dyn Read + Send>, u64) = match self {
            Self::File(path) => {
                let file = File::open(path)?;
                let total_bytes = file.metadata()?.len();
                (Box::new(file), total_bytes)
            }
            Self::Object {
                stores,
                uri,
                runtime,
            } => {
                let stream = runtime
                    .block_on(stores.stream(uri))
                    .map_err(io::Error::other)?;
                let total_bytes = stream.meta().size_bytes;
                modified_ms = stream.meta().last_modified_ms;
                let object = Object {
                    stream,
                    part: Bytes::new(),
                    runtime: Handle::clone(runtime),
                };
                (Box::new(object), total_bytes)
            }
        };
        let progress = CorpusProgress {
            read: Arc::default(),
            total_bytes,
        };
        let counted = Counted {
            inner,
            read: Arc::clone(&progress.read),
        };
        let counted = BufReader::with_capacity(BUFFER_BYTES, counted);
        let reader: Box<dyn BufRead + Send> = if is_gzip {
            let plain = MultiGzDecoder::new(counted);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, plain))
        } else {
            Box::new(counted)
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

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
