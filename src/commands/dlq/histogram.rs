//! `millrace dlq histogram`: when how many documents failed, and why.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use millrace_kafka::{DeadLetter, KafkaConfig, ResolvedLetters};
use serde::Serialize;

use crate::cli::UsageError;
use crate::dead_letters::{Filter, FilterArgs, visit};
use crate::histogram::{bar, buckets_between, readable_bucket_ms};
use crate::output::{Output, printable, table, time};
use crate::when::parse_duration_ms;

/// More are refused.
const MAX_BUCKETS: i64 = 1_000;
/// Draw how many letters first failed when, by reason, stage or topic.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// What to tell apart within a bucket.
    #[arg(long, value_enum, default_value = "reason")]
    by: By,
    /// Length of a bucket, such as `15m`, `1h` or `1d`; without it, one that makes a readable picture.
    #[arg(long, value_name = "LENGTH", value_parser = parse_bucket)]
    bucket: Option<i64>,
    /// Also those that were replayed or discarded.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    Reason,
    Stage,
    Topic,
}

fn parse_bucket(text: &str) -> Result<i64, &'static str> {
    parse_duration_ms(text)
        .filter(|ms| *ms > 0)
        .ok_or("expected a length above 0, such as 90s, 15m, 1h or 1d")
}

#[derive(Debug, Serialize)]
struct Report {
    total: u64,
    /// Letters that do not say when they failed.
    undated: u64,
    bucket_ms: i64,
    /// In order of time, from the first to the last that has letters; those between may have none.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Bucket {
    from_ms: i64,
    count: u64,
    by: BTreeMap<String, u64>,
}

pub async fn run(args: &Args, kafka: &KafkaConfig, output: Output) -> anyhow::Result<ExitCode> {
    let filter = Filter::new(&args.filter, kafka)?;
    let resolved = ResolvedLetters::read(kafka).await?;
    let mut undated = 0;
    let mut failures: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    visit(kafka, &filter, &resolved, |scanned| {
        if args.all || scanned.resolved.is_none() {
            match scanned.letter.failed_at_ms() {
                Some(at_ms) => {
                    let kind = args.by.kind_of(&scanned.letter);
                    failures.entry(kind.to_owned()).or_default().push(at_ms);
                }
                None => undated += 1,
            }
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    let report = Report {
        undated,
        ..draw(&failures, args.bucket)?
    };
    output.result(&report, || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

impl By {
    fn kind_of(self, letter: &DeadLetter) -> &str {
        match self {
            Self::Reason => &letter.error_type,
            Self::Stage => &letter.stage,
            Self::Topic => &letter.position.topic,
        }
    }
}

/// Counts failures by bucket, in UTC.
fn draw(failures: &BTreeMap<String, Vec<i64>>, bucket: Option<i64>) -> Result<Report, UsageError> {
    let times = || failures.values().flatten().copied();
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok(Report {
            total: 0,
            undated: 0,
            bucket_ms: bucket.unwrap_or_else(|| readable_bucket_ms(0, 0)),
            buckets: Vec::new(),
        });
    };
    let bucket_ms = bucket.unwrap_or_else(|| readable_bucket_ms(first, last));
    let count = buckets_between(first, last, bucket_ms);
    if count > MAX_BUCKETS {
        return Err(UsageError(format!(
            "that makes {count} buckets; a longer --bucket, or --from and --to, make fewer than {MAX_BUCKETS}"
        )));
    }
    let begin = first.div_euclid(bucket_ms);
    let mut buckets: Vec<Bucket> = (0..count)
        .map(|n| Bucket {
            from_ms: begin.saturating_add(n).saturating_mul(bucket_ms),
            ..Bucket::default()
        })
        .collect();
    for (kind, times) in failures {
        for at_ms in times {
            let place = usize::try_from(at_ms.div_euclid(bucket_ms) - begin).unwrap_or(0);
            if let Some(bucket) = buckets.get_mut(place) {
                bucket.count += 1;
                *bucket.by.entry(kind.clone()).or_default() += 1;
            }
        }
    }
    Ok(Report {
        total: times().count() as u64,
        undated: 0,
        bucket_ms,
        buckets,
    })
}

fn text(report: &Report) -> String {
    let most = report
        .buckets
        .iter()
        .map(|bucket| bucket.count)
        .max()
        .unwrap_or(0);
    let mut rows = vec![["FROM", "COUNT", "", "WHAT"].map(str::to_owned).to_vec()];
    rows.extend(report.buckets.iter().map(|bucket| {
        let mut kinds: Vec<(&String, &u64)> = bucket.by.iter().collect();
        kinds.sort_by(|a, b| b.1.cmp(a.1));
        let kinds = kinds
            .into_iter()
            .map(|(kind, count)| format!("{} {count}", printable(kind)));
        vec![
            time(Some(bucket.from_ms)),
            bucket.count.to_string(),
            bar(bucket.count, most),
            kinds.collect::<Vec<_>>().join(", "),
        ]
    }));
    let mut lines = Vec::new();
    if report.buckets.is_empty() && report.undated == 0 {
        return "no dead letters".to_owned();
    }
    if !report.buckets.is_empty() {
        lines.push(table(&rows));
    }
    if report.undated > 0 {
        lines.push(format!("{} do not say when they failed", report.undated));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn failures(times: &[(&str, i64)]) -> BTreeMap<String, Vec<i64>> {
        let mut failures: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (kind, at_ms) in times {
            failures.entry((*kind).to_owned()).or_default().push(*at_ms);
        }
        failures
    }

    #[test]
    fn every_failure_is_in_the_bucket_of_its_time() {
        let failures = failures(&[("a", 1), ("b", HOUR - 1), ("a", HOUR), ("a", 3 * HOUR)]);
        let report = draw(&failures, Some(HOUR)).unwrap();
        let counts: Vec<u64> = report.buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!((counts, report.total), (vec![2, 1, 0, 1], 4));
        assert_eq!(
            report.buckets[0].by,
            BTreeMap::from([("a".into(), 1), ("b".into(), 1)])
        );
        assert_eq!(report.buckets[3].from_ms, 3 * HOUR);
        // Before 1970, and far apart.
        let report = draw(&self::failures(&[("a", -1), ("a", 1)]), None).unwrap();
        assert_eq!(
            (report.buckets.len(), report.buckets[0].from_ms),
            (2, -60_000)
        );
        let report = draw(&self::failures(&[("a", i64::MIN), ("a", i64::MAX)]), None).unwrap();
        assert!(report.buckets.len() < 100, "{}", report.buckets.len());
        assert_eq!(report.total, 2);
    }

    #[test]
    fn too_many_buckets_are_refused_and_none_is_no_error() {
        assert!(draw(&failures(&[("a", 0), ("a", 1_000_000_000)]), Some(1_000)).is_err());
        assert_eq!(
            text(&draw(&failures(&[]), None).unwrap()),
            "no dead letters"
        );
    }

    #[test]
    fn what_is_hostile_is_drawn_escaped() {
        let shown = text(&draw(&failures(&[("\u{1b}[31m", 0)]), None).unwrap());
        assert!(
            shown.contains("\\u{1b}[31m 1") && !shown.contains('\u{1b}'),
            "{shown}"
        );
    }
}
