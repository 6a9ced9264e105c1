//! For the tests of stateful consumers: brokers and a store to test against, and processes to kill.

mod child;
mod place;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use millrace_kafka::{Producer, RawRecord};

pub use child::{Child, member, of_parent};
pub use place::Place;

/// One test a scenario and target: `embedded::` on the embedded broker and a folder, `real::` on the
/// real Kafka and Redis. Scenarios are functions of a [`Place`], in modules of the calling crate's root:
/// `on_both_targets! { rebuilding: [a_scenario, another] }`.
#[allow(
    clippy::crate_in_macro_def,
    reason = "the scenarios are the calling crate's"
)]
#[macro_export]
macro_rules! on_both_targets {
    ($($module:ident: [$($scenario:ident),+ $(,)?]),+ $(,)?) => {
        mod embedded {
            $(mod $module {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::$module::$scenario(&$crate::testing::Place::embedded()?).await
                }
            )+})+
        }
        mod real {
            $(mod $module {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    crate::$module::$scenario(&$crate::testing::Place::real()?).await
                }
            )+})+
        }
    };
}

/// How long anything may take: generous, since the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until the answer is yes.
///
/// # Errors
/// It was not within [`DEADLINE`], or asking failed.
pub async fn until(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !ask().await? {
        if Instant::now() > deadline {
            bail!("{what}: not in time");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Publishes any bytes.
///
/// # Errors
/// The brokers do not take them.
pub async fn publish_raw(
    producer: &Producer,
    topic: &str,
    key: &str,
    value: Option<Vec<u8>>,
) -> Result<()> {
    let record = RawRecord {
        topic: producer.config().topic(topic),
        key: Some(key.as_bytes().to_vec().into()),
        value: value.map(Into::into),
        ..RawRecord::default()
    };
    producer.send_raw(record).await?;
    Ok(())
}

/// The clock, ms since 1970.
///
/// # Errors
/// It is before that.
pub fn now_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    i64::try_from(since.as_millis()).context("a clock of this age")
}
