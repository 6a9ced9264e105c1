//! What became of an order, for people and programs.

use std::collections::BTreeMap;

use millrace_kafka::ScannedLetter;
use serde::Serialize;

use super::plan::{Act, Plan, TOPIC_GONE};
use crate::audit::{self, Counts};
use crate::output::{bytes, counted, printable};
use crate::refusals::{Refused, keep_first};

/// What was done.
#[derive(Debug, Default, Serialize)]
pub struct Done {
    /// Stopped before the end by a signal.
    pub interrupted: bool,
    /// Records that were published again.
    pub replayed: u64,
    /// Letters whose records an earlier replay had published before it was cut off.
    pub recovered: u64,
    /// Letters that were discarded.
    pub discarded: u64,
    /// Letters whose records their topic did not take; they stay open.
    pub refused: u64,
    /// The first of them.
    pub first_refused: Vec<Refused>,
    /// Topics where records were published that nobody reads now.
    pub unread: Vec<String>,
    /// Letters that were begun with.
    #[serde(skip)]
    pub taken: u64,
}

impl Done {
    /// Counts a letter whose record its topic did not take.
    pub fn refuse(&mut self, scanned: &ScannedLetter, reason: String) {
        self.refused += 1;
        let position = scanned.letter.position.clone();
        keep_first(&mut self.first_refused, [Refused { position, reason }]);
    }

    /// As the topic `audit` has them.
    pub fn counts(&self, plan: &Plan) -> Counts {
        audit::counts([
            ("selected", plan.selected),
            ("bytes", plan.bytes),
            ("capped", plan.capped),
            ("replayed", self.replayed),
            ("recovered", self.recovered),
            ("discarded", self.discarded),
            ("refused", self.refused),
        ])
    }
}

/// An order and what became of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub dry_run: bool,
    #[serde(flatten)]
    pub plan: Plan,
    #[serde(flatten)]
    pub done: Done,
    pub seconds: f64,
    pub letters_per_second: f64,
    #[serde(skip)]
    pub act: Act,
}

impl Report {
    /// Of nothing done yet.
    pub fn new(act: Act, plan: Plan, dry_run: bool) -> Self {
        Self {
            dry_run,
            plan,
            done: Done::default(),
            seconds: 0.0,
            letters_per_second: 0.0,
            act,
        }
    }

    /// The time that it took.
    pub fn took(&mut self, seconds: f64) {
        self.seconds = seconds;
        if seconds > 0.0 {
            self.letters_per_second = (self.done.replayed + self.done.discarded) as f64 / seconds;
        }
    }

    /// The report as a person reads it.
    pub fn text(&self) -> String {
        let Self { plan, done, .. } = self;
        let done_to = match self.act {
            Act::Replay { .. } => "replayed",
            Act::Discard => "discarded",
        };
        let mut lines = Vec::new();
        if self.dry_run {
            let size = bytes(plan.bytes);
            lines.push(format!(
                "{} ({size}) would be {done_to}",
                counted(plan.selected, "dead letter")
            ));
        } else {
            lines.push(format!(
                "{} of {} dead letters {done_to} in {:.1} s · {:.0} a second",
                done.replayed + done.discarded + done.recovered,
                plan.selected,
                self.seconds,
                self.letters_per_second,
            ));
        }
        lines.extend(plan.lines());
        for (count, what) in [
            (
                done.recovered,
                "had been published by a replay that was cut off, and were not published again",
            ),
            (done.refused, "were refused by their topic and stay open"),
            (plan.beyond_max, "are beyond --max and stay open"),
            (
                plan.capped,
                "were replayed often enough and stay open (--max-replays)",
            ),
        ] {
            if count > 0 {
                lines.push(format!("  {count} {what}"));
            }
        }
        for Refused { position, reason } in &done.first_refused {
            lines.push(format!("    {position}: {}", printable(reason)));
        }
        for (reason, count) in &plan.unreplayable {
            lines.push(format!(
                "  {count} can't be replayed and stay open: {}",
                told(reason)
            ));
        }
        if !done.unread.is_empty() {
            lines.push(format!(
                "  nobody reads {} now: what was replayed waits there for `millrace up` or `millrace run`",
                done.unread.join(" and ")
            ));
        }
        if done.interrupted {
            lines.push("  interrupted: the rest is open; run it again".to_owned());
        }
        lines.join("\n")
    }
}

impl Plan {
    fn lines(&self) -> Vec<String> {
        let counts = |counts: &BTreeMap<String, u64>| {
            let counts = counts
                .iter()
                .map(|(name, count)| format!("{} {count}", printable(name)));
            counts.collect::<Vec<_>>().join(", ")
        };
        let mut lines: Vec<String> = self
            .topics
            .iter()
            .map(|topic| {
                let size = bytes(topic.bytes);
                let to = topic.target.as_deref();
                let to = to.map_or_else(String::new, |target| format!(" → {target}"));
                format!("  {}{to}: {} ({size})", topic.topic, topic.selected)
            })
            .collect();
        if self.selected > 0 {
            lines.push(format!("  reasons: {}", counts(&self.by_reason)));
            lines.push(format!("  stages: {}", counts(&self.by_stage)));
        }
        lines
    }

    /// What is asked before it is done.
    pub fn question(&self, act: Act) -> String {
        let topics = |names: Vec<&str>| names.join(", ");
        let from = topics(
            self.topics
                .iter()
                .map(|topic| topic.topic.as_str())
                .collect(),
        );
        let (letters, size) = (counted(self.selected, "dead letter"), bytes(self.bytes));
        match act {
            Act::Replay { .. } => {
                let targets = self
                    .topics
                    .iter()
                    .filter_map(|topic| topic.target.as_deref());
                let to = topics(targets.collect());
                format!("Replay {letters} ({size}) of {from} to {to}?")
            }
            Act::Discard => format!("Discard {letters} ({size}) of {from}?"),
        }
    }
}

/// Why a record can't be published again, for people.
pub fn told(reason: &str) -> &str {
    match reason {
        "no_origin" => "they do not say where they came from",
        "never_on_the_topic" => {
            "they never were records of that topic; publish what they were made of again at its source"
        }
        TOPIC_GONE => "their topic is gone; `millrace topics create` makes it",
        other => other,
    }
}
