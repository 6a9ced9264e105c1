//! `rollout`: another model's index beside the one that serves, and in its place, under traffic.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_kafka::{Admin, KafkaConfig, topics};
use millrace_models::ModelStore;
use millrace_schemas::DocId;
use serde_json::{Value, json};

use crate::answers;
use crate::harness::{Pipeline, Target, Up, eventually, on_both_targets, text};
use crate::recommendations::now_ms;

on_both_targets![
    a_rollout_under_traffic_fails_nothing_and_mixes_nothing,
    a_rollout_goes_on_after_a_kill_and_can_be_given_up,
    what_the_topic_no_longer_has_is_made_of_the_stored_text,
];

/// How long anything may take: models are loaded in debug builds, on a busy machine.
const LONG: Duration = Duration::from_secs(240);
/// Times are told; tests that share two cores say nothing of them.
const SWITCH: [&str; 7] = [
    "rollout",
    "switch",
    "--without-judgements",
    "--sample",
    "20",
    "--latency-factor",
    "20",
];
/// Components of the vectors that the second model turns round.
const TURNED: usize = 192;
const LAST_NORM: &str = "encoder.layer.5.output.LayerNorm";

/// A store with `emb:v1`, which serves, and `emb:v2`: the same model with half of the components turned
/// round. Its cosines among themselves are the same, and with the other's mean nothing: an answer whose
/// query and documents are not of one model shows itself.
fn models(pipeline: &mut Pipeline) -> anyhow::Result<Versions> {
    let real = ModelStore::from_env()?.folder("all-MiniLM-L6-v2");
    pipeline.set("MILLRACE_MODELS", text(&pipeline.path("models"))?);
    pipeline.set("MILLRACE_MODEL__NAME", "emb:v1");
    let one = pipeline.json(&["model", "import", text(&real)?, "--as", "emb:v1"])?;
    let turned = pipeline.path("turned");
    copy(&pipeline.path("models/emb:v1"), &turned)?;
    turn(&turned.join("model.safetensors"))?;
    std::fs::remove_file(turned.join("millrace.json")).ok();
    let two = pipeline.json(&["model", "import", text(&turned)?, "--as", "emb:v2"])?;
    let version = |card: &Value| card["version"].as_str().map(str::to_owned);
    let versions = [&one, &two].map(version);
    ensure!(versions[0] != versions[1], "{versions:?}");
    let [one, two] = versions.map(Option::unwrap_or_default);
    Ok(Versions([one, two]))
}

/// What the models of the first and of the second generation are called.
struct Versions([String; 2]);

impl Versions {
    /// Of a generation, by its number.
    fn of(&self, generation: u32) -> &str {
        &self.0[generation as usize - 1]
    }

