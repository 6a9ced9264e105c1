//! Chunks to vectors, in batches across documents.
//!
//! Chunks of all documents stand in one bounded queue. A few threads of our own each take what is
//! there, up to a budget of tokens, and hand it to the encoder, which cuts it into micro-batches
//! for its workers. Two batches are under way at a time, because the end of one leaves workers
//! idle that the other fills. There is no timer: where the encoder is the slowest stage, the queue
//! is full and so are the batches; where it is not, nobody waits.
//!
//! Threads of our own and not `spawn_blocking`: they live as long as the pipeline and do nothing
//! but wait for the encoder's workers, and the runtime's blocking threads stay free for reading.
//!
//! A model server that is away, overloaded or being deployed is waited for: the whole batch goes to
//! it again, and no chunk is refused for it. A stop ends the waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_models::{Encoder, ModelError};
use millrace_retry::{FullJitter, Patience, error_chain};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::config::EmbedConfig;

/// Chunks waiting for the encoder; with the model's maximum of tokens each, some 100 KiB.
const QUEUE_CHUNKS: usize = 256;

/// Why a chunk has no vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// The encoder refuses this chunk; another one of the same batch may be good.
    #[error("the encoder refuses a chunk: {0}")]
    Refused(String),
    /// The encoder panicked on this chunk.
    #[error("the encoder panicked")]
    Panicked,
    /// The encoder gave a vector with a component that is no number.
    #[error("the encoder gave a vector that is not finite")]
    NotFinite,
    /// The encoder has stopped: the pipeline is shutting down.
    #[error("the encoder has stopped")]
    Stopped,
}

impl EmbedError {
    /// Stable name for dead letters, metrics and queries.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Refused(_) => "encoder_refused",
            Self::Panicked => "encoder_panicked",
            Self::NotFinite => "vector_not_finite",
            Self::Stopped => "encoder_stopped",
        }
    }
}

struct Request {
    token_ids: Vec<u32>,
    reply: oneshot::Sender<Result<Vec<f32>, EmbedError>>,
}

/// Hands chunks to the encoder's threads; cheap to clone. The threads end when all clones are gone.
#[derive(Clone, Debug)]
pub struct Embedder {
    requests: mpsc::Sender<Request>,
}

impl Embedder {
    /// Starts the threads, within a runtime, whose clock they wait by.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        encoder: &Arc<Encoder>,
        config: &EmbedConfig,
        patience: &Patience,
    ) -> std::io::Result<Self> {
        let runtime = Handle::current();
        let (requests, queue) = mpsc::channel(QUEUE_CHUNKS);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..config.batches.max(1) {
            let (encoder, queue) = (Arc::clone(encoder), Arc::clone(&queue));
            let batch_tokens = config.batch_tokens;
            let waiting = Waiting {
                patience: patience.clone(),
                runtime: runtime.clone(),
            };
            std::thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || {
                    while let Some(batch) = next_batch(&queue, batch_tokens) {
                        answer(&encoder, batch, &waiting);
                    }
                })?;
        }
        Ok(Self { requests })
    }

    /// The vectors of `chunks` (token ids as the model's tokenizer makes them), each of the
    /// encoder's dimension with norm 1, in order. Waits while the queue is full; the queue is fair,
    /// so a document of thousands of chunks does not hold up the others.
    ///
    /// # Errors
    /// [`EmbedError`] of the first chunk that has no vector.
    pub async fn embed(&self, chunks: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut waiting = Vec::with_capacity(chunks.len());
        for token_ids in chunks {
            let (reply, vector) = oneshot::channel();
            self.requests
                .send(Request { token_ids, reply })
                .await
                .map_err(|_| EmbedError::Stopped)?;
            waiting.push(vector);
        }
        let mut vectors = Vec::with_capacity(waiting.len());
        for vector in waiting {
            vectors.push(vector.await.map_err(|_| EmbedError::Stopped)??);
        }
        Ok(vectors)
    }
}

