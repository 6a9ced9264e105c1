//! Pages that only look: figures, records by page and filter, search beside search.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use bytes::Bytes;
use millrace_kafka::RawRecord;

use super::{LONG, Visitor, kafka, publish};
use crate::harness::{Pipeline, Target, eventually};

#[test]
fn figures_are_those_of_the_topics_and_groups() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let note = pipeline.write("note.txt", "A note about tides.\n")?;
    pipeline.ingest(&note)?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    eventually("the document is in the figures", LONG, || {
        let seen = visitor.get("/console/flow.json")?.ok()?;
        let seen: serde_json::Value = serde_json::from_str(&seen.body)?;
        let figures = &seen["figures"];
        let done = figures["records documents"] == "1"
            && figures["records signals"] == "1"
            && figures["lag vectorizer"] == "0"
            && seen["marks"]["vectorizer"] == "OK"
            && figures["rate documents"]
                .as_str()
                .is_some_and(|rate| rate != "–/s");
        Ok(done.then_some(()))
    })?;
    let page = visitor.get("/console/")?.ok()?;
    for part in [
        "<svg",
        "aria-labelledby=\"flow-title flow-description\"",
        "<th scope=\"row\">joiner</th>",
    ] {
        page.has(part)?;
    }
    page.has("All consumers keep up. There are no dead letters.")?;
    visitor
        .get("/console/groups")?
        .ok()?
        .has("millrace.rekey")?;
    visitor.get("/console/models")?.ok()?.has("In use")?;
    up.leave()
}

/// The keys that a page lists, and where its link of this relation leads.
fn listed(page: &str, relation: &str) -> (Vec<String>, Option<String>) {
    let keys = page.match_indices("key-").filter_map(|(at, _)| {
        let key: String = page[at..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '-')
            .collect();
        (key.len() == 7).then_some(key)
    });
    let link = page.split_once(&format!("rel=\"{relation}\" href=\""));
    let link = link.and_then(|(_, rest)| rest.split_once('"'));
    (
        keys.collect(),
        link.map(|(link, _)| link.replace("&amp;", "&")),
    )
}

#[test]
fn records_are_paged_and_filtered() -> anyhow::Result<()> {
    const RECORDS: usize = 130;
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let kafka = kafka(&up);
    let record = |n: usize| RawRecord {
        topic: kafka.topic("users"),
        key: Some(Bytes::from(format!("key-{n:03}"))),
        value: Some(Bytes::from(format!(
            "Value {}",
            if n % 50 == 7 { "odd one" } else { "plain" }
        ))),
        timestamp_ms: Some(1_700_000_000_000 + n as i64),
        ..RawRecord::default()
    };
    publish(&kafka, (0..RECORDS).map(record).collect())?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");

    let mut seen = BTreeSet::new();
    let mut path = "/console/topics/users".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = visitor.get(&path)?.ok()?;
        let (keys, older) = listed(&page.body, "next");
        ensure!(keys.len() <= 50, "{} keys", keys.len());
        let before = seen.len();
        seen.extend(keys.iter().cloned());
        ensure!(
            seen.len() == before + keys.len(),
            "a record stands on two pages"
        );
        pages.push((path, keys));
        match older {
            Some(older) => path = older,
            None => break,
        }
        ensure!(pages.len() < 20, "it never ends");
    }
    ensure!(seen.len() == RECORDS, "{} of {RECORDS}", seen.len());
    // Back again from the last page: all the others, each once.
    let (last, on_it) = pages.pop().context("there are pages")?;
    let mut back: BTreeSet<String> = on_it.iter().cloned().collect();
    let mut page = visitor.get(&last)?.ok()?;
    while let (_, Some(newer)) = listed(&page.body, "prev") {
        page = visitor.get(&newer)?.ok()?;
        let (keys, _) = listed(&page.body, "prev");
        let before = back.len();
        back.extend(keys.iter().cloned());
        ensure!(
            back.len() == before + keys.len() && keys.len() <= 50,
            "a record stands on two pages"
        );
    }
    ensure!(back == seen, "{} of {RECORDS}", back.len());

    let keys_of = |query: &str| {
        let page = visitor
            .get(&format!("/console/topics/users?{query}"))?
            .ok()?;
        let (mut keys, _) = listed(&page.body, "next");
        // The form repeats what was asked for.
        keys.sort();
        keys.dedup();
        anyhow::Ok(keys)
    };
    ensure!(keys_of("text=ODD")? == ["key-007", "key-057", "key-107"]);
    ensure!(keys_of("key=key-12")?.len() == 10);
    ensure!(keys_of("text=nowhere")?.is_empty());
    let to = "to=2023-11-14T22:13:20.005Z";
    ensure!(keys_of(to)?.len() == 5, "{:?}", keys_of(to)?);
    ensure!(keys_of("from=2023-11-14T22:13:20.120Z")?.len() == 10);
    ensure!(keys_of("partition=99").is_err());
    let wrong = visitor.get("/console/topics/users?from=soon")?;
    ensure!(wrong.status == 400, "{}", wrong.body);
    wrong.has("-N for N records before the end")?;
    let wrong = visitor.get("/console/topics/users?older=x")?;
    ensure!(wrong.status == 400, "{}", wrong.body);
    up.leave()
}

#[test]
fn two_rankings_stand_side_by_side() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    // One has the words, the other the meaning.
    pipeline.write(
        "docs/words.txt",
        "A list of words: jaguar speed, jaguar speed, jaguar speed.\n",
    )?;
    pipeline.write(
        "docs/meaning.txt",
        "The big cat runs as fast as a car through the rain forest.\n",
    )?;
    pipeline.ingest(&pipeline.path("docs"))?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    eventually("both are found", LONG, || {
        let page = visitor
            .get("/console/search?q=how+fast+is+a+wild+feline")?
            .ok()?;
        Ok((page.body.matches("meaning.txt").count() >= 2).then_some(()))
    })?;
    let same = visitor
        .get("/console/search/rankings?q=jaguar+speed&bm25=0.3&vector=0.7")?
        .ok()?;
    same.has("Both rankings are the same.")?;
    same.has("words 0.30, meaning 0.70")?;
    let other = visitor
        .get("/console/search/rankings?q=jaguar+speed&bm25=1&vector=0")?
        .ok()?;
    other.has("words 1.00, meaning 0.00")?;
    for wrong in ["bm25=0&vector=0", "bm25=NaN", "bm25=7"] {
        let answer = visitor.get(&format!("/console/search?q=x&{wrong}"))?;
        ensure!(answer.status == 400, "{wrong}: {}", answer.body);
    }
    ensure!(visitor.get("/console/search/rankings?q=")?.status == 400);
    up.leave()
}
