//! Dead letters, and what is done with them by whoever orders it.
//!
//! Looking joins no group and changes nothing. What changes something goes through one [`Order`]:
//! planned, audited, carried out, reported.

mod filter;
mod letter;
mod order;
mod place;
mod plan;
mod report;
mod summary;
mod work;

use std::ops::ControlFlow;

use futures::{FutureExt, StreamExt, stream};
use millrace_kafka::{
    AdminError, KafkaConfig, LetterScan, ReadFrom, ReaderError, ResolvedLetters, ScannedLetter,
};

pub use self::filter::{Filter, FilterArgs};
pub use self::letter::describe;
pub use self::order::Order;
pub use self::plan::{Act, Plan};
pub use self::report::{Report, told};
pub use self::summary::{Summary, Tally};

/// Topics that are opened at the same time.
const OPENED_AT_ONCE: usize = 4;

/// Hands every letter of the filter's topics that it lets pass to `each`, until that has enough.
///
/// # Errors
/// The topics can't be read, a topic that was named is not there, or `each` fails.
pub async fn visit(
    kafka: &KafkaConfig,
    filter: &Filter,
    resolved: &ResolvedLetters,
    mut each: impl FnMut(ScannedLetter) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    // Opening one is mostly waiting for the brokers; what it reads ahead is memory.
    let open = |source: &&'static str| {
        LetterScan::open(kafka, source, &ReadFrom::Beginning, resolved).boxed()
    };
    let opening: Vec<_> = filter.sources().iter().map(open).collect();
    let mut scans = stream::iter(opening).buffered(OPENED_AT_ONCE);
    while let Some(opened) = scans.next().await {
        let mut scan = match opened {
            // Brokers that were set up by an older version lack the newer topics.
            Err(ReaderError::Admin(AdminError::UnknownTopic { .. })) if !filter.names_topics() => {
                continue;
            }
            opened => opened?,
        };
        while let Some(scanned) = scan.next().await {
            let scanned = scanned?;
            if filter.lets_pass(&scanned.letter) && each(scanned)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
