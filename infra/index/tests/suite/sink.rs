//! The bulk sink over an index that answers as scripted, in paused time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use millrace_index::{
    BulkAction, BulkSink, FinalOutcome, Hit, IndexCounts, IndexDescription, IndexError, IndexSpec,
    ItemOutcome, Obstacle, Record, Rejection, SearchIndex, SearchRequest, SinkConfig, SinkState,
};

type Answer = Result<Vec<ItemOutcome>, IndexError>;
type Script = dyn Fn(&[BulkAction]) -> Answer + Send + Sync;

/// Answers bulk requests by a script; counts what it saw.
struct Scripted {
    script: Box<Script>,
    latency: Duration,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    sent: Mutex<HashMap<String, u32>>,
    batches: Mutex<Vec<usize>>,
}

impl Scripted {
    fn new(script: impl Fn(&[BulkAction]) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            latency: Duration::from_millis(20),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            sent: Mutex::default(),
            batches: Mutex::default(),
        })
    }

    /// One outcome an id.
    fn each(script: impl Fn(&str) -> ItemOutcome + Send + Sync + 'static) -> Arc<Self> {
        Self::new(move |actions| Ok(actions.iter().map(|action| script(action.id())).collect()))
    }

    fn times_sent(&self, id: &str) -> u32 {
        self.sent
            .lock()
            .expect("sound")
            .get(id)
            .copied()
            .unwrap_or(0)
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().expect("sound").clone()
    }
}

#[async_trait]
impl SearchIndex for Scripted {
    async fn bulk(&self, actions: Vec<BulkAction>) -> Answer {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        for action in &actions {
            *self
                .sent
                .lock()
                .expect("sound")
                .entry(action.id().to_owned())
                .or_default() += 1;
        }
        self.batches.lock().expect("sound").push(actions.len());
        tokio::time::sleep(self.latency).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        (self.script)(&actions)
    }

