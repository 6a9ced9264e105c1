//! What the console changes: dead letters, offsets, test records; planned first, and audited.

use anyhow::{Context, ensure};

use super::{LONG, Visitor, audited};
use crate::harness::{Pipeline, Target, Up, eventually, text};

/// An `up` with one dead letter: a document that says that it is text and is none.
fn with_a_dead_letter() -> anyhow::Result<(Pipeline, Up)> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.write("docs/birds.txt", [0u8, 159, 146, 150, 0, 1, 2, 3])?;
    let docs = pipeline.path("docs");
    let summary = pipeline.ingest(&docs)?;
    ensure!(summary["dead_lettered"] == 1, "{summary}");
    pipeline.set(
        "MILLRACE_OBJECTS__ALLOWED_ROOTS",
        &format!("[{:?}]", text(&docs)?),
    );
    let up = pipeline.up(&[])?;
    Ok((pipeline, up))
}

const REPLAY: [(&str, &str); 2] = [("act", "replay"), ("stage", "extract")];

#[test]
fn a_dead_letter_is_planned_replayed_and_found() -> anyhow::Result<()> {
    let (pipeline, up) = with_a_dead_letter()?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    let page = visitor.get("/console/dead-letters")?.ok()?;
    page.has("1 open dead letter,")?;
    page.has("birds.txt")?;
    visitor
        .get("/console/dead-letters?stage=index")?
        .ok()?
        .has("No open dead letters match.")?;

    // Looking changes nothing.
    let plan = visitor
        .get("/console/dead-letters/order?act=replay&stage=extract")?
        .ok()?;
    plan.has("Replay 1 dead letter (")?;
    plan.has("Nothing was done yet.")?;
    ensure!(pipeline.json(&["dlq", "list"])?["total"] == 1);
    ensure!(audited(&pipeline)?.is_empty());
    let nothing = visitor
        .get("/console/dead-letters/order?act=replay&stage=index")?
        .ok()?;
    nothing.has("There is nothing to do.")?;
    ensure!(visitor.get("/console/dead-letters/order?act=burn")?.status == 400);

    pipeline.write(
        "docs/birds.txt",
        "Penguins huddle together against the antarctic storm.\n",
    )?;
    let done = visitor.post("/console/dead-letters/order", &REPLAY)?.ok()?;
    done.has("1 of 1 dead letters were replayed.")?;
    eventually("it is found", LONG, || {
        let page = visitor
            .get("/console/search?q=flightless+birds+in+the+cold")?
            .ok()?;
        Ok(page.body.contains("birds.txt").then_some(()))
    })?;
    let listed = pipeline.json(&["dlq", "list", "--all"])?;
    ensure!(listed["total"] == 0 && listed["replayed"] == 1, "{listed}");
    visitor
        .get("/console/dead-letters?all=yes")?
        .ok()?
        .has("by anybody@console")?;
    let again = visitor.post("/console/dead-letters/order", &REPLAY)?.ok()?;
    again.has("There was nothing to do any more.")?;
    let events = audited(&pipeline)?;
    let phases: Vec<&str> = events.iter().map(|(_, phase, _)| phase.as_str()).collect();
    ensure!(phases == ["begun", "done"], "{events:?}");
    ensure!(
        events[1].0 == "dlq.replay" && events[1].2["counts"]["replayed"] == 1,
        "{events:?}"
    );
    ensure!(events[0].2["arguments"]["stage"] == "extract", "{events:?}");
    up.leave()
}

#[test]
fn a_record_that_fails_each_time_stops_at_its_cap() -> anyhow::Result<()> {
    let (pipeline, up) = with_a_dead_letter()?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    for count in 1..=2 {
        let done = visitor.post("/console/dead-letters/order", &REPLAY)?.ok()?;
        done.has("1 of 1 dead letters were replayed.")?;
        eventually("it fails again", LONG, || {
            let shown = pipeline.json(&["dlq", "show"])?;
            Ok((shown["records"][0]["replay_count"] == count).then_some(()))
        })?;
    }
    let capped = visitor
        .get("/console/dead-letters/order?act=replay")?
        .ok()?;
    capped.has("There is nothing to do.")?;
    capped.has("1 were replayed often enough and stay open.")?;
    visitor
        .post("/console/dead-letters/order", &REPLAY)?
        .ok()?
        .has("nothing to do any more")?;
    ensure!(pipeline.json(&["dlq", "list"])?["total"] == 1);

    let discarded = visitor
        .post("/console/dead-letters/order", &[("act", "discard")])?
        .ok()?;
    discarded.has("1 of 1 dead letters were discarded.")?;
    ensure!(pipeline.json(&["dlq", "list"])?["total"] == 0);
    up.leave()
}

