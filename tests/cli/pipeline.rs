//! Documents in, documents found; the same on both targets.

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::Value;

use crate::harness::{Pipeline, Target, on_both_targets, text};

on_both_targets!(
    a_folder_becomes_searchable_by_meaning,
    several_paths_are_one_publication,
    a_corpus_is_one_document_a_line,
    ingesting_twice_changes_nothing,
    a_changed_file_replaces_what_was_indexed,
    what_became_of_each_document_is_told,
    dead_letters_keep_the_document_and_the_reason,
    topics_are_created_once_and_described,
);

fn three_documents(pipeline: &Pipeline) -> anyhow::Result<PathBuf> {
    pipeline.write(
        "docs/shark.md",
        "# The beach\n\nA great white terrorises swimmers until the police chief hunts it at sea.\n",
    )?;
    pipeline.write(
        "docs/space.html",
        "<html><head><title>Orbit</title></head><body><p>Astronauts repair a telescope high \
         above the planet.</p></body></html>",
    )?;
    pipeline.write(
        "docs/bread.txt",
        "Knead the dough, let it rest overnight, bake the loaf in a hot oven.\n",
    )?;
    Ok(pipeline.path("docs"))
}

fn count(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or(u64::MAX)
}

fn a_folder_becomes_searchable_by_meaning(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let summary = pipeline.ingest(&three_documents(&pipeline)?)?;
    ensure!(
        count(&summary, "documents") == 3 && count(&summary, "indexed") == 3,
        "{summary}"
    );
    ensure!(count(&summary, "chunks") >= 3 && summary["tokens_per_second"].is_number());
    // None of these words is in the documents.
    ensure!(pipeline.search("dangerous fish attacks tourists")?[0] == "shark.md");
    ensure!(pipeline.search("cosmonauts in a spacecraft")?[0] == "space.html");
    let answer = pipeline.json(&["search", "telescope", "--mode", "text", "-k", "1"])?;
    let hit = &answer["hits"][0];
    for key in ["doc_id", "uri", "title", "score", "text_score", "snippet"] {
        ensure!(!hit[key].is_null(), "{key} is missing: {hit}");
    }
    ensure!(
        hit["title"] == "Orbit" && hit["vector_score"].is_null(),
        "{hit}"
    );
    Ok(())
}

fn several_paths_are_one_publication(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let folder = three_documents(&pipeline)?;
    let note = pipeline.write("note.txt", "Tide tables of the northern harbours.")?;
    let lines = pipeline.write("lines.jsonl", "{\"_id\":\"a\",\"text\":\"A sundial.\"}\n")?;
    let paths = [text(&folder)?, text(&note)?, text(&lines)?];
    let summary = pipeline.json(&[&["ingest"], &paths[..]].concat())?;
    ensure!(
        count(&summary, "documents") == 5 && count(&summary, "indexed") == 5,
        "{summary}"
    );
    ensure!(pipeline.search("tides in a harbour")?[0] == "note.txt");
    Ok(())
}

fn a_corpus_is_one_document_a_line(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let corpus = pipeline.write(
        "corpus.jsonl",
        "{\"_id\":\"a1\",\"title\":\"Whales\",\"text\":\"The largest mammals of the sea.\"}\n\
         {\"_id\":\"b2\",\"title\":\"\",\"text\":\"A bridge of steel across the river.\"}\n",
    )?;
    let summary = pipeline.ingest(&corpus)?;
    ensure!(
        count(&summary, "documents") == 2 && count(&summary, "chunks") == 2,
        "{summary}"
    );
    ensure!(pipeline.search("huge ocean animals")?[0] == "corpus.jsonl#a1");
    let line = format!("{}#a1", crate::harness::text(&corpus)?);
    let status = pipeline.json(&["status", &line])?;
    ensure!(status["outcome"] == "indexed", "{status}");
    Ok(())
}

