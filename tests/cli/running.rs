//! A running `up`: found by other commands, drained by SIGTERM, unharmed by `kill -9`.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;

use crate::harness::{Pipeline, Target, eventually, text};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn commands_reach_the_running_up() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let mut up = pipeline.up(&[])?;
    let note = pipeline.write("notes/tides.txt", "The moon pulls the ocean twice a day.\n")?;
    let summary = pipeline.ingest(&note)?;
    ensure!(summary["indexed"] == 1, "{summary}");
    ensure!(pipeline.search("lunar gravity and water")?[0] == "tides.txt");
    up.signal("-TERM")?;
    let status = up.wait(LONG)?;
    ensure!(
        status.success(),
        "SIGTERM must drain and leave with 0: {status}"
    );
    ensure!(
        !pipeline.path("data/up.json").exists(),
        "the address outlived the process"
    );
    // The same folder, without it.
    ensure!(pipeline.search("lunar gravity and water")?[0] == "tides.txt");
    Ok(())
}

#[test]
fn a_log_that_can_not_be_written_stops_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    // Each write fails as on a full disk.
    let full = File::options().write(true).open("/dev/full")?;
    let up = pipeline.up_logging_to(full)?;
    let note = pipeline.write("notes/tides.txt", "The moon pulls the ocean twice a day.\n")?;
    let summary = pipeline.ingest(&note)?;
    ensure!(summary["indexed"] == 1, "{summary}");
    up.leave()
}

#[test]
fn an_error_that_can_not_be_told_is_the_same_exit_code() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    // There is no data folder yet.
    let mut search = pipeline.by_hand(&["search", "tides"]);
    let told = search.output()?;
    search.stderr(File::options().write(true).open("/dev/full")?);
    let untold = search.stdout(Stdio::null()).status()?;
    ensure!(
        told.status.code() == Some(1) && untold.code() == Some(1),
        "{told:?} {untold}"
    );
    Ok(())
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let pid = up.ready["pid"].to_string();
    let error = pipeline.failure(&["up"])?;
    ensure!(error.contains(&pid) && error.contains("--data"), "{error}");
    Ok(())
}

#[test]
fn a_killed_up_loses_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let mut up = pipeline.up(&[])?;
    for n in 0..20 {
        pipeline.write(
            &format!("docs/{n}.txt"),
            format!("Document {n} about topic {n}.\n"),
        )?;
    }
    let summary = pipeline.ingest(&pipeline.path("docs"))?;
    ensure!(summary["indexed"] == 20, "{summary}");
    up.signal("-KILL")?;
    up.wait(LONG)?;
    // A stable member has its partitions back at once, not after the session time of 45 s.
    let again = pipeline.up(&[])?;
    let seconds = again.ready["ready_seconds"].as_f64();
    ensure!(seconds.is_some_and(|seconds| seconds < 20.0), "{seconds:?}");
    let found = pipeline.json(&["search", "document", "-k", "100", "--mode", "text"])?;
    ensure!(
        found["hits"]
            .as_array()
            .is_some_and(|hits| hits.len() == 20),
        "{found}"
    );
    Ok(())
}

#[test]
fn a_second_sigterm_leaves_at_once_and_loses_nothing() -> anyhow::Result<()> {
    const LINES: usize = 400;
    let pipeline = Pipeline::new(Target::Embedded)?;
    // Long enough that what is in flight takes seconds.
    let song = "whales sing to each other in the deep ".repeat(30);
    let lines: String = (0..LINES)
        .map(|n| format!("{{\"_id\":\"{n}\",\"text\":\"Line {n}: {song}\"}}\n"))
        .collect();
    let corpus = pipeline.write("corpus.jsonl", lines)?;
    let log = pipeline.path("up.log");
    let mut up = pipeline.up_logging_to(File::create(&log)?)?;
    let mut ingest = pipeline
        .command(&["ingest", text(&corpus)?])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    eventually("all lines are published", LONG, || {
        let peeked = pipeline.json(&["peek", "documents", "-n", "1000"])?;
        let published = peeked["records"].as_array().map_or(0, Vec::len);
        Ok((published == LINES).then_some(()))
    })?;
    up.signal("-TERM")?;
    // Signals that come together are one.
    eventually("the first signal is heeded", LONG, || {
        let told = std::fs::read_to_string(&log)?;
        Ok(told.contains("the vectorizer drains").then_some(()))
    })?;
    up.signal("-TERM")?;
    let status = up.wait(LONG)?;
    ensure!(
        !ingest.wait()?.success(),
        "what became of the lines is not known"
    );
    let told = std::fs::read_to_string(&log)?;
    ensure!(
        status.code() == Some(130) && told.contains("stopped at once"),
        "{status}: {told}"
    );

    let _again = pipeline.up(&[])?;
    eventually("all lines are found", LONG, || {
        let found = pipeline.json(&["search", "line", "-k", "1000", "--mode", "text"])?;
        let hits = found["hits"].as_array().map_or(0, Vec::len);
        Ok((hits == LINES).then_some(()))
    })
}

