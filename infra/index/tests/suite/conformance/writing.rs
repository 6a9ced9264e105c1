//! Versions, tombstones, reading back.

use millrace_index::{BulkAction, IndexCounts, ItemOutcome, Record};

use super::{Fixture, chunk, header, text_query, tombstone};

pub async fn an_equal_version_is_written_again_and_an_older_one_is_stale(
    f: Fixture,
) -> anyhow::Result<()> {
    let at = |version, text| BulkAction::upsert(chunk("d", 0, version, text, [1.0, 0.0, 0.0]));
    assert_eq!(f.one(at(5, "first")).await?, ItemOutcome::Indexed);
    assert_eq!(f.one(at(5, "again")).await?, ItemOutcome::Indexed);
    assert_eq!(f.one(at(4, "older")).await?, ItemOutcome::Stale);
    let stored = f.get("d#0").await?.expect("it is there");
    assert_eq!((stored.version, stored.text.as_deref()), (5, Some("again")));
    assert_eq!(f.one(at(6, "newer")).await?, ItemOutcome::Indexed);
    assert_eq!(f.get("d#0").await?.expect("it is there").version, 6);
    Ok(())
}

pub async fn a_tombstone_refuses_a_late_older_update(f: Fixture) -> anyhow::Result<()> {
    let record = chunk("d", 0, 5, "flutter", [1.0, 0.0, 0.0]);
    f.load(vec![header("d", 5, 1), record.clone()]).await?;
    let removal = vec![tombstone(&header("d", 0, 0), 7), tombstone(&record, 7)];
    assert_eq!(
        f.index.bulk(removal).await?,
        [ItemOutcome::Indexed, ItemOutcome::Indexed]
    );
    let late = BulkAction::upsert(chunk("d", 0, 6, "late flutter", [1.0, 0.0, 0.0]));
    assert_eq!(f.one(late).await?, ItemOutcome::Stale);
    let stored = f.get("d#0").await?.expect("the tombstone is there");
    assert!(
        stored.deleted && stored.text.is_none() && stored.version == 7,
        "{stored:?}"
    );
    f.index.refresh().await?;
    assert_eq!(f.index.search(&text_query("flutter")).await?, []);

    f.load(vec![chunk("d", 0, 8, "back with flutter", [1.0, 0.0, 0.0])])
        .await?;
    assert_eq!(f.index.search(&text_query("flutter")).await?.len(), 1);
    Ok(())
}

pub async fn actions_of_one_batch_apply_in_order(f: Fixture) -> anyhow::Result<()> {
    let at = |version| {
        chunk(
            "d",
            0,
            version,
            &format!("version {version}"),
            [1.0, 0.0, 0.0],
        )
    };
    let batch = vec![
        BulkAction::upsert(at(2)),
        BulkAction::upsert(at(1)),
        tombstone(&at(0), 3),
        BulkAction::upsert(at(3)),
    ];
    let outcomes = f.index.bulk(batch).await?;
    use ItemOutcome::{Indexed, Stale};
    assert_eq!(outcomes, [Indexed, Stale, Indexed, Indexed]);
    let stored = f.get("d#0").await?.expect("it is there");
    assert_eq!(stored.text.as_deref(), Some("version 3"));
    f.index.refresh().await?;
    assert_eq!(f.index.search(&text_query("version")).await?.len(), 1);
    Ok(())
}

pub async fn reads_by_id_are_realtime(f: Fixture) -> anyhow::Result<()> {
    let full = Record {
        title: Some("On flutter".into()),
        media_type: Some("text/plain".into()),
        language: Some("en".into()),
        categories: vec!["aero".into()],
        tags: vec!["wing".into(), "1958".into()],
        published_at_ms: Some(-12_345),
        ..chunk("d", 0, 3, "wing flutter", [0.6, 0.8, 0.0])
    };
    let head = header("d", 3, 1);
    let actions = [&full, &head].map(|record| BulkAction::upsert(record.clone()));
    assert_eq!(f.index.bulk(actions.to_vec()).await?.len(), 2);
    let ids = ["d#0", "missing", "d"].map(str::to_owned);
    let with_vectors = f.index.fetch(&ids, true).await?;
    assert_eq!(with_vectors, [Some(full.clone()), None, Some(head.clone())]);
    let without = f.index.get(&ids).await?;
    assert_eq!(
        without,
        [
            Some(Record {
                vector: None,
                ..full
            }),
            None,
            Some(head)
        ]
    );
    Ok(())
}

pub async fn a_rejected_item_does_not_hold_its_neighbours_back(f: Fixture) -> anyhow::Result<()> {
    let good = |id: &str| chunk(id, 0, 1, "text", [1.0, 0.0, 0.0]);
    let wide = Record {
        vector: Some(vec![1.0; 4]),
        ..good("wide")
    };
    let long = Record {
        id: "x".repeat(600),
        ..good("long")
    };
    let zero = Record {
        vector: Some(vec![0.0; 3]),
        ..good("zero")
    };
    let batch = [good("a"), wide, good("b"), long, zero].map(BulkAction::upsert);
    let outcomes = f.index.bulk(batch.to_vec()).await?;
    assert_eq!(outcomes[0], ItemOutcome::Indexed);
    assert_eq!(outcomes[2], ItemOutcome::Indexed);
    let ItemOutcome::Reject(dimension) = &outcomes[1] else {
        anyhow::bail!("not rejected: {:?}", outcomes[1]);
    };
    assert_eq!(dimension.error_type, "mapper_parsing_exception");
    assert_eq!(
        dimension.cause_type.as_deref(),
        Some("illegal_argument_exception")
    );
    assert!(
        dimension.reason.contains("Expected: 3, Given: 4"),
        "{dimension}"
    );
    assert!(matches!(&outcomes[3], ItemOutcome::Reject(r) if r.reason.contains("600")));
    assert!(matches!(&outcomes[4], ItemOutcome::Reject(_)));
    assert!(f.get("b#0").await?.is_some());
    assert!(f.get("wide#0").await?.is_none());
    Ok(())
}