#[test]
fn a_group_that_runs_is_not_moved_and_another_is() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    let running = "millrace.rekey";
    let refused = visitor.get(&format!(
        "/console/groups/reset?group={running}&to=earliest&topic=behavior"
    ))?;
    ensure!(refused.status == 409, "{}", refused.body);
    refused.has("has members")?;
    let fields = [
        ("group", running),
        ("to", "earliest"),
        ("topic", "behavior"),
    ];
    ensure!(visitor.post("/console/groups/reset", &fields)?.status == 409);
    let own = visitor.get("/console/groups/reset?group=millrace.joiner.000001&to=earliest")?;
    ensure!(own.status == 409, "{}", own.body);
    own.has("rebuild joiner")?;
    ensure!(audited(&pipeline)?.is_empty());

    let query = "group=mine&to=latest&topic=documents";
    let plan = visitor
        .get(&format!("/console/groups/reset?{query}"))?
        .ok()?;
    plan.has("Nothing was changed yet.")?;
    ensure!(audited(&pipeline)?.is_empty());
    let fields = [("group", "mine"), ("to", "latest"), ("topic", "documents")];
    // What was not shown is not done.
    let unseen = visitor.post("/console/groups/reset", &fields)?;
    ensure!(unseen.status == 409, "{}", unseen.body);
    unseen.has("no longer what the page showed")?;
    ensure!(audited(&pipeline)?.is_empty());
    let planned = plan.body.split("name=\"planned\" value=\"").nth(1);
    let planned = planned.and_then(|rest| rest.split('"').next());
    let planned = planned.context("the plan is in the form")?;
    let planned = planned.replace("&gt;", ">");
    let fields = [&fields[..], &[("planned", &planned)]].concat();
    let moved = visitor.post("/console/groups/reset", &fields)?.ok()?;
    moved.has("mine resumes elsewhere on 6 partitions.")?;
    let again = visitor.post("/console/groups/reset", &fields)?.ok()?;
    again.has("It stood there already.")?;
    let lag = pipeline.json(&["lag", "--group", "mine", "--over", "0"])?;
    ensure!(lag["groups"][0]["lag"] == 0, "{lag}");
    let events = audited(&pipeline)?;
    ensure!(
        events.len() == 2 && events[1].0 == "topics.reset_offsets",
        "{events:?}"
    );
    ensure!(
        events[1].1 == "done" && events[1].2["who"] == "anybody@console",
        "{events:?}"
    );
    for wrong in [
        "to=offset",
        "to=offset&offset=-1",
        "to=time&time=soon",
        "to=moon",
    ] {
        let answer = visitor.get(&format!("/console/groups/reset?group=mine&{wrong}"))?;
        ensure!(answer.status == 400, "{wrong}: {}", answer.body);
    }
    up.leave()
}

#[test]
fn a_test_record_is_published_and_shown() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    let fields = [
        ("record-key", "ada"),
        ("headers", "colour: blue\n"),
        ("value", "one\r\ntwo"),
    ];
    let sent = visitor.post("/console/topics/users/produce", &fields)?;
    ensure!(sent.status == 303, "{}", sent.body);
    let page = visitor.get(sent.header("location"))?.ok()?;
    for part in [
        "The record was published",
        "colour",
        "blue",
        "millrace.test",
        "anybody@console",
        "one\ntwo",
    ] {
        page.has(part)?;
    }
    let peeked = pipeline.json(&["peek", "users"])?;
    ensure!(
        peeked["records"][0]["key"] == "ada" && peeked["records"][0]["value"] == "one\ntwo",
        "{peeked}"
    );
    for closed in ["audit", "dlq.resolved"] {
        let answer = visitor.post(&format!("/console/topics/{closed}/produce"), &fields)?;
        ensure!(answer.status == 400, "{closed}: {}", answer.body);
    }
    let nameless = visitor.post("/console/topics/users/produce", &[("headers", ": x")])?;
    ensure!(nameless.status == 400, "{}", nameless.body);
    let events = audited(&pipeline)?;
    ensure!(events.len() == 2, "{events:?}");
    ensure!(
        events[0].2["arguments"]["topic"] == "millrace.users",
        "{events:?}"
    );
    up.leave()
}
