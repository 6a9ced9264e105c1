//! What flows now: looks at topics and groups, shared by all who watch.
//!
//! Nobody is looked for where nobody watches: a look is taken when it is asked for and the last one is
//! old. [`stages`] names the steps, [`drawing`] draws them.

pub mod drawing;
pub mod stages;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Json;
use axum::extract::State;
use millrace_kafka::{Admin, KafkaConfig};
use millrace_retry::error_chain;
use serde::Serialize;

use self::stages::{STAGES, Stage};
use super::Console;
use super::layout::{grouped, rate};
use crate::config::Config;
use crate::lag::{Groups, Report, Watching};

/// A look that is younger is shown to the next one who asks.
const FRESH: Duration = Duration::from_millis(900);
/// How far the looks are apart that a rate comes from.
const WINDOW: Duration = Duration::from_secs(10);
/// Looks that are further back say nothing of now.
const FORGET: Duration = Duration::from_secs(60);
/// Longest wait for the brokers before a page is shown without new figures.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at topics and groups.
pub struct Flow(tokio::sync::Mutex<Looker>);

struct Looker {
    admin: Admin,
    watching: Watching,
    kafka: KafkaConfig,
    index: String,
    /// Ends of all topics, by full name, the oldest look first.
    ends: VecDeque<(Instant, BTreeMap<String, Records>)>,
    last: Option<(Instant, Arc<Seen>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Records {
    /// Between both ends of all partitions.
    held: i64,
    /// The sum of the next offsets.
    next: i64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By name as it is declared.
    pub topics: BTreeMap<String, TopicFigures>,
    /// By the stage's name.
    pub stages: BTreeMap<&'static str, StageFigures>,
    /// Why nothing newer was seen.
    pub problem: Option<String>,
}

/// A topic in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TopicFigures {
    /// Records between the ends; compaction leaves fewer.
    pub records: i64,
    /// Records a second that are published; absent after one look.
    pub per_second: Option<f64>,
}

/// A stage's groups in figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageFigures {
    /// Records that it has not read.
    pub lag: i64,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: f64,
    /// Records a second that it reads.
    pub per_second: f64,
    /// Members of its groups.
    pub members: usize,
    /// `OK`, `WARN` or `ERR`, by the worst of its partitions.
    pub status: &'static str,
}

impl Flow {
    /// Of these brokers; nothing is looked at yet.
    ///
    /// # Errors
    /// The brokers' settings can't be used.
    pub fn new(config: &Config, kafka: &KafkaConfig) -> anyhow::Result<Self> {
        let groups = Groups::Prefixed(kafka.topic_prefix.clone());
        Ok(Self(tokio::sync::Mutex::new(Looker {
            admin: Admin::connect(kafka)?,
            watching: Watching::new(groups, config, kafka)?,
            kafka: kafka.clone(),
            index: config.index.name.clone(),
            ends: VecDeque::new(),
            last: None,
        })))
    }

    /// What flows now. Where the brokers do not answer it is what was seen last, and says so.
    pub async fn look(&self) -> Arc<Seen> {
        let mut looker = self.0.lock().await;
        if let Some((at, seen)) = &looker.last
            && at.elapsed() < FRESH
        {
            return Arc::clone(seen);
        }
        let looked = tokio::time::timeout(PATIENCE, looker.look()).await;
        let looked = looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the brokers do not answer")));
        let seen = Arc::new(looked.unwrap_or_else(|error| {
            let last = looker.last.as_ref().map(|(_, seen)| Seen::clone(seen));
            Seen {
                problem: Some(format!(
                    "The figures are old: {}.",
                    error_chain(error.as_ref())
                )),
                ..last.unwrap_or_default()
            }
        }));
        looker.last = Some((Instant::now(), Arc::clone(&seen)));
        seen
    }
}

impl Flow {
    /// All groups and their partitions.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub async fn groups(&self) -> anyhow::Result<Report> {
        let mut looker = self.0.lock().await;
        let looked = tokio::time::timeout(PATIENCE, looker.watching.look()).await;
        looked.context("the brokers do not answer")?
    }
}

impl Looker {
    async fn look(&mut self) -> anyhow::Result<Seen> {
        let ends = self.admin.all_ends().await?;
        let report = self.watching.look().await.context("groups")?;
        let now = Instant::now();
        let records: BTreeMap<String, Records> = ends
            .into_iter()
            .map(|(topic, partitions)| {
                let mut records = Records::default();
                for ends in partitions.values() {
                    records.held += ends.next - ends.oldest;
                    records.next += ends.next;
                }
                (topic, records)
            })
            .collect();
        self.ends.retain(|(at, _)| now - *at < FORGET);
        // The youngest look that is a window back, or else the oldest there is.
        while self.ends.len() > 1 && now - self.ends[1].0 >= WINDOW {
            self.ends.pop_front();
        }
        let before = self.ends.front();
        let topics = records.iter().map(|(topic, records)| {
            let per_second = before.and_then(|(at, topics)| {
                let more = records.next - topics.get(topic)?.next;
                let seconds = (now - *at).as_secs_f64();
                (seconds > 0.0).then(|| more.max(0) as f64 / seconds)
            });
            let name = topic.strip_prefix(&self.kafka.topic_prefix);
            let figures = TopicFigures {
                records: records.held,
                per_second,
            };
            (name.unwrap_or(topic).to_owned(), figures)
        });
        let seen = Seen {
            topics: topics.collect(),
            stages: self.stages(&report),
            problem: None,
        };
        self.ends.push_back((now, records));
        Ok(seen)
    }

