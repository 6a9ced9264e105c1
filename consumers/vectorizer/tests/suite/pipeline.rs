//! From a notice to a search hit and a signal.

use std::time::{Duration, Instant};

use anyhow::Result;
use millrace_index::{EmbeddedIndex, Filter, Fusion, IndexError, Mode, SearchIndex, SearchRequest};
use millrace_schemas::{DocId, Layout, OutcomeKind};
use millrace_vectorizer::StartError;

use crate::stack::{DEADLINE, Stack, fixture, spec, text};

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_all_formats_are_found_by_meaning() -> Result<()> {
    let stack = Stack::running().await?;
    let mut notices = vec![
        stack.put("plain.txt", "Volcanoes erupt when magma rises through the crust.")?,
        stack.put(
            "cooking/bread.md",
            "---\ntitle: Sourdough\ntags: [bread, baking]\ndate: 2024-05-01\n---\n# Sourdough\n\nFlour, water and salt ferment overnight before the loaf is baked.",
        )?,
        stack.put(
            "page.html",
            "<html lang=en><head><title>Chess</title></head><body><nav>Home</nav><p>A gambit gives up a pawn for fast development.</p></body></html>",
        )?,
        stack.put("film.json", r#"{"title":"Heat","plot":"A detective hunts a crew of professional bank robbers."}"#)?,
        stack.put("lines.jsonl", "{\"text\":\"Bees dance to tell where flowers are.\"}\n{\"text\":\"Honey never spoils.\"}\n")?,
        stack.put("stars.csv", "star,what\nSirius,brightest star of the night sky\n")?,
        stack.put("tides.pdf", fixture("tides.pdf"))?,
        stack.put("harbour.docx", fixture("harbour.docx"))?,
    ];
    let mut passage = stack.notice("corpus.jsonl");
    passage.uri += "#7";
    passage.content = Some(b"Penicillin was discovered by accident in a laboratory dish.".to_vec());
    passage.title = Some("Antibiotics".to_owned());
    passage.layout = Layout::Passage;
    notices.push(passage);
    let mut origins = Vec::new();
    for notice in &notices {
        origins.push(stack.publish(notice).await?);
    }
    for (origin, notice) in origins.iter().zip(&notices) {
        let outcome = stack.outcome(origin).await?;
        assert_eq!(outcome.outcome, OutcomeKind::Indexed, "{outcome:?}");
        assert_eq!(
            (outcome.chunks, outcome.uri.as_str()),
            (1, notice.uri.as_str())
        );
        assert!(
            outcome.tokens > 2
                && outcome
                    .traceparent
                    .unwrap()
                    .starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736")
        );
    }
    stack.index.refresh().await?;
    for (query, name, title) in [
        ("lava and eruptions", "plain.txt", None),
        (
            "how to make a loaf at home",
            "cooking/bread.md",
            Some("Sourdough"),
        ),
        ("opening theory of a board game", "page.html", Some("Chess")),
        ("policeman chases thieves", "film.json", Some("Heat")),
        ("insects in a hive", "lines.jsonl", None),
        ("astronomy", "stars.csv", None),
        (
            "why does the sea rise and fall",
            "tides.pdf",
            Some("About tides"),
        ),
        ("medieval port trade", "harbour.docx", Some("Harbours")),
        (
            "medicine against bacteria",
            "corpus.jsonl#7",
            Some("Antibiotics"),
        ),
    ] {
        let vector = stack.encoder.encode(&[query])?.remove(0);
        let hits = stack
            .index
            .search(&SearchRequest {
                text: Some(query.to_owned()),
                vector: Some(vector),
                mode: Mode::Vector,
                fusion: Fusion::default(),
                k: 1,
                window: 100,
                filter: Filter::default(),
            })
            .await?;
        assert!(hits[0].uri.ends_with(name), "{query}: {}", hits[0].uri);
        assert_eq!(hits[0].title.as_deref(), title, "{query}");
    }

    let signals = stack.last_signals().await?;
    assert_eq!(signals.len(), notices.len());
    let bread = &signals[&format!(
        "{}@{}",
        DocId::from_uri(&stack.uri("cooking/bread.md")),
        stack.encoder.version()
    )];
    assert_eq!(bread.tags, ["bread", "baking"]);
    assert_eq!(bread.categories, ["cooking"]);
    assert_eq!(
        (bread.language.as_deref(), bread.media_type.as_str()),
        (Some("en"), "text/markdown")
    );
    assert_eq!(bread.published_at_ms, Some(1_714_521_600_000));
    assert!(!bread.key_phrases.is_empty() && bread.near_duplicate_hash != 0);
    let norm: f32 = bread.vector.iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-4 && bread.vector.len() == 384);
    let stats = stack.handle().stats();
    assert_eq!(
        (
            stats.indexed,
            stats.chunks,
            stats.signals,
            stats.dead_lettered
        ),
        (9, 9, 9, 0)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_loses_nothing() -> Result<()> {
    let mut stack = Stack::running().await?;
    let mut origins = Vec::new();
    for number in 0..60 {
        let notice = stack.put(&format!("{number}.txt"), text(30 + number))?;
        origins.push(stack.publish(&notice).await?);
    }
    // As soon as something is under way, so that work is cut off in all stages.
    let deadline = Instant::now() + DEADLINE;
    while stack.handle().stats().tokens == 0 {
        assert!(
            Instant::now() < deadline,
            "nothing started: {:?}",
            stack.handle().stats()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stack.stop(Duration::from_millis(200)).await;
    stack.start().await?;
    for origin in &origins {
        assert_eq!(stack.outcome(origin).await?.outcome, OutcomeKind::Indexed);
    }
    let signals = stack.last_signals().await?;
    assert_eq!(signals.len(), 60);
    for number in 0..60 {
        let name = format!("{number}.txt");
        let header = stack.header(&name).await?.expect("a header");
        let chunks = header.chunk_count.unwrap();
        assert_eq!(
            stack.live_chunks(&name, chunks + 5).await?,
            (0..chunks).collect::<Vec<_>>()
        );
        let signal = &signals[&format!("{}@{}", header.doc_id, stack.encoder.version())];
        assert_eq!(signal.document_version, header.version);
    }
    assert_eq!(
        stack.stop(DEADLINE).await,
        0,
        "an idle pipeline drains clean"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_pipeline_has_acknowledged_everything() -> Result<()> {
    let mut stack = Stack::running().await?;
    let mut origins = Vec::new();
    for number in 0..20 {
        let notice = stack.put(&format!("{number}.txt"), text(5))?;
        origins.push(stack.publish(&notice).await?);
    }
    for origin in &origins {
        stack.outcome(origin).await?;
    }
    assert_eq!(stack.stop(DEADLINE).await, 0);
    let before = stack.outcomes().await?.len();
    stack.start().await?;
    let fresh = stack
        .settle(&stack.put("fresh.txt", "Something new.")?)
        .await?;
    assert_eq!(fresh.outcome, OutcomeKind::Indexed);
    assert_eq!(
        stack.outcomes().await?.len(),
        before + 1,
        "nothing was delivered a second time"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_model_is_refused_before_anything_is_read() -> Result<()> {
    let stack = Stack::idle().await?;
    let origin = stack.publish(&stack.put("a.txt", "Waiting.")?).await?;
    let good = spec(&stack.encoder);

    let other = tempfile::tempdir()?;
    let index = std::sync::Arc::new(EmbeddedIndex::open(other.path())?);
    let mut strange = good.clone();
    strange.model_fingerprint = "of-another-model".to_owned();
    index.ensure(&strange).await?;
    drop(index);
    let index = std::sync::Arc::new(EmbeddedIndex::open(other.path())?);
    let error = stack
        .vectorizer(good.clone(), index.clone())
        .await
        .err()
        .expect("refused");
    let StartError::Index(cause @ IndexError::FingerprintMismatch { .. }) = &error else {
        panic!("{error:?}")
    };
    let message = cause.to_string();
    assert!(
        message.contains("of-another-model") && message.contains(&good.model_fingerprint),
        "{message}"
    );
    assert_eq!(
        index
            .get(&[DocId::from_uri(&stack.uri("a.txt")).to_string()])
            .await
            .ok()
            .and_then(|mut r| r.remove(0)),
        None
    );

    let other = tempfile::tempdir()?;
    let index = std::sync::Arc::new(EmbeddedIndex::open(other.path())?);
    let mut strange = good.clone();
    strange.dimension = 768;
    index.ensure(&strange).await?;
    drop(index);
    let index = std::sync::Arc::new(EmbeddedIndex::open(other.path())?);
    let error = stack
        .vectorizer(good.clone(), index)
        .await
        .err()
        .expect("refused");
    let StartError::Index(cause @ IndexError::DimensionMismatch { .. }) = &error else {
        panic!("{error:?}")
    };
    assert!(
        cause.to_string().contains("768") && cause.to_string().contains("384"),
        "{cause}"
    );

    let error = stack
        .vectorizer(strange, std::sync::Arc::clone(&stack.index))
        .await
        .err()
        .expect("refused");
    let message = error.to_string();
    assert!(
        message.contains("768") && message.contains("384"),
        "{message}"
    );

    // Nothing was consumed by those attempts.
    let mut stack = stack;
    stack.start().await?;
    assert_eq!(stack.outcome(&origin).await?.outcome, OutcomeKind::Indexed);
    Ok(())
}