fn ingesting_twice_changes_nothing(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let folder = three_documents(&pipeline)?;
    pipeline.ingest(&folder)?;
    let before = pipeline.search("astronauts")?;
    let again = pipeline.ingest(&folder)?;
    ensure!(
        count(&again, "documents") == 3 && count(&again, "dead_lettered") == 0,
        "{again}"
    );
    ensure!(pipeline.search("astronauts")? == before);
    Ok(())
}

fn a_changed_file_replaces_what_was_indexed(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let folder = three_documents(&pipeline)?;
    pipeline.ingest(&folder)?;
    pipeline.write("docs/bread.txt", "Volcanoes pour lava into the valley.\n")?;
    pipeline.ingest(&folder)?;
    ensure!(pipeline.search("eruption of molten rock")?[0] == "bread.txt");
    let text = pipeline.json(&["search", "dough oven loaf", "--mode", "text"])?;
    ensure!(
        text["hits"].as_array().is_some_and(Vec::is_empty),
        "the old text is found: {text}"
    );
    Ok(())
}

fn what_became_of_each_document_is_told(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    pipeline.ingest(&three_documents(&pipeline)?)?;
    let path = pipeline.path("docs/shark.md");
    let status = pipeline.json(&["status", crate::harness::text(&path)?])?;
    ensure!(
        status["outcome"] == "indexed" && status["indexed"]["chunks"] == 1,
        "{status}"
    );
    let lag = pipeline.json(&["lag"])?;
    let partitions = lag["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(!partitions.is_empty(), "{lag}");
    ensure!(
        partitions.iter().all(|partition| partition["lag"] == 0),
        "{lag}"
    );
    let records = pipeline.json(&["peek", "documents", "-n", "2"])?;
    ensure!(
        records["records"]
            .as_array()
            .is_some_and(|records| records.len() == 2),
        "{records}"
    );
    ensure!(
        records["records"][0]["value"]["uri"].is_string(),
        "not decoded: {records}"
    );
    let signals = pipeline.json(&["peek", "signals", "-n", "3"])?;
    ensure!(
        signals["records"]
            .as_array()
            .is_some_and(|records| records.len() == 3),
        "{signals}"
    );
    Ok(())
}

fn dead_letters_keep_the_document_and_the_reason(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let folder = three_documents(&pipeline)?;
    pipeline.write("docs/photo.raw", [0u8, 159, 146, 150, 0, 1, 2, 3])?;
    let summary = pipeline.ingest(&folder)?;
    ensure!(
        count(&summary, "indexed") == 3 && count(&summary, "dead_lettered") == 1,
        "{summary}"
    );
    let listed = pipeline.json(&["dlq", "list"])?;
    ensure!(listed["total"] == 1, "{listed}");
    ensure!(listed["groups"][0]["stage"] == "extract", "{listed}");
    let shown = pipeline.json(&["dlq", "show"])?;
    let letter = &shown["records"][0];
    ensure!(
        letter["key"]
            .as_str()
            .is_some_and(|key| key.ends_with("photo.raw")),
        "{shown}"
    );
    ensure!(
        letter["origin"]["offset"].is_number() && letter["error_type"].is_string(),
        "{shown}"
    );
    Ok(())
}

fn topics_are_created_once_and_described(target: Target) -> anyhow::Result<()> {
    let pipeline = Pipeline::new(target)?;
    let created = pipeline.json(&["topics", "create"])?;
    ensure!(
        created["created"]
            .as_array()
            .is_some_and(|topics| topics.len() >= 4),
        "{created}"
    );
    let again = pipeline.json(&["topics", "create"])?;
    ensure!(
        again["created"].as_array().is_some_and(Vec::is_empty),
        "{again}"
    );
    let described = pipeline.json(&["topics", "describe", "signals"])?;
    ensure!(described["cleanup_policy"] == "compact", "{described}");
    ensure!(
        pipeline
            .failure(&["topics", "describe", "sginals"])?
            .contains("signals")
    );
    Ok(())
}
