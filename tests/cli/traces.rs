//! What an OTLP collector is told of a document.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::harness::{Pipeline, Target, text};

/// Takes what is exported, one connection after the other, until the test ends.
fn collector() -> anyhow::Result<(String, Receiver<Span>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let (spans, received) = channel();
    std::thread::spawn(move || -> anyhow::Result<()> {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut reader = BufReader::new(stream.try_clone()?);
            let mut head = String::new();
            while reader.read_line(&mut head)? > 2 {}
            let head = head.to_ascii_lowercase();
            ensure!(head.starts_with("post /v1/traces "), "{head}");
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .context("no length")?;
            let mut body = vec![0; length.trim().parse()?];
            reader.read_exact(&mut body)?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
            let request = ExportTraceServiceRequest::decode(&body[..])?;
            let scopes = request
                .resource_spans
                .into_iter()
                .flat_map(|r| r.scope_spans);
            for span in scopes.flat_map(|scope| scope.spans) {
                spans.send(span)?;
            }
        }
        Ok(())
    });
    Ok((endpoint, received))
}

#[test]
fn a_documents_trace_shows_its_stages() -> anyhow::Result<()> {
    let (endpoint, received) = collector()?;
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_TELEMETRY__OTLP_ENDPOINT", &endpoint);
    let note = pipeline.write("note.txt", "A document with a trace.\n")?;
    let output = pipeline.output(&["ingest", text(&note)?])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The process has flushed what it had; the last request was answered before it left.
    let spans: Vec<Span> = received.try_iter().collect();
    let document = spans
        .iter()
        .find(|span| span.name == "document")
        .with_context(|| format!("no document among {} spans", spans.len()))?;
    let stages: BTreeMap<&str, &Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == document.span_id)
        .map(|span| (span.name.as_str(), span))
        .collect();
    let mut before = document.start_time_unix_nano;
    for name in ["fetch", "extract", "chunk", "embed", "index", "signal"] {
        let stage = stages
            .get(name)
            .with_context(|| format!("no stage {name} among {:?}", stages.keys()))?;
        ensure!(stage.trace_id == document.trace_id);
        ensure!(
            stage.start_time_unix_nano >= before,
            "{name} began too early"
        );
        ensure!(stage.end_time_unix_nano <= document.end_time_unix_nano);
        before = stage.end_time_unix_nano;
    }
    // The trace began where the document was published.
    let topics = pipeline.json(&["peek", "documents", "-n", "1"])?;
    let trace_id = hex(&document.trace_id);
    ensure!(
        topics.to_string().contains(&trace_id),
        "{trace_id} is not in {topics}"
    );

    // A recommendation has a span too, in the trace that its answer names.
    let answer = pipeline.json(&["recommend", "ada", "--explain"])?;
    let spans: Vec<Span> = received.try_iter().collect();
    let request = spans.iter().find(|span| span.name == "recommend");
    let request = request.with_context(|| format!("no request among {} spans", spans.len()))?;
    ensure!(answer["trace_id"] == hex(&request.trace_id), "{answer}");
    // And the document that it recommends leads back to where it was published.
    let signal = answer["items"][0]["explanation"]["signal_traceparent"].as_str();
    ensure!(signal.is_some_and(|it| it.contains(&trace_id)), "{answer}");
    Ok(())
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
