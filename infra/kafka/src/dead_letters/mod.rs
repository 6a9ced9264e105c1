//! Records that cannot be processed: kept byte for byte on `<topic>.dlq`, with the reason.

mod headers;
mod read;
mod write;

pub use self::read::{DeadLetter, DeadLetterSummary, read_dead_letters, summarize_dead_letters};
pub use self::write::{DeadLetterReason, DeadLetters};