#[test]
fn an_ingest_whose_up_is_killed_says_so() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let lines: String = (0..50_000)
        .map(|n| format!("{{\"_id\":\"{n}\",\"text\":\"Line {n} of many.\"}}\n"))
        .collect();
    let corpus = pipeline.write("corpus.jsonl", lines)?;
    let mut up = pipeline.up(&[])?;
    let ingest = pipeline
        .command(&["ingest", text(&corpus)?])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    eventually("the first lines are published", LONG, || {
        let records = pipeline.json(&["peek", "documents", "-n", "1"])?;
        let some = records["records"]
            .as_array()
            .is_some_and(|records| !records.is_empty());
        Ok(some.then_some(()))
    })?;
    up.signal("-KILL")?;
    up.wait(LONG)?;
    let output = ingest.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && error.contains("has stopped"),
        "{}: {error}",
        output.status
    );
    ensure!(
        error.contains("millrace up"),
        "what to do is not said: {error}"
    );
    Ok(())
}

#[test]
fn a_watched_folder_is_followed() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let path = pipeline.write("inbox/first.txt", "Penguins walk across the ice.\n")?;
    let _up = pipeline.up(&["--watch", text(&pipeline.path("inbox"))?])?;
    let finds = |query: &str, file: &str| {
        eventually(&format!("{query:?} finds {file}"), LONG, || {
            let found = pipeline.search(query)?;
            Ok(found
                .first()
                .is_some_and(|first| first == file)
                .then_some(()))
        })
    };
    finds("antarctic birds", "first.txt")?;
    pipeline.write(
        "inbox/second.txt",
        "The orchestra tunes before the symphony.\n",
    )?;
    finds("classical concert", "second.txt")?;
    std::fs::remove_file(&path)?;
    eventually("the removed file is gone", LONG, || {
        Ok((!pipeline
            .search("antarctic birds")?
            .contains(&"first.txt".to_owned()))
        .then_some(()))
    })
}

/// Moved into place: never seen half written, so never noticed twice.
fn put(pipeline: &Pipeline, name: &str, content: &str) -> anyhow::Result<()> {
    let staged = pipeline.write(&format!("staging/{name}"), content)?;
    std::fs::create_dir_all(pipeline.path("inbox"))?;
    Ok(std::fs::rename(staged, pipeline.path("inbox").join(name))?)
}

/// How many notices were ever published.
fn notices(pipeline: &Pipeline) -> anyhow::Result<i64> {
    pipeline.with_kafka(|kafka| {
        let runtime = tokio::runtime::Runtime::new()?;
        let admin = millrace_kafka::Admin::connect(&kafka)?;
        let topic = kafka.topic(millrace_kafka::topics::DOCUMENTS);
        Ok(runtime.block_on(admin.end_offsets(&topic))?.values().sum())
    })
}

#[test]
fn a_watched_folder_is_compared_at_the_start() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    for n in 0..6 {
        put(
            &pipeline,
            &format!("{n}.txt"),
            &format!("Note {n} on gardening.\n"),
        )?;
    }
    let line = |id: &str, text: &str| format!("{{\"_id\":\"{id}\",\"text\":\"{text}\"}}\n");
    put(
        &pipeline,
        "corpus.jsonl",
        &(line("stays", "A line that stays.") + &line("vanishes", "Rarely seen zeppelins.")),
    )?;
    let inbox = pipeline.path("inbox");
    let watch = ["--watch", text(&inbox)?];
    let until = |query: &str, wanted: &dyn Fn(&[String]) -> bool| {
        eventually(&format!("{query:?} is answered as wanted"), LONG, || {
            Ok(wanted(&pipeline.search(query)?).then_some(()))
        })
    };
    let up = pipeline.up(&watch)?;
    until("notes", &|found| found.len() == 8)?;
    up.leave()?;
    ensure!(notices(&pipeline)? == 8, "{}", notices(&pipeline)?);

    // Nothing changed; what comes while it runs is told, so the comparison was over by then.
    let up = pipeline.up(&watch)?;
    put(
        &pipeline,
        "new.txt",
        "The orchestra tunes before the symphony.\n",
    )?;
    until("classical concert", &|found| found[0] == "new.txt")?;
    up.leave()?;
    ensure!(notices(&pipeline)? == 9, "{}", notices(&pipeline)?);

    // Changed, removed and added while nobody watched.
    put(&pipeline, "0.txt", "Volcanoes under the ice sheet.\n")?;
    std::fs::remove_file(inbox.join("1.txt"))?;
    put(
        &pipeline,
        "corpus.jsonl",
        &line("stays", "A line that stays."),
    )?;
    let up = pipeline.up(&watch)?;
    until("eruption below a glacier", &|found| found[0] == "0.txt")?;
    until("gardening", &|found| !found.contains(&"1.txt".to_owned()))?;
    until("zeppelins", &|found| {
        !found.contains(&"corpus.jsonl#vanishes".to_owned())
    })?;
    up.leave()?;
    ensure!(notices(&pipeline)? == 12, "{}", notices(&pipeline)?);
    Ok(())
}

