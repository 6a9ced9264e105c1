//! What a member writes beside the offsets that it commits: whether it has paused the partition.
//!
//! Only the member knows that, and whoever looks at its group asks the brokers. So slow handlers can be told from
//! a member that is stuck, in whichever process it is.

const PAUSED: &str = "paused";
const FETCHING: &str = "fetching";

/// The note of a partition.
pub(crate) fn write(paused: bool) -> &'static str {
    if paused { PAUSED } else { FETCHING }
}

/// What a note says; nothing where it is not one of ours.
pub(crate) fn read(note: &str) -> Option<bool> {
    match note {
        PAUSED => Some(true),
        FETCHING => Some(false),
        _ => None,
    }
}