    /// Whether an answer is of one generation: of the model that this has, and with the cosine that a
    /// text has with itself where query and documents are of one model.
    fn is_one(&self, answer: &Value) -> anyhow::Result<bool> {
        let version = answer["embedding_version"].as_str().context("a model")?;
        let named = version == self.of(generation(answer)?);
        let best = answer["hits"][0]["vector_score"].as_f64();
        Ok(named && best.is_some_and(|cosine| cosine > 0.95))
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(())
}

/// Changes the sign of what the last layer scales and shifts the first components by.
fn turn(weights: &Path) -> anyhow::Result<()> {
    let mut bytes = std::fs::read(weights)?;
    let (length, rest) = bytes.split_first_chunk::<8>().context("a header")?;
    let header_bytes = usize::try_from(u64::from_le_bytes(*length))?;
    let header: Value = serde_json::from_slice(&rest[..header_bytes])?;
    for tensor in ["weight", "bias"] {
        let offset = &header[format!("{LAST_NORM}.{tensor}")]["data_offsets"][0];
        let offset = usize::try_from(offset.as_u64().context("the tensor is there")?)?;
        for component in 0..TURNED {
            // The sign is in the last of four bytes.
            bytes[8 + header_bytes + offset + component * 4 + 3] ^= 0x80;
        }
    }
    std::fs::write(weights, bytes)?;
    Ok(())
}

fn passage(number: usize) -> String {
    const PLACES: [&str; 5] = ["harbour", "orchard", "glacier", "workshop", "theatre"];
    const DOINGS: [&str; 4] = ["repairs", "paints", "measures", "guards"];
    let (place, doing) = (PLACES[number % 5], DOINGS[number / 5 % 4]);
    format!(
        "Number {number} of the {place} {doing} lantern {}.",
        number * 7
    )
}

/// Lines of a corpus, each its own document.
fn corpus(
    pipeline: &Pipeline,
    name: &str,
    numbers: std::ops::Range<usize>,
) -> anyhow::Result<String> {
    let line = |number| json!({"_id": format!("p{number}"), "title": "", "text": passage(number)});
    let lines: Vec<String> = numbers.map(|number| line(number).to_string()).collect();
    let path = pipeline.write(name, lines.join("\n"))?;
    Ok(text(&path)?.to_owned())
}

fn judged(pipeline: &Pipeline, numbers: std::ops::Range<usize>) -> anyhow::Result<String> {
    let mut qrels = "query-id\tcorpus-id\tscore\n".to_owned();
    let mut queries = String::new();
    for number in numbers {
        qrels.push_str(&format!("q{number}\tp{number}\t1\n"));
        let query = json!({"_id": format!("q{number}"), "text": passage(number)});
        queries.push_str(&format!("{query}\n"));
    }
    pipeline.write("judged/qrels/test.tsv", qrels)?;
    let queries = pipeline.write("judged/queries.jsonl", queries)?;
    Ok(text(queries.parent().context("a folder")?)?.to_owned())
}

/// One hybrid search: status and answer.
pub fn search(up: &Up, query: &str) -> anyhow::Result<(u16, Value)> {
    let body = json!({"query": query, "k": 3}).to_string();
    up.http(
        "/v1/search",
        &["-H", "content-type: application/json", "-d", &body],
    )
}

/// Number of the generation that an answer names.
pub fn generation(answer: &Value) -> anyhow::Result<u32> {
    let index = answer["index_version"]
        .as_str()
        .context("the answer names its index")?;
    let (_, number) = index.rsplit_once('-').context("a generation")?;
    Ok(number.parse()?)
}

/// Searches until `stop`, and counts.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    asked: AtomicU64,
    failed: AtomicU64,
    mixed: AtomicU64,
    of_new: AtomicU64,
}

