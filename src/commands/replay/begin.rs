//! Where a replay begins: anew, or where it was.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use millrace_kafka::replay::{Captured, ReplayGroup, ReplayNote, Span, capture, is_replay_name};
use millrace_kafka::{Admin, KafkaConfig};

use super::Args;
use super::identity::{arguments, default_name, differences};
use super::target::Target;
use crate::audit::Arguments;
use crate::cli::UsageError;

/// A replay that is begun, or gone on with.
pub struct Begun {
    /// Absent where it can't be gone on with.
    pub name: Option<String>,
    group: Option<ReplayGroup>,
    /// What is kept of it.
    pub note: ReplayNote,
    /// How far it is, by partition.
    pub spans: BTreeMap<i32, Span>,
    /// Offsets that were wanted and are gone, by partition.
    pub gone: BTreeMap<i32, u64>,
    /// Whether an earlier run of it committed.
    pub resumed: bool,
}

/// How far a replay was at a moment.
pub struct Position {
    note: ReplayNote,
    spans: BTreeMap<i32, Span>,
}

impl Begun {
    /// Reads where the replay was, or which offsets are there. Changes nothing.
    ///
    /// # Errors
    /// It was begun with other arguments, or what it wants is gone or never was.
    pub async fn new(
        args: &Args,
        topic: &str,
        target: &Target,
        kafka: &KafkaConfig,
        admin: &Admin,
    ) -> anyhow::Result<Self> {
        let arguments = arguments(topic, &args.filter, target);
        let (name, group) = kept(args, topic, target, kafka, &arguments)?.unzip();
        let known = match &group {
            Some(group) if !args.restart => group.load().await?,
            Some(_) | None => None,
        };
        let resumed = known.is_some();
        let (note, spans, gone) = match known {
            Some((note, spans)) => {
                if let Some(differing) = differences(&note.arguments, &arguments) {
                    let name = name.unwrap_or_default();
                    let refusal = format!(
                        "the replay {name} was begun with other arguments ({differing}); --restart forgets where it was, \
                         another --name begins another one"
                    );
                    return Err(UsageError(refusal).into());
                }
                let gone = lost(admin, topic, &spans).await?;
                (note, spans, gone)
            }
            None => {
                let Captured { spans, gone } = capture(admin, topic, &args.filter.wanted()).await?;
                let note = ReplayNote {
                    from_ms: args.filter.since_ms(),
                    to_ms: args.filter.before_ms(),
                    arguments,
                    ..ReplayNote::default()
                };
                (note, spans, gone)
            }
        };
        let begun = Self {
            name,
            group,
            note,
            spans,
            gone,
            resumed,
        };
        if !begun.gone.is_empty() && !args.accept_loss {
            bail!(
                "{}; --accept-loss goes on with what is left",
                gone_text(topic, &begun.gone, &begun.spans, begun.resumed)
            );
        }
        Ok(begun)
    }

    /// One that can't be gone on with, of these offsets.
    #[cfg(test)]
    pub fn of_spans(spans: BTreeMap<i32, Span>) -> Self {
        Self {
            name: None,
            group: None,
            note: ReplayNote::default(),
            spans,
            gone: BTreeMap::new(),
            resumed: false,
        }
    }

    /// How far it is now.
    pub fn position(&self) -> Position {
        Position {
            note: self.note.clone(),
            spans: self.spans.clone(),
        }
    }

    /// Commits that it was so far, once all that was written before stays; `file_bytes` of a file.
    ///
    /// # Errors
    /// The brokers don't take it.
    pub async fn commit(
        &self,
        mut position: Position,
        file_bytes: Option<u64>,
    ) -> anyhow::Result<()> {
        position.note.file_bytes = file_bytes;
        if let Some(group) = &self.group {
            group.save(&position.note, &position.spans).await?;
        }
        Ok(())
    }

    /// Forgets how far it is: it is done.
    ///
    /// # Errors
    /// The brokers don't.
    pub async fn forget(&self) -> anyhow::Result<()> {
        if let Some(group) = &self.group {
            group.forget().await?;
        }
        Ok(())
    }