#[test]
fn comparisons_run_on_a_schedule_inside_up() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.write("docs/lost.txt", "A lighthouse on the northern coast.\n")?;
    let docs = pipeline.path("docs");
    pipeline.set("MILLRACE_RECONCILER__EVERY", "300ms");
    pipeline.set("MILLRACE_RECONCILER__REPAIR", "true");
    pipeline.set("MILLRACE_RECONCILER__SWEEP__EVERY", "300ms");
    pipeline.set(
        "MILLRACE_OBJECTS__ALLOWED_ROOTS",
        &format!("[{:?}]", text(&docs)?),
    );
    let up = pipeline.up(&[])?;
    eventually("the lost document is found", LONG, || {
        let found = pipeline.search("beacon for ships")?;
        Ok(found
            .first()
            .is_some_and(|first| first == "lost.txt")
            .then_some(()))
    })?;
    let metrics = |name: &str| -> anyhow::Result<f64> {
        let output = std::process::Command::new("curl")
            .args(["-sS", "--noproxy", "*"])
            .arg(format!("{}/metrics", up.api()))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.unwrap_or("-1").parse()?)
    };
    eventually("a comparison finds nothing more", LONG, || {
        let clean = metrics("millrace_reconciler_differences{class=\"missing\"}")? == 0.0;
        let repaired = metrics("millrace_reconciler_repairs_total")? == 1.0;
        Ok((clean && repaired).then_some(()))
    })?;
    ensure!(metrics("millrace_reconciler_last_run_timestamp_seconds")? > 1.6e9);
    up.leave()
}

#[test]
fn a_sweep_below_the_replay_horizon_is_refused() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_RECONCILER__SWEEP__HORIZON", "100h");
    let error = pipeline.failure(&["up"])?;
    ensure!(
        error.contains("100 h") && error.contains("168 h"),
        "{error}"
    );
    pipeline.set("MILLRACE_RECONCILER__SWEEP__HORIZON", "soon");
    let error = pipeline.failure(&["up"])?;
    ensure!(
        error.contains("reconciler.sweep.horizon") && error.contains("90m"),
        "{error}"
    );
    Ok(())
}

#[test]
fn health_and_metrics_are_served() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    // Its metrics are there where it is.
    pipeline.set("MILLRACE_CANARY__EVERY_SECONDS", "3600");
    let up = pipeline.up(&[])?;
    let get = |path: &str| -> anyhow::Result<String> {
        let output = std::process::Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-w", "\n%{http_code}"])
            .arg(format!("{}{path}", up.api()))
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    ensure!(get("/healthz")?.ends_with("200"));
    ensure!(get("/readyz")?.ends_with("200"), "{}", get("/readyz")?);
    let note = pipeline.write("one.txt", "A single document.\n")?;
    pipeline.ingest(&note)?;
    let metrics = get("/metrics")?;
    let indexed = metrics
        .lines()
        .find_map(|line| line.strip_prefix("millrace_documents_total{outcome=\"indexed\"} "));
    // The note, and the canary if it was as quick.
    ensure!(matches!(indexed, Some("1" | "2")), "{metrics}");
    let served: BTreeSet<(&str, &str)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    // The model server's are in its own section, which its own suite reads.
    let documented: BTreeSet<(&str, &str)> = include_str!("../../docs/metrics.md")
        .split("\n## The model server\n")
        .take(1)
        .flat_map(str::lines)
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split_once(" |")?.0))
        })
        .collect();
    ensure!(
        served == documented,
        "served {served:#?}\ndocumented {documented:#?}"
    );
    Ok(())
}