impl Traffic {
    fn run(&self, up: &Up, documents: usize, versions: &Versions) -> anyhow::Result<()> {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number = (number + 1) % documents;
            let (status, answer) = search(up, &passage(number))?;
            self.asked.fetch_add(1, Ordering::Relaxed);
            if status != 200 {
                self.failed.fetch_add(1, Ordering::Relaxed);
            } else if !versions.is_one(&answer)? {
                self.mixed.fetch_add(1, Ordering::Relaxed);
                eprintln!("mixed: {answer}");
            } else if generation(&answer)? == 2 {
                self.of_new.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

pub fn phase(status: &Value) -> &str {
    status["rollout"]["phase"].as_str().unwrap_or_default()
}

/// Ingests further documents until `stop`; the first number that is not used.
fn ingest_on(pipeline: &Pipeline, traffic: &Traffic, first: usize) -> anyhow::Result<usize> {
    let mut next = first;
    while !traffic.stop.load(Ordering::Relaxed) {
        let path = corpus(pipeline, &format!("live-{next}.jsonl"), next..next + 3)?;
        let done = pipeline.json(&["ingest", &path])?;
        ensure!(done["indexed"] == 3, "{done}");
        next += 3;
    }
    Ok(next)
}

fn a_rollout_under_traffic_fails_nothing_and_mixes_nothing(target: Target) -> anyhow::Result<()> {
    const DOCUMENTS: usize = 40;
    let mut pipeline = Pipeline::new(target)?;
    let versions = models(&mut pipeline)?;
    // On the servers `up` has no state for recommendations; there they are not asked for.
    let up = serve(&pipeline, target)?;
    pipeline.json(&["ingest", &corpus(&pipeline, "corpus.jsonl", 0..DOCUMENTS)?])?;
    let judged = judged(&pipeline, 0..DOCUMENTS)?;

    let refused = pipeline.failure(&["rollout", "start", "--model", "nowhere"])?;
    ensure!(refused.contains("nowhere"), "{refused}");
    let refused = pipeline.failure(&["rollout", "start", "--model", "emb:v1"])?;
    ensure!(refused.contains("is the model that serves"), "{refused}");
    let refused = pipeline.failure(&["rollout", "switch", "--without-judgements"])?;
    ensure!(refused.contains("no rollout"), "{refused}");
    let plan = pipeline.json(&["rollout", "start", "--model", "emb:v2", "--dry-run"])?;
    ensure!(
        plan["documents"] == DOCUMENTS && plan["to"]["generation"] == 2,
        "{plan}"
    );
    ensure!(plan["chunks_per_second"].as_f64() > Some(0.0), "{plan}");

    let traffic = Traffic::default();
    let written = std::thread::scope(|scope| -> anyhow::Result<usize> {
        let searching = scope.spawn(|| traffic.run(&up, DOCUMENTS, &versions));
        let ingesting = scope.spawn(|| ingest_on(&pipeline, &traffic, DOCUMENTS));
        let rolled = roll_out(&pipeline, &up, &judged);
        traffic.stop.store(true, Ordering::Relaxed);
        searching.join().expect("it does not panic")?;
        let written = ingesting.join().expect("it does not panic")?;
        rolled.map(|()| written)
    })?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ensure!(
        count(&traffic.failed) == 0,
        "{} failed",
        count(&traffic.failed)
    );
    ensure!(
        count(&traffic.mixed) == 0,
        "{} mixed",
        count(&traffic.mixed)
    );
    let (asked, of_new) = (count(&traffic.asked), count(&traffic.of_new));
    ensure!(of_new > 0 && of_new < asked, "{of_new} of {asked}");

    // Killed after the switch, it goes on in it.
    up.signal("-KILL")?;
    let mut killed = up;
    killed.wait(LONG)?;
    drop(killed);
    let up = serve(&pipeline, target)?;
    let status = pipeline.json(&["rollout", "status"])?;
    ensure!(phase(&status) == "switched", "{status}");
    let (_, answer) = search(&up, &passage(1))?;
    ensure!(
        generation(&answer)? == 2 && versions.is_one(&answer)?,
        "{answer}"
    );

    let finished = pipeline.json(&["rollout", "finish", "--delete-old", "--yes"])?;
    ensure!(phase(&finished) == "finished", "{finished}");
    if target == Target::Embedded {
        let old = pipeline.path("data/index/millrace-documents-000001");
        ensure!(!old.exists(), "the old generation is there still");
    }
    let last = corpus(&pipeline, "last.jsonl", written..written + 2)?;
    let done = pipeline.json(&["ingest", &last])?;
    ensure!(done["indexed"] == 2, "{done}");
    // All that was ever taken is there, whichever generation served when it came.
    for number in 0..written + 2 {
        let (status, answer) = search(&up, &passage(number))?;
        ensure!(
            status == 200 && versions.is_one(&answer)?,
            "{number}: {answer}"
        );
        let uri = answer["hits"][0]["uri"].as_str().unwrap_or_default();
        ensure!(uri.ends_with(&format!("#p{number}")), "{number}: {answer}");
    }
    up.leave()?;

    // The configuration names the old model still; what serves is the new one's.
    let up = serve(&pipeline, target)?;
    let (_, answer) = search(&up, &passage(2))?;
    ensure!(
        generation(&answer)? == 2 && versions.is_one(&answer)?,
        "{answer}"
    );
    up.leave()?;
    let audited = pipeline.json(&["peek", "audit", "-n", "100"])?.to_string();
    for action in ["start", "switch", "rollback", "finish"] {
        ensure!(audited.contains(&format!("rollout.{action}")), "{action}");
    }
    Ok(())
}

/// From the beginning to the second switch.
fn roll_out(pipeline: &Pipeline, up: &Up, judged: &str) -> anyhow::Result<()> {
    pipeline.json(&["rollout", "start", "--model", "emb:v2"])?;
    let refused = pipeline.failure(&["rollout", "start", "--model", "emb:v2"])?;
    ensure!(refused.contains("a rollout is"), "{refused}");
    let refused = pipeline.failure(&["rollout", "finish", "--yes"])?;
    ensure!(refused.contains("takes one that is switched"), "{refused}");
    let ready = pipeline.json(&["rollout", "status", "--watch"])?;
    ensure!(phase(&ready) == "ready", "{ready}");
    let refused = pipeline.failure(&["rollout", "switch"])?;
    ensure!(refused.contains("--judged"), "{refused}");
    let looked = pipeline.output(&["rollout", "switch", "--dry-run"])?;
    ensure!(
        looked.status.code() == Some(1),
        "unjudged, it would be refused"
    );

    let switched = pipeline.json(&[
        "rollout",
        "switch",
        "--sample",
        "20",
        "--latency-factor",
        "20",
        "--judged",
        judged,
    ])?;
    ensure!(switched["switched"] == true, "{switched}");
    let gates = switched["gates"].as_array().context("gates")?;
    let verdicts: BTreeMap<&str, &str> = gates
        .iter()
        .filter_map(|gate| Some((gate["gate"].as_str()?, gate["verdict"].as_str()?)))
        .collect();
    ensure!(verdicts.len() == 6, "{verdicts:?}");
    // Nobody has clicked anything.
    ensure!(
        verdicts
            .iter()
            .all(|(gate, verdict)| *verdict == "passed" || *gate == "ranking"),
        "{gates:?}"
    );
    let (_, answer) = search(up, &passage(3))?;
    ensure!(generation(&answer)? == 2, "{answer}");
    let refused = pipeline.failure(&["rollout", "abort", "--yes"])?;
    ensure!(refused.contains("rollback"), "{refused}");

    let back = pipeline.json(&["rollout", "rollback"])?;
    ensure!(phase(&back) == "rolled_back", "{back}");
    let (_, answer) = search(up, &passage(3))?;
    ensure!(generation(&answer)? == 1, "{answer}");
    pipeline.json(&SWITCH)?;
    let (_, answer) = search(up, &passage(3))?;
    ensure!(generation(&answer)? == 2, "{answer}");
    Ok(())
}

/// `up` on the folder; on the servers the role that writes and answers.
pub fn serve(pipeline: &Pipeline, target: Target) -> anyhow::Result<Up> {
    match target {
        Target::Embedded => pipeline.up(&[]),
        Target::Real => pipeline.serve(&["run", "vectorizer"]),
    }
}

fn a_rollout_goes_on_after_a_kill_and_can_be_given_up(target: Target) -> anyhow::Result<()> {
    const DOCUMENTS: usize = 150;
    let mut pipeline = Pipeline::new(target)?;
    let versions = models(&mut pipeline)?;
    let mut up = serve(&pipeline, target)?;
    pipeline.json(&["ingest", &corpus(&pipeline, "corpus.jsonl", 0..DOCUMENTS)?])?;
    let begun = pipeline.json(&["rollout", "start", "--model", "emb:v2"])?;
    ensure!(phase(&begun) == "building", "{begun}");
    up.signal("-KILL")?;
    up.wait(LONG)?;
    drop(up);

    let up = serve(&pipeline, target)?;
    let (_, answer) = search(&up, &passage(5))?;
    ensure!(
        generation(&answer)? == 1 && versions.is_one(&answer)?,
        "{answer}"
    );
    let ready = pipeline.json(&["rollout", "status", "--watch"])?;
    ensure!(phase(&ready) == "ready", "{ready}");
    ensure!(
        ready["progress"]["new"]["documents"] == DOCUMENTS,
        "{ready}"
    );
    let would = pipeline.json(&["rollout", "abort", "--dry-run"])?;
    ensure!(would["removes"] == 2 && phase(&would) == "ready", "{would}");
    let aborted = pipeline.json(&["rollout", "abort", "--yes"])?;
    ensure!(phase(&aborted) == "aborted", "{aborted}");
    if target == Target::Embedded {
        let new = pipeline.path("data/index/millrace-documents-000002");
        ensure!(!new.exists(), "the new generation is there still");
    }
    let more = corpus(&pipeline, "more.jsonl", DOCUMENTS..DOCUMENTS + 2)?;
    let done = pipeline.json(&["ingest", &more])?;
    ensure!(done["indexed"] == 2, "{done}");
    let (status, answer) = search(&up, &passage(DOCUMENTS))?;
    ensure!(
        status == 200 && generation(&answer)? == 1 && versions.is_one(&answer)?,
        "{answer}"
    );
    let again = pipeline.json(&["rollout", "abort", "--yes"])?;
    ensure!(
        phase(&again) == "aborted",
        "given again it changes nothing: {again}"
    );
    up.leave()
}

fn what_the_topic_no_longer_has_is_made_of_the_stored_text(target: Target) -> anyhow::Result<()> {
    const DOCUMENTS: usize = 12;
    let mut pipeline = Pipeline::new(target)?;
    let versions = models(&mut pipeline)?;
    pipeline.json(&["ingest", &corpus(&pipeline, "corpus.jsonl", 0..DOCUMENTS)?])?;
    pipeline.with_kafka(|kafka| {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let topic = kafka.topic(topics::DOCUMENTS);
            let admin = Admin::connect(&kafka)?;
            let ends = admin.end_offsets(&topic).await?;
            let ends: BTreeMap<i32, i64> = ends.into_iter().filter(|(_, end)| *end > 0).collect();
            admin.delete_records(&topic, &ends).await?;
            anyhow::Ok(())
        })
    })?;
    let up = serve(&pipeline, target)?;
    pipeline.json(&["rollout", "start", "--model", "emb:v2"])?;
    let ready = pipeline.json(&["rollout", "status", "--watch"])?;
    ensure!(phase(&ready) == "ready", "{ready}");
    ensure!(ready["rollout"]["filled"] == DOCUMENTS, "{ready}");
    let switched = pipeline.json(&SWITCH)?;
    ensure!(switched["switched"] == true, "{switched}");
    for number in 0..DOCUMENTS {
        let (status, answer) = search(&up, &passage(number))?;
        ensure!(status == 200 && generation(&answer)? == 2, "{answer}");
        ensure!(versions.is_one(&answer)?, "{answer}");
    }
    // Their signals are there in the new model's space, so that they can be recommended.
    let signals = pipeline.json(&["peek", "signals", "-n", "1000"])?;
    let of_new = signals["records"].as_array().context("records")?.iter();
    let of_new = of_new.filter(|record| {
        record["key"]
            .as_str()
            .is_some_and(|key| key.ends_with(versions.of(2)))
    });
    ensure!(of_new.count() == DOCUMENTS, "{signals}");
    up.leave()
}

const USERS: [&str; 3] = ["ada", "bea", "cem"];
/// Documents that all of them clicked, and that their answers did not have.
const LIKED: [usize; 4] = [0, 5, 10, 3];

/// Answers of which something was clicked, as the labeler writes them.
fn publish_answers(up: &Up, path: &str) -> anyhow::Result<()> {
    let kafka = KafkaConfig {
        bootstrap: up.ready["kafka"].as_str().unwrap_or_default().to_owned(),
        ..KafkaConfig::default()
    };
    let item = |(position, number): (i32, usize)| {
        let id = DocId::from_uri(&format!("file://{path}#p{number}"));
        answers::item(id.as_ref(), position, i32::from(number == 7))
    };
    let answered = (0..60).map(|number| {
        let items = (1..).zip([1, 7, 8]).map(item).collect();
        let user = USERS[number % USERS.len()];
        answers::answer(&format!("r{number}"), user, now_ms(), items)
    });
    answers::publish(&kafka, answered)
}

/// The recommender goes over to the new generation's items, and names the model of each answer.
#[test]
fn recommendations_are_of_one_model_before_and_after() -> anyhow::Result<()> {
    const DOCUMENTS: usize = 12;
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    let versions = models(&mut pipeline)?;
    let up = pipeline.up(&[])?;
    let path = corpus(&pipeline, "corpus.jsonl", 0..DOCUMENTS)?;
    pipeline.json(&["ingest", &path])?;
    let click = |(user, number): (&str, usize)| {
        json!({"user_id": user, "item": format!("file://{path}#p{number}"),
        "kind": "click", "event_time_ms": 1_700_000_000_000_i64 + number as i64})
    };
    let clicks: Vec<String> = USERS
        .into_iter()
        .flat_map(|user| LIKED.map(|number| click((user, number)).to_string()))
        .collect();
    let (status, _) = up.http("/v1/events", &["-d", &clicks.join("\n")])?;
    ensure!(status == 202, "{status}");
    let recommend =
        || -> anyhow::Result<Value> { pipeline.json(&["recommend", "ada", "--count", "4"]) };
    eventually("all are known", LONG, || {
        let answer = recommend()?;
        let last = pipeline.json(&["profile", USERS[2]])?;
        let is_known = answer["fallback"].is_null() && last["counts"]["click"] == LIKED.len();
        Ok(is_known.then_some(()))
    })?;
    publish_answers(&up, &path)?;
    pipeline.json(&["rollout", "start", "--model", "emb:v2"])?;
    pipeline.json(&["rollout", "status", "--watch"])?;
    recommend()?;
    let switched = pipeline.json(&SWITCH)?;
    let gates = switched["gates"].as_array().context("gates")?;
    let ranking = gates.iter().find(|gate| gate["gate"] == "ranking");
    let ranking = ranking.context("the gate is there")?;
    let figures = ranking["figures"].as_str().unwrap_or_default();
    // The second model's cosines are those of the first.
    ensure!(ranking["verdict"] == "passed", "{ranking}");
    ensure!(
        figures.contains(" on 60 answers by cosines alone"),
        "{ranking}"
    );
    // It waits until the recommender has moved.
    pipeline.json(&["rollout", "finish", "--delete-old", "--yes"])?;
    let answer = recommend()?;
    ensure!(answer["fallback"].is_null(), "{answer}");
    let spaces = eventually("the last answer is told of", LONG, || {
        let peeked = pipeline.json(&["peek", "impressions", "-n", "1000"])?;
        let records = peeked["records"].as_array().context("records")?;
        let spaces: Vec<(String, String)> = records
            .iter()
            .map(|record| {
                let word = |name: &str| {
                    record["value"][name]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                (word("embedding_version"), word("index_version"))
            })
            .collect();
        let has_new = spaces.iter().any(|(model, _)| model == versions.of(2));
        Ok(has_new.then_some(spaces))
    })?;
    for (model, index) in &spaces {
        let is_one = [1, 2].into_iter().any(|number| {
            let names = index.is_empty() || index.ends_with(&format!("-00000{number}"));
            model == versions.of(number) && names
        });
        ensure!(is_one, "{model} with {index}");
    }
    ensure!(spaces.iter().any(|(model, _)| model == versions.of(1)));
    up.leave()
}
