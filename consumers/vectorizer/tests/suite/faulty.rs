//! An index that goes wrong in one way; everything else passes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use async_trait::async_trait;
use millrace_index::{
    BulkAction, Hit, IndexCounts, IndexDescription, IndexError, IndexSpec, ItemOutcome, Record,
    Rejection, SearchIndex, SearchRequest,
};
use tokio::sync::Notify;

pub enum Fault {
    /// So many requests are applied and their answers lost.
    LostAnswers(AtomicU32),
    /// Requests are applied and never answered.
    NoAnswers,
    /// A request with more text than this is refused as too large.
    TooLarge { text_bytes: usize },
    /// Three of five documents are rejected while this is set.
    Poison(AtomicBool),
    /// So many steps are answered, and then nothing ever again: its caller was killed there.
    CutOff { steps: AtomicUsize, reached: Notify },
}

pub struct Faulty {
    index: Arc<dyn SearchIndex>,
    fault: Fault,
    applied: AtomicU32,
}

impl Faulty {
    pub fn new(index: &Arc<dyn SearchIndex>, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            index: Arc::clone(index),
            fault,
            applied: AtomicU32::new(0),
        })
    }

    /// Requests that the index took.
    pub fn applied(&self) -> u32 {
        self.applied.load(Ordering::SeqCst)
    }

    pub fn repair(&self) {
        if let Fault::Poison(on) = &self.fault {
            on.store(false, Ordering::SeqCst);
        }
    }

    /// Returns once the caller was cut off.
    pub async fn cut_off(&self) {
        if let Fault::CutOff { reached, .. } = &self.fault {
            reached.notified().await;
        }
    }

    async fn step(&self) {
        if let Fault::CutOff { steps, reached } = &self.fault
            && steps
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_err()
        {
            reached.notify_one();
            std::future::pending::<()>().await;
        }
    }

    async fn apply(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError> {
        let answer = self.index.bulk(actions).await;
        self.applied.fetch_add(1, Ordering::SeqCst);
        answer
    }
}

fn text_bytes(action: &BulkAction) -> usize {
    match action {
        BulkAction::Upsert(record) => record.text.as_ref().map_or(0, String::len),
        BulkAction::Tombstone { .. } => 0,
    }
}

fn is_poisoned(action: &BulkAction) -> bool {
    // Headers and chunks of a document have one fate; ids are hashes.
    let document = action.id().split('#').next().unwrap_or_default();
    document.bytes().map(u32::from).sum::<u32>() % 5 < 3
}

#[async_trait]
impl SearchIndex for Faulty {
    async fn bulk(&self, actions: Vec<BulkAction>) -> Result<Vec<ItemOutcome>, IndexError> {
        match &self.fault {
            Fault::LostAnswers(left) => {
                let answer = self.apply(actions).await;
                let is_lost = left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
                match is_lost {
                    true => Err(IndexError::Unavailable {
                        what: "the connection was cut before the answer".to_owned(),
                        source: None,
                    }),
                    false => answer,
                }
            }
            Fault::NoAnswers => {
                self.apply(actions).await?;
                std::future::pending().await
            }
            Fault::TooLarge { text_bytes: limit } => {
                let bytes = actions.iter().map(text_bytes).sum();
                if bytes > *limit {
                    return Err(IndexError::TooLarge { bytes });
                }
                self.apply(actions).await
            }
            Fault::Poison(on) if on.load(Ordering::SeqCst) => {
                let outcomes = actions.iter().map(|action| match is_poisoned(action) {
                    true => ItemOutcome::Reject(Rejection {
                        error_type: "mapper_parsing_exception".to_owned(),
                        cause_type: None,
                        reason: "a mapping that does not fit".to_owned(),
                        status: 400,
                    }),
                    false => ItemOutcome::Indexed,
                });
                let outcomes: Vec<_> = outcomes.collect();
                let good = actions
                    .into_iter()
                    .filter(|action| !is_poisoned(action))
                    .collect();
                self.apply(good).await?;
                Ok(outcomes)
            }
            Fault::Poison(_) => self.apply(actions).await,
            Fault::CutOff { .. } => {
                self.step().await;
                self.apply(actions).await
            }
        }
    }

    async fn ensure(&self, spec: &IndexSpec) -> Result<(), IndexError> {
        self.index.ensure(spec).await
    }
    async fn fetch(
        &self,
        ids: &[String],
        vectors: bool,
    ) -> Result<Vec<Option<Record>>, IndexError> {
        self.step().await;
        let fetched = self.index.fetch(ids, vectors).await;
        // Also after what it wrote is there, before anybody is told.
        self.step().await;
        fetched
    }
    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        self.index.search(request).await
    }
    async fn count(&self) -> Result<IndexCounts, IndexError> {
        self.index.count().await
    }
    async fn headers(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, IndexError> {
        self.index.headers(uri_prefix, after, limit).await
    }
    async fn warm_up(&self) -> Result<(), IndexError> {
        self.index.warm_up().await
    }
    async fn refresh(&self) -> Result<(), IndexError> {
        self.index.refresh().await
    }
    async fn sweep(&self, older_than_version: i64) -> Result<u64, IndexError> {
        self.index.sweep(older_than_version).await
    }
    async fn describe(&self) -> Result<IndexDescription, IndexError> {
        self.index.describe().await
    }
}
