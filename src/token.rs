//! Secrets that a process makes for itself.

use std::io::Read;

use anyhow::Context;

/// 128 random bits in hex, from the system.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("the system gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
