//! How far consumer groups are behind, as a person and as Prometheus see it.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::harness::{Pipeline, Target, eventually, text};

/// A pipeline whose stateful consumers run too.
fn with_states(target: Target) -> anyhow::Result<Pipeline> {
    let mut pipeline = Pipeline::new(target)?;
    if target == Target::Real {
        pipeline.set("MILLRACE_STATE__VALKEY__URL", &millrace_servers::redis()?);
    }
    Ok(pipeline)
}

/// Where everything is read, and what each group is.
fn groups_of_a_running_pipeline_are_ok(target: Target) -> anyhow::Result<()> {
    let mut pipeline = with_states(target)?;
    pipeline.set("MILLRACE_LAG__EVERY_SECONDS", "1");
    let up = pipeline.up(&[])?;
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    // A real Kafka lets the first members of a group wait for others.
    let lag = eventually("all groups read", Duration::from_secs(60), || {
        let lag = pipeline.json(&["lag", "--over", "0"])?;
        let read = rows(&lag).iter().all(|row| row["lag"] == 0);
        let roles = ["vectorizer.", "rekey", "joiner.", "profiles.", "labeler."];
        let reads = |role: &&str| {
            let groups = lag["groups"].as_array().into_iter().flatten();
            let is_its = |group: &&Value| {
                group["group"]
                    .as_str()
                    .is_some_and(|name| name.contains(role))
            };
            let mut its = groups.filter(is_its);
            its.next().is_some_and(|group| {
                group["status"] == "OK" && group["state"] == "Stable" && group["members"] == 1
            })
        };
        Ok((read && roles.iter().all(reads)).then_some(lag))
    })?;
    let of_documents = rows(&lag).iter().filter(|row| {
        row["topic"]
            .as_str()
            .is_some_and(|topic| topic.ends_with("documents"))
    });
    ensure!(of_documents.count() == 6, "{lag}");
    ensure!(
        rows(&lag).iter().all(|row| row["client_id"].is_string()),
        "{lag}"
    );
    // Told beside what is committed, so where something was.
    let mut read = rows(&lag).iter().filter(|row| row["current_offset"] != 0);
    ensure!(read.clone().count() > 0, "{lag}");
    ensure!(read.all(|row| row["paused"] == false), "{lag}");

    let metrics = eventually("the exporter has looked", Duration::from_secs(60), || {
        let metrics = curl(&format!("{}/metrics", up.api()))?;
        Ok(metrics
            .contains("kafka_lag_exporter_up 1")
            .then_some(metrics))
    })?;
    let told = |name: &str, part: &str| {
        metrics
            .lines()
            .any(|line| line.starts_with(name) && line.contains(part))
    };
    ensure!(
        told("kafka_consumergroup_group_lag{", "vectorizer."),
        "{metrics}"
    );
    ensure!(
        told("kafka_consumergroup_group_lag_seconds{", "vectorizer."),
        "{metrics}"
    );
    ensure!(
        told("kafka_consumergroup_group_state{", "state=\"Stable\""),
        "{metrics}"
    );
    ensure!(
        told("kafka_partition_latest_offset{", "documents"),
        "{metrics}"
    );
    up.leave()
}