    fn stages(&self, report: &Report) -> BTreeMap<&'static str, StageFigures> {
        let of = |stage: &'static Stage| {
            let is_its = |group: &str| stage.is_group(group, &self.kafka, &self.index);
            let mut groups = report
                .groups
                .iter()
                .filter(|group| is_its(&group.group))
                .peekable();
            groups.peek()?;
            let per_second = report.partitions.iter().filter(|it| is_its(&it.group));
            let mut figures = StageFigures {
                lag: 0,
                lag_seconds: 0.0,
                per_second: per_second.map(|it| it.rate_per_second).sum(),
                members: 0,
                status: "OK",
            };
            for group in groups {
                figures.lag += group.lag;
                figures.lag_seconds = figures.lag_seconds.max(group.lag_seconds);
                figures.members += group.members;
                figures.status = match (figures.status, group.status) {
                    ("ERR", _) | (_, "ERR") => "ERR",
                    ("WARN", _) | (_, "WARN") => "WARN",
                    _ => "OK",
                };
            }
            Some((stage.name, figures))
        };
        STAGES.iter().filter_map(of).collect()
    }
}

impl Seen {
    /// A sentence on the whole.
    pub fn summary(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let behind: Vec<String> = self
            .stages
            .iter()
            .filter(|(_, figures)| figures.lag > 0 && figures.status != "OK")
            .map(|(name, figures)| format!("{name} ({})", grouped(figures.lag)))
            .collect();
        let letters: i64 = self
            .topics
            .iter()
            .filter(|(name, _)| name.ends_with(".dlq"))
            .map(|(_, figures)| figures.records)
            .sum();
        let consumers = match behind.is_empty() {
            true => "All consumers keep up.".to_owned(),
            false => format!("Behind and not catching up: {}.", behind.join(", ")),
        };
        match letters {
            0 => format!("{consumers} There are no dead letters."),
            _ => format!(
                "{consumers} Letters on dead-letter topics, settled ones included: {}.",
                grouped(letters)
            ),
        }
    }

    /// A topic's figures as one text; of a topic that is not there a dash.
    pub fn topic(&self, name: &str) -> String {
        self.topics
            .get(name)
            .map_or("not there".to_owned(), |figures| {
                format!(
                    "{} · {}",
                    grouped(figures.records),
                    rate(figures.per_second)
                )
            })
    }

    /// A stage's figures as one text.
    pub fn stage(&self, name: &str) -> String {
        self.stages
            .get(name)
            .map_or("does not run".to_owned(), |figures| {
                format!(
                    "lag {} · {}",
                    grouped(figures.lag),
                    rate(Some(figures.per_second))
                )
            })
    }

    /// A stage's mark: `OK`, `WARN`, `ERR`; none where it does not run.
    pub fn mark(&self, name: &str) -> &'static str {
        self.stages
            .get(name)
            .map_or("NONE", |figures| figures.status)
    }
}

/// Figures as the page's script puts them in.
#[derive(Debug, Serialize)]
pub struct Figures {
    summary: String,
    /// Texts by `data-figure`.
    figures: BTreeMap<String, String>,
    /// `OK`, `WARN`, `ERR` by `data-status`.
    marks: BTreeMap<&'static str, &'static str>,
}

/// `GET /console/flow.json`.
pub async fn figures(State(console): State<Console>) -> Json<Figures> {
    let seen = console.flow.look().await;
    let mut figures = BTreeMap::new();
    for (name, topic) in &seen.topics {
        figures.insert(format!("topic {name}"), seen.topic(name));
        figures.insert(format!("records {name}"), grouped(topic.records));
        figures.insert(format!("rate {name}"), rate(topic.per_second));
    }
    for stage in STAGES {
        let name = stage.name;
        figures.insert(format!("stage {name}"), seen.stage(name));
        for (what, text) in stage_cells(seen.stages.get(name)) {
            figures.insert(format!("{what} {name}"), text);
        }
    }
    let marks = STAGES
        .iter()
        .map(|stage| (stage.name, seen.mark(stage.name)));
    Json(Figures {
        summary: seen.summary(),
        figures,
        marks: marks.collect(),
    })
}

/// What a table has of a stage, each with its name.
pub fn stage_cells(figures: Option<&StageFigures>) -> [(&'static str, String); 5] {
    let dash = || "–".to_owned();
    let of = |text: &dyn Fn(&StageFigures) -> String| figures.map_or_else(dash, text);
    [
        ("lag", of(&|it| grouped(it.lag))),
        ("age", of(&|it| format!("{:.1} s", it.lag_seconds))),
        ("read", of(&|it| rate(Some(it.per_second)))),
        ("members", of(&|it| it.members.to_string())),
        ("status", of(&|it| it.status.to_owned())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: &'static str, lag: i64) -> Seen {
        let figures = StageFigures {
            lag,
            lag_seconds: 1.0,
            per_second: 2.0,
            members: 1,
            status,
        };
        Seen {
            stages: [("vectorizer", figures)].into(),
            ..Seen::default()
        }
    }

    #[test]
    fn a_summary_names_who_is_in_trouble() {
        assert_eq!(
            seen("OK", 9).summary(),
            "All consumers keep up. There are no dead letters."
        );
        let mut behind = seen("ERR", 1_234);
        let letters = TopicFigures {
            records: 3,
            per_second: None,
        };
        behind.topics.insert("documents.dlq".to_owned(), letters);
        assert_eq!(
            behind.summary(),
            "Behind and not catching up: vectorizer (1\u{202f}234). Letters on dead-letter topics, settled ones included: 3."
        );
    }

    #[test]
    fn what_is_not_there_says_so() {
        let seen = Seen::default();
        assert_eq!(
            (seen.topic("x"), seen.stage("joiner"), seen.mark("joiner")),
            ("not there".to_owned(), "does not run".to_owned(), "NONE")
        );
    }
}
