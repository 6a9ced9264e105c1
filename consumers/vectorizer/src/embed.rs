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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_models::{Encoder, ModelError};
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
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(encoder: &Arc<Encoder>, config: &EmbedConfig) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE_CHUNKS);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..config.batches.max(1) {
            let (encoder, queue) = (Arc::clone(encoder), Arc::clone(&queue));
            let batch_tokens = config.batch_tokens;
            std::thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || {
                    while let Some(batch) = next_batch(&queue, batch_tokens) {
                        answer(&encoder, batch);
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

fn answer(encoder: &Encoder, batch: Vec<Request>) {
    // Nobody waits for these any more: their document was given up.
    let batch: Vec<Request> = batch
        .into_iter()
        .filter(|request| !request.reply.is_closed())
        .collect();
    let sequences: Vec<&[u32]> = batch
        .iter()
        .map(|request| request.token_ids.as_slice())
        .collect();
    if sequences.is_empty() {
        return;
    }
    let vectors = encode(encoder, &sequences);
    // Below, a reply that nobody waits for any more is no error: its document was given up, and
    // comes again.
    match vectors {
        Ok(vectors) => {
            for (request, vector) in batch.into_iter().zip(vectors) {
                let _ = request.reply.send(finite(vector));
            }
        }
        // One chunk must not take the others of its batch with it.
        Err(error) if batch.len() > 1 => {
            tracing::warn!(error = %error, chunks = batch.len(), "a batch failed; encoding its chunks one by one");
            for request in batch {
                let vector = encode(encoder, &[&request.token_ids])
                    .and_then(|vectors| finite(vectors.into_iter().next().unwrap_or_default()));
                let _ = request.reply.send(vector);
            }
        }
        Err(error) => {
            for request in batch {
                let _ = request.reply.send(Err(error.clone()));
            }
        }
    }
}

fn encode(encoder: &Encoder, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, EmbedError> {
    catch_unwind(AssertUnwindSafe(|| encoder.encode_tokens(sequences)))
        .map_err(|_| EmbedError::Panicked)?
        .map_err(|error: ModelError| EmbedError::Refused(error.to_string()))
}

fn finite(vector: Vec<f32>) -> Result<Vec<f32>, EmbedError> {
    if !vector.is_empty() && vector.iter().all(|component| component.is_finite()) {
        Ok(vector)
    } else {
        Err(EmbedError::NotFinite)
    }
}