pub async fn headers_are_walked_in_the_order_of_their_uris(f: Fixture) -> anyhow::Result<()> {
    let mut records: Vec<Record> = ["e", "a", "c", "gone", "b", "d"]
        .map(|id| header(id, 1, 1))
        .into();
    records.push(Record {
        uri: "file:///elsewhere/a".into(),
        ..header("other", 1, 1)
    });
    records.push(chunk("a", 0, 1, "no header", [1.0, 0.0, 0.0]));
    f.load(records).await?;
    f.one(tombstone(&header("gone", 1, 1), 2)).await?;
    f.index.refresh().await?;
    let mut after: Option<String> = None;
    let mut walked = Vec::new();
    loop {
        let page = f
            .index
            .headers("file:///data/", after.as_deref(), 2)
            .await?;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.uri.clone());
        walked.extend(page.into_iter().map(|r| (r.doc_id, r.version, r.deleted)));
    }
    let live = |id: &str| (id.to_owned(), 1, false);
    let mut expected: Vec<_> = ["a", "b", "c", "d", "e"].map(live).into();
    // What was removed is walked too: whoever compares must know at which version.
    expected.push(("gone".to_owned(), 2, true));
    assert_eq!(walked, expected);
    Ok(())
}

pub async fn a_sweep_removes_old_tombstones_only(f: Fixture) -> anyhow::Result<()> {
    f.load(vec![
        header("old", 1, 0),
        header("new", 1, 0),
        header("live", 1, 0),
    ])
    .await?;
    f.one(tombstone(&header("old", 1, 0), 10)).await?;
    f.one(tombstone(&header("new", 1, 0), 20)).await?;
    f.index.refresh().await?;
    assert_eq!(f.index.sweep(20).await?, 1);
    assert_eq!(f.get("old").await?, None);
    assert!(f.get("new").await?.expect("still there").deleted);
    assert!(!f.get("live").await?.expect("still there").deleted);
    assert_eq!(f.index.sweep(20).await?, 0);
    Ok(())
}

/// What is swept must have left no trace in the scores either.
pub async fn a_sweep_leaves_the_text_statistics_right(f: Fixture) -> anyhow::Result<()> {
    let kept = vec![
        header("kept", 1, 1),
        chunk("kept", 0, 1, "the harbour at dawn", [1.0, 0.0, 0.0]),
        header("other", 1, 1),
        chunk("other", 0, 1, "a market in the rain", [0.0, 1.0, 0.0]),
    ];
    f.load(kept).await?;
    let score = async || -> anyhow::Result<Option<f32>> {
        f.index.refresh().await?;
        let hits = f.index.search(&text_query("harbour")).await?;
        assert_eq!(hits.len(), 1);
        Ok(hits[0].text_score)
    };
    let before = score().await?;
    for n in 0..20 {
        let id = format!("gone-{n}");
        // Never written before: what a removal of something unknown leaves.
        f.one(tombstone(&header(&id, 1, 1), 10)).await?;
        f.one(tombstone(&chunk(&id, 0, 1, "", [1.0, 0.0, 0.0]), 10))
            .await?;
    }
    assert_eq!(score().await?, before);
    assert_eq!(f.index.count().await?.tombstones, 40);
    assert_eq!(f.index.sweep(11).await?, 40);
    assert_eq!(score().await?, before);
    assert_eq!(f.index.count().await?.tombstones, 0);
    assert_eq!(f.index.headers("file:///data/gone", None, 10).await?, []);
    Ok(())
}

pub async fn counts_tell_documents_chunks_and_tombstones_apart(f: Fixture) -> anyhow::Result<()> {
    let records = vec![
        header("a", 1, 2),
        chunk("a", 0, 1, "one", [1.0, 0.0, 0.0]),
        chunk("a", 1, 1, "two", [0.0, 1.0, 0.0]),
        header("b", 1, 1),
        chunk("b", 0, 1, "three", [0.0, 0.0, 1.0]),
    ];
    f.load(records.clone()).await?;
    f.load(records).await?;
    let counts = |documents, chunks, tombstones| IndexCounts {
        documents,
        chunks,
        tombstones,
    };
    assert_eq!(f.index.count().await?, counts(2, 3, 0));
    let gone = chunk("a", 1, 1, "", [0.0; 3]);
    f.index
        .bulk(vec![tombstone(&gone, 2), tombstone(&header("b", 1, 1), 2)])
        .await?;
    f.index.refresh().await?;
    assert_eq!(f.index.count().await?, counts(1, 2, 2));
    Ok(())
}