#[test]
fn an_exporter_serves_before_the_brokers_do() -> anyhow::Result<()> {
    // Both are held until both are known: they must not be the same.
    let free = || std::net::TcpListener::bind("127.0.0.1:0");
    let held = (free()?, free()?);
    let (listen, brokers) = (held.0.local_addr()?, held.1.local_addr()?);
    drop(held);
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_PROFILE", "cluster");
    pipeline.set("MILLRACE_API__LISTEN", &listen.to_string());
    pipeline.set("MILLRACE_KAFKA__BOOTSTRAP", &brokers.to_string());
    pipeline.set("MILLRACE_LAG__EVERY_SECONDS", "1");
    let limit = Duration::from_secs(60);
    let ask = |route: &str| {
        let output = std::process::Command::new("curl")
            .args(["-s", "--noproxy", "*", "-w", "\n%{http_code}"])
            .arg(format!("http://{listen}{route}"))
            .output()?;
        anyhow::Ok(String::from_utf8(output.stdout)?)
    };
    let told = |what: &str, route: &str, wanted: &str| {
        let is_told = || Ok(ask(route)?.lines().any(|line| line == wanted).then_some(()));
        eventually(what, limit, is_told)
    };
    std::thread::scope(|scope| {
        let exporter = scope.spawn(|| pipeline.serve(&["run", "lag-exporter"]));
        told("it says that it is not ready", "/readyz", "503")?;
        told(
            "it says that it can't look",
            "/metrics",
            "kafka_lag_exporter_up 0",
        )?;
        let broker = millrace_broker::Broker::start(millrace_broker::BrokerConfig {
            listen: brokers,
            ..millrace_broker::BrokerConfig::new(pipeline.path("late"))
        })?;
        told("it looks", "/metrics", "kafka_lag_exporter_up 1")?;
        told("it is ready", "/readyz", "200")?;
        let Ok(exporter) = exporter.join() else {
            anyhow::bail!("the exporter's thread panicked");
        };
        exporter?.leave()?;
        broker.stop();
        Ok(())
    })
}

