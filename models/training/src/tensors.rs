//! Numbers to and from safetensors files, written whole or not at all.
//!
//! The crate's own writer goes through a temporary file of a random name, which a kill would leave
//! behind, one a kill; ours has one name and is written over.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::durable::replace;

/// A tensor to be written.
pub(crate) struct TensorOut<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub content: Content<'a>,
}

/// Its values.
pub(crate) enum Content<'a> {
    Floats(&'a [f32]),
    Stored(Dtype, &'a [u8]),
}

impl Content<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Floats(values) => size_of_val(*values),
            Self::Stored(_, bytes) => bytes.len(),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::Floats(_) => Dtype::F32,
            Self::Stored(dtype, _) => *dtype,
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Floats(values) => {
                for value in *values {
                    out.write_all(&value.to_le_bytes())?;
                }
                Ok(())
            }
            Self::Stored(_, bytes) => out.write_all(bytes),
        }
    }
}

/// The numbers in the bytes of a tensor of 32-bit floats.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    let floats = bytes.as_chunks::<4>().0.iter();
    floats.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Writes a safetensors file beside `path`, has it on the disk, and puts it in its place by one rename.
pub(crate) fn write(
    path: &Path,
    tensors: &[TensorOut<'_>],
    metadata: &BTreeMap<&str, String>,
) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.content.bytes();
        let place = json!({
            "dtype": tensor.content.dtype(),
            "shape": tensor.shape,
            "data_offsets": [start, end],
        });
        header.insert(tensor.name.clone(), place);
    }
    let mut header = Value::Object(header).to_string();
    // The values begin at a multiple of eight.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    replace(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        tensors
            .iter()
            .try_for_each(|tensor| tensor.content.write(out))
    })
}