    /// Offsets that it has passed.
    pub fn passed(&self) -> u64 {
        let passed = self.spans.values().map(|span| span.total() - span.left());
        passed.sum()
    }

    /// Offsets that it means.
    pub fn total(&self) -> u64 {
        self.spans.values().map(Span::total).sum()
    }

    /// Offsets that it has not come to.
    pub fn left(&self) -> u64 {
        self.spans.values().map(Span::left).sum()
    }
}

/// What a replay is gone on with by, and where how far it is is kept; nothing where it can't be.
///
/// # Errors
/// The name can't be one.
pub fn kept(
    args: &Args,
    topic: &str,
    target: &Target,
    kafka: &KafkaConfig,
    arguments: &Arguments,
) -> anyhow::Result<Option<(String, ReplayGroup)>> {
    if let Target::Stdout = target {
        if args.name.is_some() || args.restart {
            let refusal = "what went to standard output can't be gone on with: it has no --name";
            return Err(UsageError(refusal.to_owned()).into());
        }
        return Ok(None);
    }
    let default = || default_name(topic, arguments);
    let name = args.name.clone().unwrap_or_else(default);
    if !is_replay_name(&name) {
        let refusal = format!(
            "{name:?} can't be the name of a replay: at most 100 letters, digits, `.`, `_` and `-`"
        );
        return Err(UsageError(refusal).into());
    }
    let group = ReplayGroup::new(kafka, topic, &name)?;
    Ok(Some((name, group)))
}

/// What retention took of a replay that was stopped for long, by partition.
async fn lost(
    admin: &Admin,
    topic: &str,
    spans: &BTreeMap<i32, Span>,
) -> anyhow::Result<BTreeMap<i32, u64>> {
    let there = admin.partitions(topic).await?;
    let mut lost = BTreeMap::new();
    for (&partition, span) in spans {
        ensure!(
            there.contains(&partition),
            "{topic} had a partition {partition} when this replay was begun: it was made anew; --restart forgets where it was"
        );
        let (oldest, end) = admin.watermarks(topic, partition).await?;
        ensure!(
            end >= span.end,
            "partition {partition} of {topic} ended at {} when this replay was begun and ends at {end} now: it was made \
             anew; --restart forgets where it was",
            span.end
        );
        let gone = u64::try_from(oldest.min(span.end) - span.next).unwrap_or(0);
        if gone > 0 {
            lost.insert(partition, gone);
        }
    }
    Ok(lost)
}

/// What is gone, and where what is left begins.
pub fn gone_text(
    topic: &str,
    gone: &BTreeMap<i32, u64>,
    spans: &BTreeMap<i32, Span>,
    resumed: bool,
) -> String {
    let total: u64 = gone.values().sum();
    let begins = gone.iter().map(|(partition, gone)| {
        let span = spans.get(partition).copied().unwrap_or_default();
        // A replay that goes on has lost what came next; one that begins does so behind what is gone.
        let first = if resumed {
            span.next.saturating_add_unsigned(*gone)
        } else {
            span.start
        };
        format!("partition {partition} begins at {first}, and lacks {gone}")
    });
    let begins: Vec<String> = begins.collect();
    format!(
        "{total} offsets of {topic} are gone by retention: {}",
        begins.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_with_where_it_begins() {
        let span = |start, next| Span {
            start,
            next,
            end: 100,
        };
        let gone = BTreeMap::from([(0, 6), (2, 3)]);
        let spans = BTreeMap::from([(0, span(10, 10)), (1, span(0, 0)), (2, span(5, 20))]);
        let told = |resumed| gone_text("t", &gone, &spans, resumed);
        let begins = "9 offsets of t are gone by retention: partition 0 begins at";
        assert_eq!(
            told(false),
            format!("{begins} 10, and lacks 6; partition 2 begins at 5, and lacks 3")
        );
        assert_eq!(
            told(true),
            format!("{begins} 16, and lacks 6; partition 2 begins at 23, and lacks 3")
        );
    }
}