/// Behavior is published while nobody runs.
fn what_nobody_reads_is_told(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let up = pipeline.up(&[])?;
    let click = r#"{"user_id":"u","item":"oss://uploads/a.pdf","kind":"click","event_time_ms":1700000000000}"#;
    let file = pipeline.write("clicks.jsonl", format!("{click}\n"))?;
    pipeline.json(&["publish", "behavior", text(&file)?])?;
    eventually("the click is read", Duration::from_secs(60), || {
        let lag = pipeline.json(&["lag", "--over", "0"])?;
        let is_read = |row: &&Value| of_rekey(row) && row["current_offset"] == 1 && row["lag"] == 0;
        Ok(rows(&lag).iter().find(is_read).map(|_| ()))
    })?;
    up.leave()?;
    let again = click
        .replace("00000,", "00001,")
        .replace("00000}", "00001}");
    let file = pipeline.write("again.jsonl", format!("{again}\n"))?;
    pipeline.json(&["publish", "behavior", text(&file)?])?;
    let lag = pipeline.json(&["lag"])?;
    let behind: Vec<&Value> = rows(&lag).iter().filter(|row| row["lag"] != 0).collect();
    ensure!(behind.len() == 1 && of_rekey(behind[0]), "{lag}");
    ensure!(
        behind[0]["status"] == "STOP"
            && behind[0]["member"].is_null()
            && behind[0]["paused"].is_null(),
        "{lag}"
    );
    ensure!(
        behind[0]["lag_seconds"]
            .as_f64()
            .is_some_and(|age| (0.0..600.0).contains(&age)),
        "{lag}"
    );
    let rekey = lag["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|group| group["lag"] == 1);
    ensure!(
        rekey.is_some_and(|group| group["status"] == "ERR" && group["members"] == 0),
        "{lag}"
    );

    let seen = pipeline.by_hand(&["lag"]).output()?;
    let seen = String::from_utf8(seen.stdout)?;
    ensure!(
        seen.lines()
            .any(|line| line.contains("STOP") && line.contains("rekey")),
        "{seen}"
    );
    Ok(())
}

fn a_group_that_does_not_run_is_moved_and_that_is_audited(target: Target) -> anyhow::Result<()> {
    let pipeline = with_states(target)?;
    let clicks: Vec<String> = (0..5)
        .map(|n| format!("{{\"user_id\":\"u\",\"item\":\"oss://uploads/a.pdf\",\"kind\":\"click\",\"event_time_ms\":170000000000{n}}}\n"))
        .collect();
    let file = pipeline.write("clicks.jsonl", clicks.concat())?;
    let up = pipeline.up(&[])?;
    pipeline.json(&["publish", "behavior", text(&file)?])?;
    let read = eventually("the clicks are read", Duration::from_secs(60), || {
        let lag = pipeline.json(&["lag", "--over", "0"])?;
        let is_read = |row: &&Value| of_rekey(row) && row["current_offset"] == 5;
        Ok(rows(&lag).iter().find(is_read).cloned())
    })?;
    let group = read["group"].as_str().unwrap_or_default().to_owned();
    let partition = read["partition"].to_string();
    let to = |arguments: &[&'static str]| -> Vec<String> {
        let reset = ["topics", "reset-offsets", &group, "--partition", &partition];
        reset
            .iter()
            .chain(arguments)
            .map(|&word| word.to_owned())
            .collect()
    };
    let refused = |arguments: &[&'static str]| {
        let arguments = to(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        pipeline.failure(&arguments)
    };
    let json = |arguments: &[&'static str]| {
        let arguments = to(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        pipeline.json(&arguments)
    };
    let error = refused(&["--to-earliest", "--yes"])?;
    ensure!(
        error.contains("has members") && error.contains("stop them first"),
        "{error}"
    );
    up.leave()?;

    let error = refused(&["--to-earliest"])?;
    ensure!(error.contains("--yes"), "{error}");
    let error = refused(&["--to-earliest", "--to-latest"])?;
    ensure!(error.contains("cannot be used with"), "{error}");
    let error = refused(&[])?;
    ensure!(error.contains("--to-earliest"), "{error}");
    let planned = json(&["--to-offset", "2", "--dry-run"])?;
    ensure!(
        planned["dry_run"] == true && planned["partitions"][0]["to_offset"] == 2,
        "{planned}"
    );
    ensure!(planned["partitions"][0]["lag"] == 3, "{planned}");
    let stands = |offset: i64| {
        let lag = pipeline.json(&["lag", "--over", "0", "--group", &group])?;
        let row = rows(&lag)
            .iter()
            .find(|row| row["partition"] == read["partition"]);
        ensure!(
            row.is_some_and(|row| row["current_offset"] == offset),
            "{lag}"
        );
        Ok(())
    };
    stands(5)?;
    for (arguments, offset, clipped) in [
        (&["--to-offset", "2", "--yes"][..], 2, false),
        (&["--shift-by", "-1", "--yes"], 1, false),
        (&["--shift-by", "9", "--yes"], 5, true),
        (&["--to-earliest", "--yes"], 0, false),
        (&["--to-time", "2100-01-01T00:00:00Z", "--yes"], 5, true),
        (&["--to-time", "1h", "--yes"], 0, false),
        (&["--to-latest", "--yes"], 5, false),
    ] {
        let moved = json(arguments)?;
        let partition = &moved["partitions"][0];
        ensure!(
            partition["to_offset"] == offset && partition["clipped"] == clipped,
            "{arguments:?}: {moved}"
        );
        stands(offset)?;
    }
    // Of a partition that is named, an offset that is not there is a mistake; of a topic it is told.
    let error = refused(&["--to-offset", "6", "--yes"])?;
    ensure!(
        error.contains("offset 6 is not there, only 0 to 5"),
        "{error}"
    );
    stands(5)?;
    let whole = [
        "topics",
        "reset-offsets",
        &group,
        "--to-offset",
        "3",
        "--dry-run",
    ];
    let output = pipeline.output(&whole)?;
    let planned: Value = serde_json::from_slice(&output.stdout)?;
    let told = String::from_utf8_lossy(&output.stderr);
    let clipped = planned["partitions"].as_array().into_iter().flatten();
    let clipped = clipped.filter(|to| to["clipped"] == true);
    let clipped = clipped.inspect(|to| assert!(to["note"].is_string(), "{planned}"));
    ensure!(
        clipped.count() == 5 && told.matches("offset 3 is not there, only 0 to 0").count() == 5,
        "{planned}\n{told}"
    );
    let again = json(&["--to-latest"])?;
    ensure!(
        again["partitions"][0]["to_offset"] == 5,
        "it stands there already, so nobody is asked: {again}"
    );

    let audit = pipeline.json(&["peek", "audit", "-n", "100"])?;
    let events = audit["records"].as_array().into_iter().flatten();
    let events: Vec<&Value> = events.map(|record| &record["value"]).collect();
    let of = |phase: &str| {
        let is_it =
            |event: &&&Value| event["action"] == "topics.reset_offsets" && event["phase"] == phase;
        events.iter().filter(is_it).count()
    };
    ensure!((of("begun"), of("done")) == (7, 7), "{audit}");
    ensure!(events[0]["arguments"]["group"] == group.as_str(), "{audit}");
    Ok(())
}

#[test]
fn what_cannot_be_moved_is_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    for (arguments, reason) in [
        (
            &["nobody", "--to-earliest"][..],
            "there is no group \"nobody\"",
        ),
        (
            &["millrace.joiner.000001", "--to-earliest"],
            "`millrace rebuild joiner`",
        ),
        (
            &["millrace.dlq-replay.documents", "--to-latest"],
            "`millrace dlq replay`",
        ),
        (&["millrace.replay.x", "--to-latest"], "`millrace replay`"),
        (
            &["", "--topic", "documents", "--to-latest"],
            "a group has a name",
        ),
        (
            &["millrace.profiles.000002", "--to-latest"],
            "`millrace rebuild profiles`",
        ),
        (
            &[
                "new",
                "--topic",
                "documents",
                "--partition",
                "99",
                "--to-latest",
            ],
            "no partition 99",
        ),
        (
            &["new", "--topic", "nothing", "--to-latest"],
            "no topic \"nothing\" is declared",
        ),
        (&["new", "--topic", "documents", "--to-offset", "-1"], "-1"),
        (
            &["new", "--topic", "documents", "--to-time", "soon"],
            "RFC 3339",
        ),
    ] {
        let arguments = [&["topics", "reset-offsets"], arguments].concat();
        let error = pipeline.failure(&arguments)?;
        ensure!(error.contains(reason), "{arguments:?}: {error}");
    }
    // Before it first runs.
    let set = pipeline.json(&[
        "topics",
        "reset-offsets",
        "new",
        "--topic",
        "documents",
        "--to-latest",
        "--yes",
    ])?;
    ensure!(
        set["partitions"]
            .as_array()
            .is_some_and(|moved| moved.len() == 6),
        "{set}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_watched_is_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    for (arguments, reason) in [
        (
            &["lag", "--over=-1"][..],
            "--over -1 is not between 0 and 3600 seconds",
        ),
        (&["lag", "--over", "NaN"], "--over NaN is not between"),
        (
            &["lag", "--watch", "--every", "0"],
            "--every 0 is not between 0.2 and",
        ),
        (&["lag", "--every", "2"], "--watch"),
        (&["lag", "--all", "--group", "g"], "cannot be used with"),
    ] {
        let error = pipeline.failure(arguments)?;
        ensure!(error.contains(reason), "{arguments:?}: {error}");
    }
    Ok(())
}

fn of_rekey(row: &Value) -> bool {
    row["group"]
        .as_str()
        .is_some_and(|group| group.contains("rekey"))
}

fn rows(lag: &Value) -> &[Value] {
    lag["partitions"].as_array().map_or(&[], Vec::as_slice)
}

fn curl(url: &str) -> anyhow::Result<String> {
    let arguments = ["-sS", "--noproxy", "*", url];
    let output = std::process::Command::new("curl")
        .args(arguments)
        .output()?;
    Ok(String::from_utf8(output.stdout)?)
}

mod embedded {
    use super::Target;

    #[test]
    fn groups_of_a_running_pipeline_are_ok() -> anyhow::Result<()> {
        super::groups_of_a_running_pipeline_are_ok(Target::Embedded)
    }

    #[test]
    fn what_nobody_reads_is_told() -> anyhow::Result<()> {
        super::what_nobody_reads_is_told(Target::Embedded)
    }

    #[test]
    fn a_group_that_does_not_run_is_moved_and_that_is_audited() -> anyhow::Result<()> {
        super::a_group_that_does_not_run_is_moved_and_that_is_audited(Target::Embedded)
    }
}

mod real {
    use super::Target;

    #[test]
    fn groups_of_a_running_pipeline_are_ok() -> anyhow::Result<()> {
        super::groups_of_a_running_pipeline_are_ok(Target::Real)
    }

    #[test]
    fn a_group_that_does_not_run_is_moved_and_that_is_audited() -> anyhow::Result<()> {
        super::a_group_that_does_not_run_is_moved_and_that_is_audited(Target::Real)
    }
}
