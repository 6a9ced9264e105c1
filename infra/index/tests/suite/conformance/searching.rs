//! What searches find, and what their scores mean.

use millrace_index::{Filter, Fusion, Hit, IndexError, Mode, Record, SearchIndex, SearchRequest};

use super::{Fixture, chunk, close, header, text_query, tombstone, vector_query};

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.doc_id.as_str()).collect()
}

fn hybrid(text: &str, vector: [f32; 3], fusion: Fusion) -> SearchRequest {
    SearchRequest {
        mode: Mode::Hybrid,
        vector: Some(vector.to_vec()),
        fusion,
        ..text_query(text)
    }
}

pub async fn a_document_is_one_hit_by_its_best_chunk(f: Fixture) -> anyhow::Result<()> {
    f.load(vec![
        header("a", 4, 3),
        chunk("a", 0, 4, "the wing", [0.0, 1.0, 0.0]),
        chunk("a", 1, 4, "flutter flutter of the wing", [0.9, 0.1, 0.0]),
        chunk("a", 2, 4, "flutter", [0.5, 0.5, 0.0]),
        header("b", 2, 1),
        Record {
            title: Some("Wings".into()),
            ..chunk("b", 0, 2, "a flutter", [0.1, 0.0, 0.9])
        },
    ])
    .await?;
    for request in [
        text_query("wing flutter"),
        vector_query([1.0, 0.0, 0.0]),
        hybrid("wing flutter", [1.0, 0.0, 0.0], Fusion::default()),
        hybrid(
            "wing flutter",
            [1.0, 0.0, 0.0],
            Fusion::Rrf { rank_constant: 60 },
        ),
    ] {
        let hits = f.index.search(&request).await?;
        let mut found = ids(&hits);
        found.sort_unstable();
        assert_eq!(found, ["a", "b"], "{request:?}");
        let best = hits.iter().find(|hit| hit.doc_id == "a").expect("found");
        assert_eq!((best.chunk, best.version), (1, 4), "{request:?}");
        assert_eq!(best.text, "flutter flutter of the wing");
        assert_eq!(best.uri, "file:///data/a");
        let titled = hits.iter().find(|hit| hit.doc_id == "b").expect("found");
        assert_eq!(titled.title.as_deref(), Some("Wings"));
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        let first = SearchRequest { k: 1, ..request };
        assert_eq!(f.index.search(&first).await?, hits[..1]);
    }
    Ok(())
}

pub async fn headers_and_tombstones_are_not_found(f: Fixture) -> anyhow::Result<()> {
    let titled = Record {
        title: Some("flutter".into()),
        ..header("a", 1, 1)
    };
    let gone = chunk("gone", 0, 1, "flutter", [1.0, 0.0, 0.0]);
    f.load(vec![
        titled,
        chunk("a", 0, 1, "flutter", [0.8, 0.6, 0.0]),
        gone.clone(),
    ])
    .await?;
    f.one(tombstone(&gone, 2)).await?;
    f.index.refresh().await?;
    for request in [
        text_query("flutter"),
        vector_query([1.0, 0.0, 0.0]),
        hybrid("flutter", [1.0, 0.0, 0.0], Fusion::default()),
    ] {
        let hits = f.index.search(&request).await?;
        assert_eq!(ids(&hits), ["a"], "{request:?}");
        assert_eq!(hits[0].chunk, 0);
    }
    Ok(())
}