    // The sink writes, and does nothing else.
    async fn ensure(&self, _: &IndexSpec) -> Result<(), IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn fetch(&self, _: &[String], _: bool) -> Result<Vec<Option<Record>>, IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn search(&self, _: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn count(&self) -> Result<IndexCounts, IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn headers(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<Record>, IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn warm_up(&self) -> Result<(), IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn refresh(&self) -> Result<(), IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn sweep(&self, _: i64) -> Result<u64, IndexError> {
        Err(IndexError::NotEnsured)
    }
    async fn describe(&self) -> Result<IndexDescription, IndexError> {
        Err(IndexError::NotEnsured)
    }
}

fn actions(ids: &[&str]) -> Vec<BulkAction> {
    ids.iter()
        .map(|id| {
            BulkAction::upsert(Record {
                id: (*id).to_owned(),
                ..Record::default()
            })
        })
        .collect()
}

fn numbered(prefix: &str, n: usize) -> Vec<BulkAction> {
    let ids: Vec<String> = (0..n).map(|i| format!("{prefix}{i}")).collect();
    actions(&ids.iter().map(String::as_str).collect::<Vec<_>>())
}

fn obstacle() -> Obstacle {
    Obstacle {
        error_type: "opensearch_rejected_execution_exception".into(),
        reason: "full".into(),
        status: Some(429),
    }
}

fn rejection() -> Rejection {
    Rejection {
        error_type: "mapper_parsing_exception".into(),
        cause_type: None,
        reason: "bad".into(),
        status: 400,
    }
}

fn start(index: &Arc<Scripted>) -> BulkSink {
    BulkSink::start(
        Arc::clone(index) as Arc<dyn SearchIndex>,
        SinkConfig::default(),
    )
}

#[tokio::test(start_paused = true)]
async fn each_item_of_a_mixed_batch_ends_in_one_state_and_only_failed_ones_are_sent_again()
-> anyhow::Result<()> {
    let failures = Mutex::new(HashMap::from([("busy", 3), ("away", 1)]));
    let index = Scripted::each(move |id| match id {
        "rejected" => ItemOutcome::Reject(rejection()),
        "stale" => ItemOutcome::Stale,
        id => {
            let mut failures = failures.lock().expect("sound");
            match failures.get_mut(id) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    ItemOutcome::Retry(obstacle())
                }
                _ => ItemOutcome::Indexed,
            }
        }
    });
    let sink = start(&index);
    let outcomes = sink
        .submit(actions(&["fine", "busy", "rejected", "stale", "away"]))
        .await?;
    use FinalOutcome::{Indexed, Reject, Stale};
    assert_eq!(
        outcomes,
        [Indexed, Indexed, Reject(rejection()), Stale, Indexed]
    );
    let sent = ["fine", "busy", "rejected", "stale", "away"].map(|id| index.times_sent(id));
    assert_eq!(sent, [1, 4, 1, 1, 2]);
    assert_eq!(*sink.state().borrow(), SinkState::Running);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn documents_share_batches_and_an_idle_queue_is_flushed_at_once() -> anyhow::Result<()> {
    let index = Scripted::each(|_| ItemOutcome::Indexed);
    let sink = start(&index);
    let begun = tokio::time::Instant::now();
    let (a, b) = tokio::join!(
        sink.submit(actions(&["a"])),
        sink.submit(actions(&["b", "c"]))
    );
    assert_eq!((a?.len(), b?.len()), (1, 2));
    assert_eq!(index.batches(), [3]);
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_request_too_large_is_halved_and_a_single_one_rejected() -> anyhow::Result<()> {
    let index = Scripted::new(|actions| {
        let bytes = actions.len() * 100;
        if bytes > 300 || actions.iter().any(|action| action.id() == "huge") {
            return Err(IndexError::TooLarge { bytes });
        }
        Ok(vec![ItemOutcome::Indexed; actions.len()])
    });
    let sink = start(&index);
    let mut batch = numbered("d", 10);
    batch.extend(actions(&["huge"]));
    let outcomes = sink.submit(batch).await?;
    assert!(
        outcomes[..10].iter().all(|o| *o == FinalOutcome::Indexed),
        "{outcomes:?}"
    );
    assert!(matches!(&outcomes[10], FinalOutcome::Reject(r) if r.status == 413));
    assert_eq!(*sink.state().borrow(), SinkState::Running);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn fewer_answers_than_items_mean_the_whole_request_again() -> anyhow::Result<()> {
    let first = AtomicUsize::new(0);
    let index = Scripted::new(move |actions| {
        let short = usize::from(first.fetch_add(1, Ordering::SeqCst) == 0);
        Ok(vec![ItemOutcome::Indexed; actions.len() - short])
    });
    let outcomes = start(&index).submit(actions(&["a", "b"])).await?;
    assert_eq!(outcomes, [FinalOutcome::Indexed, FinalOutcome::Indexed]);
    assert_eq!([index.times_sent("a"), index.times_sent("b")], [2, 2]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_read_only_index_halts_is_probed_and_goes_on_by_itself() -> anyhow::Result<()> {
    let left = AtomicUsize::new(6);
    let index = Scripted::new(move |actions| {
        let halted = left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
        let outcome = if halted {
            ItemOutcome::Halt(obstacle())
        } else {
            ItemOutcome::Indexed
        };
        Ok(vec![outcome; actions.len()])
    });
    let sink = start(&index);
    let mut state = sink.state();
    let submitted = tokio::spawn({
        let sink = sink.clone();
        async move { sink.submit(numbered("d", 40)).await }
    });
    let halted = state
        .wait_for(|state| matches!(state, SinkState::Halted { .. }))
        .await?
        .clone();
    assert!(
        matches!(halted, SinkState::Halted { reason } if reason.contains("rejected_execution"))
    );
    assert!(
        submitted
            .await??
            .iter()
            .all(|outcome| *outcome == FinalOutcome::Indexed)
    );
    state.wait_for(|state| *state == SinkState::Running).await?;
    let batches = index.batches();
    assert_eq!(batches[0], 40);
    assert!(
        batches[1..6].iter().all(|size| *size == 1),
        "probes are single items: {batches:?}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_stream_halts_without_a_flood_and_resumes_when_repaired() -> anyhow::Result<()> {
    let repaired = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&repaired);
    let index = Scripted::each(move |id| {
        let number: usize = id[1..].parse().expect("a number");
        if number % 5 < 3 && switch.load(Ordering::SeqCst) == 0 {
            ItemOutcome::Reject(rejection())
        } else {
            ItemOutcome::Indexed
        }
    });
    let sink = start(&index);
    let mut state = sink.state();
    let submitted = tokio::spawn({
        let sink = sink.clone();
        async move {
            let each = numbered("d", 1_000)
                .into_iter()
                .map(|action| sink.submit(vec![action]));
            futures::future::join_all(each).await
        }
    });
    let halted = state
        .wait_for(|state| matches!(state, SinkState::Halted { .. }))
        .await?
        .clone();
    assert!(matches!(halted, SinkState::Halted { reason } if reason.contains("poison_ratio")));
    // A day of probes lets nothing through to the dead letters.
    tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
    assert!(matches!(*state.borrow(), SinkState::Halted { .. }));
    assert!(!submitted.is_finished());
    repaired.store(1, Ordering::SeqCst);
    state.wait_for(|state| *state == SinkState::Running).await?;
    let outcomes = submitted
        .await?
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let rejected = outcomes
        .iter()
        .flatten()
        .filter(|o| matches!(o, FinalOutcome::Reject(_)))
        .count();
    assert!(rejected <= 50, "{rejected} were rejected before the halt");
    assert_eq!(outcomes.len(), 1_000);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_item_that_fails_alone_is_given_up_and_an_outage_gives_nothing_up() -> anyhow::Result<()>
{
    let outage = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&outage);
    let index = Scripted::each(move |id| {
        if id == "alone" || switch.load(Ordering::SeqCst) == 1 {
            ItemOutcome::Retry(obstacle())
        } else {
            ItemOutcome::Indexed
        }
    });
    let sink = start(&index);
    let alone = tokio::spawn({
        let sink = sink.clone();
        async move { sink.submit(actions(&["alone"])).await }
    });
    let other = tokio::spawn({
        let sink = sink.clone();
        async move { sink.submit(actions(&["other"])).await }
    });
    tokio::time::sleep(Duration::from_secs(3 * 3_600)).await;
    assert!(
        !alone.is_finished() && !other.is_finished(),
        "an outage gives nothing up"
    );
    assert!(matches!(*sink.state().borrow(), SinkState::Retrying { .. }));
    outage.store(0, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    assert_eq!(other.await??, [FinalOutcome::Indexed]);
    let mut passed = 0;
    while !alone.is_finished() {
        assert!(
            begun.elapsed() < Duration::from_secs(3_600),
            "never given up"
        );
        sink.submit(actions(&[&format!("neighbour{passed}")]))
            .await?;
        passed += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(14 * 60),
        "too early: {:?}",
        begun.elapsed()
    );
    let outcome = alone.await??;
    assert!(
        matches!(&outcome[..], [FinalOutcome::RetryExhausted { attempts, .. }] if *attempts > 10)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn concurrency_grows_to_its_limit_and_memory_is_bounded() -> anyhow::Result<()> {
    let index = Scripted::each(|_| ItemOutcome::Indexed);
    let config = SinkConfig {
        batch_items: 10,
        ..SinkConfig::default()
    };
    let sink = BulkSink::start(Arc::clone(&index) as Arc<dyn SearchIndex>, config);
    let each = numbered("d", 20_000)
        .into_iter()
        .map(|action| sink.submit(vec![action]));
    for outcome in futures::future::join_all(each).await {
        assert_eq!(outcome?, [FinalOutcome::Indexed]);
    }
    assert_eq!(index.most_in_flight.load(Ordering::SeqCst), 16);
    assert!(index.batches().iter().all(|size| *size <= 10));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_not_sent_again() -> anyhow::Result<()> {
    let index = Scripted::each(|id| match id {
        "given up" => ItemOutcome::Retry(obstacle()),
        _ => ItemOutcome::Indexed,
    });
    let sink = start(&index);
    let waited =
        tokio::time::timeout(Duration::from_secs(60), sink.submit(actions(&["given up"]))).await;
    assert!(waited.is_err(), "it fails for ever");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let sent = index.times_sent("given up");
    assert!(sent > 1);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(index.times_sent("given up"), sent);
    assert_eq!(
        sink.submit(actions(&["next"])).await?,
        [FinalOutcome::Indexed]
    );
    Ok(())
}
