//! Values as states hold them.

use millrace_state::Table;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value of the state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a value of the table {table} cannot be read")]
pub struct BrokenValue {
    /// Its table.
    pub table: Table,
    /// What is wrong with it.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Reads what [`write()`] wrote to this table.
///
/// # Errors
/// Another type or version wrote it.
pub fn read<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, BrokenValue> {
    postcard::from_bytes(value).map_err(|source| BrokenValue {
        table,
        source: source.into(),
    })
}

/// The value's bytes: postcard, without names.
#[must_use]
pub fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value)
        .unwrap_or_else(|_| unreachable!("these types are encodable, and memory grows as needed"))
}