pub async fn filters_restrict_every_mode(f: Fixture) -> anyhow::Result<()> {
    let document = |id: &str, tags: &[&str], category: &str, published: i64| Record {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        categories: vec![category.to_owned()],
        language: Some(if id == "d" { "de" } else { "en" }.to_owned()),
        media_type: Some(if id == "a" { "text/html" } else { "text/plain" }.to_owned()),
        published_at_ms: Some(published),
        uri: format!(
            "file:///{}/{id}",
            if published < 150 { "early" } else { "late" }
        ),
        ..chunk(id, 0, 1, "flutter", [1.0, 0.1, 0.0])
    };
    let bare = chunk("bare", 0, 1, "flutter", [1.0, 0.1, 0.0]);
    f.load(vec![
        document("a", &["x"], "one", 100),
        document("b", &["x", "y"], "two", 200),
        document("c", &["y"], "two", 300),
        document("d", &[], "three", 400),
        bare,
    ])
    .await?;
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let none = Filter::default();
    let cases: Vec<(Filter, &[&str])> = vec![
        (none.clone(), &["a", "b", "bare", "c", "d"]),
        (
            Filter {
                tags: strings(&["x"]),
                ..none.clone()
            },
            &["a", "b"],
        ),
        (
            Filter {
                tags: strings(&["x", "y"]),
                ..none.clone()
            },
            &["b"],
        ),
        (
            Filter {
                tags: strings(&["unknown"]),
                ..none.clone()
            },
            &[],
        ),
        (
            Filter {
                categories: strings(&["one", "two"]),
                ..none.clone()
            },
            &["a", "b", "c"],
        ),
        (
            Filter {
                categories: strings(&["none", "three"]),
                ..none.clone()
            },
            &["d"],
        ),
        (
            Filter {
                language: Some("de".into()),
                ..none.clone()
            },
            &["d"],
        ),
        (
            Filter {
                media_type: Some("text/html".into()),
                ..none.clone()
            },
            &["a"],
        ),
        (
            Filter {
                uri_prefix: Some("file:///late/".into()),
                ..none.clone()
            },
            &["b", "c", "d"],
        ),
        (
            Filter {
                published_from_ms: Some(200),
                ..none.clone()
            },
            &["b", "c", "d"],
        ),
        (
            Filter {
                published_before_ms: Some(200),
                ..none.clone()
            },
            &["a"],
        ),
        (
            Filter {
                published_from_ms: Some(200),
                published_before_ms: Some(400),
                ..none.clone()
            },
            &["b", "c"],
        ),
        (
            Filter {
                exclude_doc_ids: strings(&["a", "d"]),
                ..none.clone()
            },
            &["b", "bare", "c"],
        ),
        (
            Filter {
                tags: strings(&["y"]),
                exclude_doc_ids: strings(&["c"]),
                ..none
            },
            &["b"],
        ),
    ];
    for (filter, expected) in cases {
        for request in [
            text_query("flutter"),
            vector_query([1.0, 0.0, 0.0]),
            hybrid("flutter", [1.0, 0.0, 0.0], Fusion::default()),
        ] {
            let request = SearchRequest {
                filter: filter.clone(),
                ..request
            };
            let hits = f.index.search(&request).await?;
            let mut found = ids(&hits);
            found.sort_unstable();
            assert_eq!(found, expected, "{request:?}");
        }
    }
    Ok(())
}

/// BM25 of one term as OpenSearch 2.x and tantivy have it: k1 = 1.2, b = 0.75, with the constant
/// factor k1 + 1 that newer Lucene dropped.
fn bm25(n: f64, df: f64, tf: f64, length: f64, average: f64) -> f64 {
    let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
    idf * 2.2 * tf / (tf + 1.2 * (1.0 - 0.75 + 0.75 * length / average))
}

async fn load_three(f: &Fixture) -> anyhow::Result<()> {
    // Lengths after analysis: a 4 (title and text), b 2, c 3; average 3.
    let titled = Record {
        title: Some("Flutters".into()),
        ..chunk("a", 0, 1, "the flutter of a swept wing", [1.0, 0.0, 0.0])
    };
    f.load(vec![
        titled,
        chunk("b", 0, 1, "wing loads", [0.8, 0.6, 0.0]),
        chunk("c", 0, 1, "heat in nozzles", [0.0, 0.6, 0.8]),
        chunk("e", 0, 1, "heat shields melt", [0.0, -0.6, 0.8]),
    ])
    .await
}

fn expected_wing_flutter() -> (f64, f64) {
    let (n, average) = (4.0, (4.0 + 2.0 + 2.0 + 3.0) / 4.0);
    let wing = |length| bm25(n, 2.0, 1.0, length, average);
    (bm25(n, 1.0, 2.0, 4.0, average) + wing(4.0), wing(2.0))
}

pub async fn text_scores_are_bm25(f: Fixture) -> anyhow::Result<()> {
    load_three(&f).await?;
    let hits = f.index.search(&text_query("wing flutter")).await?;
    let (a, b) = expected_wing_flutter();
    assert_eq!(ids(&hits), ["a", "b"]);
    for (hit, want) in hits.iter().zip([a, b]) {
        close(hit.score, want);
        assert_eq!(hit.text_score, Some(hit.score));
        assert_eq!(hit.vector_score, None);
    }
    // A word that stands twice in the query counts twice.
    let twice = f.index.search(&text_query("nozzle nozzles")).await?;
    close(twice[0].score, 2.0 * bm25(4.0, 1.0, 1.0, 2.0, 11.0 / 4.0));
    Ok(())
}

pub async fn tombstones_and_headers_do_not_change_bm25(f: Fixture) -> anyhow::Result<()> {
    let gone: Vec<Record> = (0..30)
        .map(|i| chunk(&format!("gone{i}"), 0, 1, "", [0.0; 3]))
        .collect();
    f.index
        .bulk(gone.iter().map(|record| tombstone(record, 9)).collect())
        .await?;
    f.load((0..30).map(|i| header(&format!("h{i}"), 1, 0)).collect())
        .await?;
    load_three(&f).await?;
    let hits = f.index.search(&text_query("wing flutter")).await?;
    let (a, b) = expected_wing_flutter();
    close(hits[0].score, a);
    close(hits[1].score, b);
    Ok(())
}

