//! A report of a replay as an HTML page: tables, and two plots.

use std::fmt::Write as _;

use super::report::Report;
use super::work::Run;
use crate::html::{HEIGHT, WIDTH, escaped, page, plot};
use crate::output::{bytes, time};

/// The page. Whatever the records and arguments hold is escaped: it is shown, and does nothing.
pub fn html(report: &Report, run: &Run) -> String {
    let state = match (report.done, report.interrupted) {
        (true, _) => "done",
        (false, true) if report.left == 0 => "published, and not worked off whole",
        (false, true) => "stopped by a signal",
        (false, false) => "not finished",
    };
    let count = |count: u64| count.to_string();
    let mut facts = vec![
        ("Topic", report.topic.clone()),
        ("To", report.to.clone()),
        ("Name", report.name.clone().unwrap_or_default()),
        ("State", state.to_owned()),
        ("Records", count(report.records)),
        ("Bytes", bytes(report.bytes)),
        ("With earlier runs", count(report.records_in_all)),
        ("Refused", count(report.refused)),
        ("Offsets left", count(report.left)),
        ("Offsets gone by retention", count(report.gone)),
        ("Time", format!("{:.1} s", report.seconds)),
        (
            "Throughput",
            format!("{:.0} records/s", report.records_per_second),
        ),
    ];
    if let Some(outcomes) = &report.outcomes {
        facts.push(("Indexed", count(outcomes.indexed)));
        facts.push(("Stale", count(outcomes.stale)));
        facts.push(("Superseded", count(outcomes.superseded)));
        facts.push(("Removed", count(outcomes.removed)));
        facts.push(("Dead-lettered", count(outcomes.dead_lettered)));
    }
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value)))
        .collect();
    let partitions: String = report
        .partitions
        .iter()
        .map(|it| {
            let records = run.survey.partitions.get(&it.partition);
            let records = records.map_or(0, |counted| counted.records);
            format!(
                "<tr><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td>\
                 <td class=n>{records}</td></tr>\n",
                it.partition, it.start, it.next, it.end
            )
        })
        .collect();
    let body = format!(
        "<table>\n{facts}</table>\n\
         <h2>Records over their time (UTC)</h2>\n{}\n\
         <h2>Throughput over the run</h2>\n{}\n\
         <h2>Partitions</h2>\n<table>\n<tr><th class=n>Partition</th><th class=n>From</th><th class=n>Next</th>\
         <th class=n>End</th><th class=n>Records</th></tr>\n{partitions}</table>",
        over_time(run),
        throughput(run),
    );
    page(&format!("Replay of {}", report.topic), &body)
}

fn over_time(run: &Run) -> String {
    let (_, buckets) = run.survey.times();
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return "<p>No records.</p>".to_owned();
    };
    let most = buckets.iter().map(|it| it.records).max().unwrap_or(0);
    let step = WIDTH / buckets.len() as f64;
    let mut bars = String::new();
    for (place, bucket) in buckets.iter().enumerate() {
        let height = bucket.records as f64 / most.max(1) as f64 * HEIGHT;
        // Writing to a string can't fail.
        let _ = writeln!(
            bars,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"#2b7a78\">\
             <title>{}: {}</title></rect>",
            place as f64 * step,
            HEIGHT - height,
            (step - 1.0).max(0.5),
            escaped(&time(Some(bucket.from_ms))),
            bucket.records
        );
    }
    let (from, to) = (time(Some(first.from_ms)), time(Some(last.from_ms)));
    plot(&bars, &from, &to, &format!("{most} records at most"))
}

fn throughput(run: &Run) -> String {
    let rates = run.pace.rates();
    let (Some((last, _)), true) = (rates.last(), rates.len() > 1) else {
        return "<p>Too short to draw.</p>".to_owned();
    };
    let most = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let points: Vec<String> = rates
        .iter()
        .map(|(seconds, rate)| {
            let x = seconds / last * WIDTH;
            let y = HEIGHT - rate / most.max(f64::EPSILON) * HEIGHT;
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let line = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#2b7a78\" stroke-width=\"2\"/>\n",
        points.join(" ")
    );
    let to = format!("{last:.1} s");
    plot(&line, "0 s", &to, &format!("{most:.0} records/s at most"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_kafka::Record;

    use super::super::begin::Begun;
    use super::super::target::Target;
    use super::*;

    #[test]
    fn what_is_hostile_is_shown_and_nothing_is_fetched() {
        let begun = Begun::of_spans(BTreeMap::new());
        let target = Target::Topic("<script>alert('x')</script>\u{1b}".to_owned());
        let report = Report::new("t&t", &target, &begun);
        let mut run = Run::new();
        for at_ms in [0, 3_600_000, 7_200_000] {
            run.survey.count(&Record {
                topic: "t".to_owned(),
                partition: 0,
                offset: 0,
                timestamp_ms: Some(at_ms),
                key: None,
                value: None,
                headers: Vec::new(),
            });
        }
        let page = html(&report, &run);
        assert!(
            page.contains("&lt;script&gt;") && !page.contains("<script"),
            "{page}"
        );
        assert!(page.contains("t&amp;t") && !page.contains('\u{1b}'));
        assert!(page.contains("<svg") && page.contains("1970-01-01T00:00:00Z"));
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