/// Waits for a chunk, then takes what else is there up to the budget. The lock is held while
/// waiting: whoever waits for the queue waits for the same chunk.
fn next_batch(queue: &Mutex<mpsc::Receiver<Request>>, batch_tokens: usize) -> Option<Vec<Request>> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let first = queue.blocking_recv()?;
    let mut tokens = first.token_ids.len();
    let mut batch = vec![first];
    while tokens < batch_tokens
        && let Ok(request) = queue.try_recv()
    {
        tokens += request.token_ids.len();
        batch.push(request);
    }
    Some(batch)
}

/// How a thread of our own waits between two attempts.
struct Waiting {
    patience: Patience,
    runtime: Handle,
}

/// Why a batch has no vectors.
enum BatchError {
    Chunk(EmbedError),
    /// Another attempt may succeed.
    Away(String),
}

fn answer(encoder: &Encoder, mut batch: Vec<Request>, waiting: &Waiting) {
    let mut delays = FullJitter::default();
    while let Err(reason) = answer_or_keep(encoder, &mut batch) {
        let delay = delays.next_delay();
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            reason,
            chunks = batch.len(),
            delay_ms,
            "the model server gives no vectors; waiting before the batch goes to it again"
        );
        let stopped = waiting.runtime.block_on(waiting.patience.delay(delay));
        if stopped.is_err() {
            for request in batch {
                // Nobody waits any more where the document was given up, as below.
                let _ = request.reply.send(Err(EmbedError::Stopped));
            }
            return;
        }
    }
}

/// Answers the requests of `batch`, or leaves them there and says why the encoder is away.
fn answer_or_keep(encoder: &Encoder, batch: &mut Vec<Request>) -> Result<(), String> {
    // Nobody waits for these any more: their document was given up.
    batch.retain(|request| !request.reply.is_closed());
    let sequences: Vec<&[u32]> = batch
        .iter()
        .map(|request| request.token_ids.as_slice())
        .collect();
    if sequences.is_empty() {
        return Ok(());
    }
    let vectors = encode(encoder, &sequences);
    // Below, a reply that nobody waits for any more is no error: its document was given up, and
    // comes again.
    match vectors {
        Ok(vectors) => {
            for (request, vector) in batch.drain(..).zip(vectors) {
                let _ = request.reply.send(finite(vector));
            }
        }
        Err(BatchError::Away(reason)) => return Err(reason),
        // One chunk must not take the others of its batch with it.
        Err(BatchError::Chunk(error)) if batch.len() > 1 => {
            tracing::warn!(error = %error, chunks = batch.len(), "a batch failed; encoding its chunks one by one");
            while let Some(request) = batch.last() {
                let vector = match encode(encoder, &[&request.token_ids]) {
                    Ok(vectors) => finite(vectors.into_iter().next().unwrap_or_default()),
                    Err(BatchError::Chunk(error)) => Err(error),
                    Err(BatchError::Away(reason)) => return Err(reason),
                };
                if let Some(request) = batch.pop() {
                    let _ = request.reply.send(vector);
                }
            }
        }
        Err(BatchError::Chunk(error)) => {
            for request in batch.drain(..) {
                let _ = request.reply.send(Err(error.clone()));
            }
        }
    }
    Ok(())
}

fn encode(encoder: &Encoder, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, BatchError> {
    catch_unwind(AssertUnwindSafe(|| encoder.encode_tokens(sequences)))
        .map_err(|_| BatchError::Chunk(EmbedError::Panicked))?
        .map_err(|error: ModelError| {
            if error.is_transient() {
                BatchError::Away(error_chain(&error))
            } else {
                BatchError::Chunk(EmbedError::Refused(error_chain(&error)))
            }
        })
}

fn finite(vector: Vec<f32>) -> Result<Vec<f32>, EmbedError> {
    if !vector.is_empty() && vector.iter().all(|component| component.is_finite()) {
        Ok(vector)
    } else {
        Err(EmbedError::NotFinite)
    }
}