pub async fn vector_scores_are_cosines(f: Fixture) -> anyhow::Result<()> {
    load_three(&f).await?;
    // The query's length does not matter.
    let hits = f.index.search(&vector_query([2.0, 0.0, 0.0])).await?;
    assert_eq!(ids(&hits)[..2], ["a", "b"]);
    for (hit, want) in hits.iter().zip([1.0, 0.8, 0.0, 0.0]) {
        close(hit.score, want);
        assert_eq!(hit.vector_score, Some(hit.score));
        assert_eq!(hit.text_score, None);
    }
    let opposite = f.index.search(&vector_query([0.0, -0.6, -0.8])).await?;
    close(opposite[3].score, -1.0);
    Ok(())
}

pub async fn hybrid_scores_are_min_max_and_the_weighted_mean(f: Fixture) -> anyhow::Result<()> {
    load_three(&f).await?;
    let request = hybrid("wing flutter", [0.0, 0.6, 0.8], Fusion::default());
    let hits = f.index.search(&request).await?;
    // As a real OpenSearch 2.19.1 answered once; by hand: cosines a 0, b .36, c 1, e .28, so
    // vector a .001, b .36, c 1, e .28; text a 1, b .001.
    assert_eq!(ids(&hits), ["c", "a", "b", "e"]);
    for (hit, want) in hits.iter().zip([0.7, 0.3007, 0.2523, 0.196]) {
        close(hit.score, want);
    }
    let (text_a, text_b) = expected_wing_flutter();
    let parts = |i: usize| (hits[i].text_score, hits[i].vector_score.expect("a cosine"));
    assert_eq!(parts(0).0, None, "no word of the query occurs in it");
    close(parts(0).1, 1.0);
    close(parts(1).0.expect("BM25"), text_a);
    close(parts(1).1, 0.0);
    close(parts(2).0.expect("BM25"), text_b);
    close(parts(2).1, 0.36);

    // The window is part of the meaning: with two chunks each, a has no vector score any more
    // (b is the worst of two), but its parts are still told.
    let narrow = SearchRequest {
        window: 2,
        k: 2,
        ..request
    };
    let hits = f.index.search(&narrow).await?;
    assert_eq!(ids(&hits), ["c", "a"]);
    close(hits[0].score, 0.7);
    close(hits[1].score, 0.3);
    close(hits[1].vector_score.expect("a cosine"), 0.0);
    Ok(())
}

pub async fn rrf_scores_are_reciprocal_ranks(f: Fixture) -> anyhow::Result<()> {
    load_three(&f).await?;
    let request = hybrid(
        "wing flutter",
        [0.0, 0.6, 0.8],
        Fusion::Rrf { rank_constant: 60 },
    );
    let hits = f.index.search(&request).await?;
    // Text: a, b. Vector: c, b, e, a.
    assert_eq!(ids(&hits), ["b", "a", "c", "e"]);
    let reciprocal = |rank: f64| 1.0 / (60.0 + rank);
    let want = [
        reciprocal(2.0) + reciprocal(2.0),
        reciprocal(1.0) + reciprocal(4.0),
        reciprocal(1.0),
        reciprocal(3.0),
    ];
    for (hit, want) in hits.iter().zip(want) {
        close(hit.score, want);
    }
    Ok(())
}

async fn refusal(index: &dyn SearchIndex, request: SearchRequest) -> String {
    match index.search(&request).await {
        Err(IndexError::InvalidRequest { message }) => message,
        other => panic!("not refused: {other:?}"),
    }
}

pub async fn requests_that_make_no_sense_are_refused(f: Fixture) -> anyhow::Result<()> {
    let bad_weights = hybrid(
        "x",
        [1.0, 0.0, 0.0],
        Fusion::MinMax {
            bm25_weight: 0.3,
            vector_weight: 0.8,
        },
    );
    let message = refusal(&*f.index, bad_weights).await;
    assert!(
        message.contains("sum to 1.0") && message.contains("0.8"),
        "{message}"
    );
    let wide = SearchRequest {
        vector: Some(vec![1.0; 4]),
        ..vector_query([1.0; 3])
    };
    let message = refusal(&*f.index, wide).await;
    assert!(
        message.contains("4 dimensions") && message.contains("index 3"),
        "{message}"
    );
    assert!(
        refusal(&*f.index, text_query(" "))
            .await
            .contains("query text")
    );
    // Nothing but stop words is no mistake; it finds nothing.
    assert_eq!(f.index.search(&text_query("the of and")).await?, []);
    Ok(())
}
