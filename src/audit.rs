//! What operators have done, on the topic `audit`: that it is begun before anything changes, and how it
//! ended before that is reported.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use millrace_kafka::Producer;
use millrace_schemas::{AuditEvent, AuditPhase, EventHeaders};

const SOURCE: &str = "millrace/operator";
/// Longer arguments and messages are cut here, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// What was asked for, by name.
pub type Arguments = BTreeMap<String, String>;
/// What was done, by name.
pub type Counts = BTreeMap<String, i64>;

/// Numbers the actions of this process.
static NEXT_ACTION: AtomicU64 = AtomicU64::new(1);

/// An action that is begun. Without [`done`](Self::done) or [`failed`](Self::failed) it was cut off.
#[must_use = "an action that is begun ends in some way"]
pub struct Audit {
    producer: Producer,
    event: AuditEvent,
}

impl Audit {
    /// Tells that `who` begins `action`, and waits for the acknowledgement.
    ///
    /// # Errors
    /// It can't be written: then nothing may be done.
    pub async fn begin(
        producer: &Producer,
        who: String,
        action: &str,
        arguments: Arguments,
    ) -> anyhow::Result<Self> {
        let who = cut(&who);
        let at_ms = jiff::Timestamp::now().as_millisecond();
        let number = NEXT_ACTION.fetch_add(1, Ordering::Relaxed);
        let event = AuditEvent {
            id: format!("{who}/{at_ms}/{}/{number}", std::process::id()),
            action: action.to_owned(),
            phase: AuditPhase::Begun,
            who,
            at_ms,
            arguments: arguments
                .into_iter()
                .map(|(name, value)| (name, cut(&value)))
                .collect(),
            counts: Counts::new(),
            message: None,
        };
        let audit = Self {
            producer: producer.clone(),
            event,
        };
        audit.publish().await.with_context(|| {
            format!("{action} was not begun: it can't be written to the topic audit")
        })?;
        Ok(audit)
    }

    /// Tells that it was done.
    ///
    /// # Errors
    /// It can't be written; the action is done all the same.
    pub async fn done(self, counts: Counts) -> anyhow::Result<()> {
        self.end(AuditPhase::Done, counts, None).await
    }

    /// Tells that it was not done, or not whole, and why.
    ///
    /// # Errors
    /// It can't be written.
    pub async fn failed(self, counts: Counts, why: &str) -> anyhow::Result<()> {
        self.end(AuditPhase::Failed, counts, Some(cut(why))).await
    }

    async fn end(
        mut self,
        phase: AuditPhase,
        counts: Counts,
        message: Option<String>,
    ) -> anyhow::Result<()> {
        self.event.phase = phase;
        self.event.at_ms = jiff::Timestamp::now().as_millisecond();
        self.event.counts = counts;
        self.event.message = message;
        self.publish().await.with_context(|| {
            let action = &self.event.action;
            format!("{action} is {phase}, but that can't be written to the topic audit")
        })
    }

    async fn publish(&self) -> anyhow::Result<()> {
        let event = &self.event;
        let headers = EventHeaders {
            id: format!("{}/{}", event.id, event.phase),
            source: SOURCE.to_owned(),
            type_: format!("millrace.audit.{}", event.action),
            time_ms: Some(event.at_ms),
            traceparent: None,
        };
        self.producer.send(&event.id, None, event, &headers).await?;
        Ok(())
    }
}

/// What was given of what could be, by name.
pub fn arguments<const N: usize>(given: [(&str, Option<String>); N]) -> Arguments {
    let given = given.into_iter();
    given
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// What was counted, by name.
pub fn counts<const N: usize>(counted: [(&str, u64); N]) -> Counts {
    let count = |(name, count): (&str, u64)| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        (name.to_owned(), count)
    };
    counted.into_iter().map(count).collect()
}

/// Who runs this process, as `user@host`.
pub fn operator() -> String {
    use std::os::unix::fs::MetadataExt;
    let named = ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|name| !name.is_empty())
        .map(|name| name.to_string_lossy().into_owned());
    let user = named.unwrap_or_else(|| {
        std::fs::metadata("/proc/self").map_or_else(
            |_| "unknown".to_owned(),
            |process| format!("uid {}", process.uid()),
        )
    });
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}@{}", host.trim())
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_a_user_and_a_host() {
        let operator = operator();
        let (user, host) = operator.split_once('@').unwrap();
        assert!(!user.is_empty() && !host.is_empty(), "{operator}");
        assert!(!operator.contains('\n'));
    }

    #[test]
    fn arguments_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(
            cut(&format!("a{}", "é".repeat(4_000))).len(),
            MAX_TEXT_BYTES - 1
        );
    }
}