/// Ids are anybody's text.
const USER: &str = "a/b?c=1 ü%";

#[test]
fn behavior_of_a_known_item_is_counted_and_makes_a_profile() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_API__ADMIN_TOKEN", "right");
    let up = pipeline.up(&[])?;
    let note = pipeline.write("tides.txt", "The moon pulls the ocean twice a day.\n")?;
    pipeline.ingest(&note)?;
    let stats = || pipeline.json(&["stats", text(&note)?]);
    let before = stats()?;
    ensure!(before["known"] == false, "{before}");
    let item_id = before["item_id"].as_str().unwrap_or_default().to_owned();
    let kafka = millrace_kafka::KafkaConfig {
        bootstrap: up.ready["kafka"].as_str().unwrap_or_default().to_owned(),
        ..millrace_kafka::KafkaConfig::default()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let event = |id: &str, kind: &str| {
        let event = serde_json::json!({
            "event_id": id, "user_id": USER, "item_id": item_id, "item": "tides", "kind": kind,
            "event_time_ms": u64::try_from(now.as_millis()).unwrap_or(0), "position": 1
        });
        millrace_kafka::RawRecord {
            topic: kafka.topic(millrace_kafka::topics::BEHAVIOR),
            key: Some(USER.into()),
            value: Some(event.to_string().into()),
            ..millrace_kafka::RawRecord::default()
        }
    };
    // The click comes twice.
    let records = [
        event("1", "expose"),
        event("2", "click"),
        event("2", "click"),
    ];
    tokio::runtime::Runtime::new()?.block_on(async {
        let producer = millrace_kafka::Producer::connect(&kafka)?;
        for record in records {
            producer.send_raw(record).await?;
        }
        anyhow::Ok(())
    })?;
    let counted = eventually("the click is counted", LONG, || {
        let stats = stats()?;
        Ok((stats["clicks"] == 1).then_some(stats))
    })?;
    ensure!(
        counted["impressions"] == 1 && counted["known"] == true,
        "{counted}"
    );
    ensure!(
        counted["coec"] == 1.0,
        "the only item is the average one: {counted}"
    );

    let profile = || pipeline.json(&["profile", USER, "--vectors"]);
    let known = eventually("the click is in the profile", LONG, || {
        let profile = profile()?;
        Ok((profile["counts"]["click"] == 1).then_some(profile))
    })?;
    ensure!(
        known["counts"]["expose"] == 1 && known["recent"][0]["item_id"] == item_id,
        "{known}"
    );
    let vector = known["vectors"]["long_term"].as_array();
    ensure!(vector.is_some_and(|vector| vector.len() == 384), "{known}");
    let unknown = pipeline.json(&["profile", "nobody"])?;
    // What a user did is not for everybody who reaches the port.
    let route = "/v1/users/nobody/profile";
    ensure!(up.http(route, &[])?.0 == 401);
    let token = "authorization: Bearer right";
    let (status, answer) = up.http(route, &["-H", token])?;
    ensure!(status == 200 && answer == unknown, "{status} {answer}");
    let (status, answer) = up.http(&format!("{route}?vectors=maybe"), &["-H", token])?;
    ensure!(
        status == 400 && answer["error_type"] == "invalid_request",
        "{status} {answer}"
    );
    let bare = pipeline.json(&["profile", USER])?;
    ensure!(bare.get("vectors").is_none(), "{bare}");
    ensure!(unknown["known"] == false, "{unknown}");
    // Built anew beside what serves, both are what they were.
    for consumer in ["joiner", "profiles"] {
        let dry = pipeline.json(&["rebuild", consumer, "--dry-run"])?;
        ensure!(dry["rebuilt"] == false && dry["new"] == 1, "{dry}");
        ensure!(dry["records_gone"] == 0, "{dry}");
        let rebuilt = pipeline.json(&["rebuild", consumer])?;
        ensure!(rebuilt["old"] == 1 && rebuilt["new"] == 2, "{rebuilt}");
    }
    let again = stats()?;
    ensure!(
        again["clicks"] == counted["clicks"] && again["coec"] == counted["coec"],
        "{again}"
    );
    let again = profile()?;
    ensure!(
        again["counts"] == known["counts"] && again["vectors"] == known["vectors"],
        "{again}"
    );
    // It outlives the process.
    drop(up);
    ensure!(profile()?["heaviest"] == known["heaviest"]);
    Ok(())
}
