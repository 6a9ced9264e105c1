//! Records that cannot be processed: kept byte for byte on `<topic>.dlq`, with the reason, until an
//! operator replays or discards them, which stands on `dlq.resolved`.

mod headers;
mod history;
mod position;
mod read;
mod resolve;
mod resolved;
mod scan;
mod write;

pub use self::history::ReplayHistory;
pub use self::position::{DeadLetterPosition, WorkedOff};
pub use self::read::{
    DeadLetter, DeadLetterSummary, Unreplayable, read_dead_letters, summarize_dead_letters,
};
pub use self::resolve::{Replayed, ResolveError, Resolver};
pub use self::resolved::{LetterId, Resolved, ResolvedError, ResolvedLetters};
pub use self::scan::{LetterScan, ScannedLetter};
pub use self::write::{DeadLetterReason, DeadLetters};
