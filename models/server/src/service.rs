//! One request from its inputs to its vectors, whatever the dialect; how rows are computed, whatever
//! they are for.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millrace_models::TokenSequence;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::admission::Admission;
use crate::answer::Shape;
use crate::config::ModelServerConfig;
use crate::error::ServeError;
use crate::inputs::Inputs;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::prepare::{Reading, estimate, prepare};
use crate::queue::{Queue, Row, RowError};
use crate::registry::{Registry, Served};
use crate::reranker::Reranker;

/// When a request's answer is worth nothing any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub started: Instant,
    pub timeout: Duration,
}

impl Deadline {
    pub fn at(self) -> Instant {
        self.started + self.timeout
    }

    pub fn late(self) -> ServeError {
        ServeError::Late {
            timeout: self.timeout,
        }
    }

    /// What `work` gives, unless the time is over first.
    pub async fn within<T>(self, work: impl Future<Output = T>) -> Result<T, ServeError> {
        let done = tokio::time::timeout_at(self.at().into(), work).await;
        done.map_err(|_| self.late())
    }
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Ask {
    pub model: Arc<Served>,
    pub inputs: Inputs,
    /// `None`: as configured.
    pub truncate: Option<bool>,
    pub prompt_name: Option<String>,
    pub shape: Shape,
    pub deadline: Deadline,
}

/// The vectors of a request, in the order of its inputs.
#[derive(Debug)]
pub(crate) struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    /// Tokens computed, those that the model adds included.
    pub tokens: usize,
}

/// What a model made of the rows of a request, in their order.
#[derive(Debug)]
pub(crate) struct Computed {
    /// A vector each, or one score.
    pub rows: Vec<Vec<f32>>,
    /// Tokens computed, those that the model adds included.
    pub tokens: usize,
}

/// Whether requests are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not all models are loaded and warm.
    Loading,
    Ready,
}

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Service {
    pub config: ModelServerConfig,
    pub registry: Arc<Registry>,
    /// Set once, where one is configured.
    pub reranker: Arc<OnceLock<Arc<Reranker>>>,
    pub admission: Arc<Admission>,
    pub queue: Arc<Queue>,
    pub metrics: Metrics,
    /// Requests whose texts are read at a time.
    pub readers: Arc<Semaphore>,
    /// Bytes of bodies in hand.
    pub bodies: Arc<Semaphore>,
    pub state: watch::Sender<State>,
}

impl Service {
    /// Refuses while models are being loaded.
    pub fn ready(&self) -> Result<(), ServeError> {
        match *self.state.borrow() {
            State::Ready => Ok(()),
            State::Loading => Err(ServeError::NotReady {
                reason: "the models are being loaded and warmed up".to_owned(),
            }),
        }
    }

    /// Takes a request through all stages.
    pub async fn embed(&self, ask: Ask) -> Result<Embedded, ServeError> {
        let Ask {
            model,
            inputs,
            truncate,
            prompt_name,
            shape,
            deadline,
        } = ask;
        let (found, limit) = (inputs.len(), self.config.max_inputs);
        if found > limit {
            return Err(ServeError::TooManyInputs { found, limit });
        }
        shape.fits(model.encoder().dimension())?;
        let prompt = prompt_name.map(|name| model.prompt(&name).map(str::to_owned));
        let reading = Reading {
            truncate: truncate.unwrap_or(self.config.auto_truncate),
            prompt: prompt.transpose()?,
            max_text_bytes: self.config.max_text_bytes,
        };
        let guessed = estimate(&model, &inputs);
        let reader = Arc::clone(&model);
        let read = move || {
            let sequences = prepare(&reader, &inputs, &reading)?;
            Ok(sequences.into_iter().map(TokenSequence::alone).collect())
        };
        let Computed {
            rows: mut vectors,
            tokens,
        } = self.compute(model, &guessed, deadline, read).await?;
        for vector in &mut vectors {
            shape.apply(vector);
        }
        Ok(Embedded { vectors, tokens })
    }

    /// Admits rows of about `guessed` tokens each, lets `read` make them, and has them computed.
    pub async fn compute(
        &self,
        model: Arc<dyn Model>,
        guessed: &[usize],
        deadline: Deadline,
        read: impl FnOnce() -> Result<Vec<TokenSequence>, ServeError> + Send + 'static,
    ) -> Result<Computed, ServeError> {
        // Before the texts are read: where there is no room, being told so costs nearly nothing.
        let mut rooms = self.admission.admit(guessed, model.rate(), deadline.at())?;
        let sequences = self.read(deadline, read).await?;
        let lengths: Vec<usize> = sequences.iter().map(|row| row.ids.len()).collect();
        let tokens: usize = lengths.iter().sum();
        let limit = self.config.max_queued_tokens;
        if tokens > limit {
            return Err(ServeError::TooLarge { limit });
        }
        for (room, length) in rooms.iter_mut().zip(&lengths) {
            room.resize(*length);
        }
        let mut replies = Vec::with_capacity(sequences.len());
        let rows = sequences.into_iter().zip(rooms).map(|(sequence, room)| {
            let (reply, computed) = oneshot::channel();
            replies.push(computed);
            Row {
                model: Arc::clone(&model),
                sequence,
                deadline: deadline.at(),
                reply,
                _room: room,
            }
        });
        self.queue.push(rows.collect());
        // Dropped when the time is over: rows whose reply nobody waits for are not computed.
        let rows = match deadline.within(collect(replies)).await? {
            Ok(rows) => rows,
            Err(RowError::Late) => return Err(deadline.late()),
            Err(RowError::Failed(reason)) => return Err(ServeError::Encoder { reason }),
            Err(RowError::Stopped) => {
                return Err(ServeError::NotReady {
                    reason: "the server is stopping".to_owned(),
                });
            }
        };
        self.metrics
            .computed(rows.len(), deadline.started.elapsed());
        Ok(Computed { rows, tokens })
    }

    /// What `work` makes of texts, on a blocking thread, for as many requests at a time as there are
    /// cores, and within the request's time.
    pub async fn read<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
    ) -> Result<T, ServeError> {
        let reading = async {
            // Never closed; without the permit there would only be more readers at a time.
            let permit = Arc::clone(&self.readers).acquire_owned().await;
            let work = move || {
                // Held by the work, which goes on where its caller has left.
                let _permit = permit;
                work()
            };
            tokio::task::spawn_blocking(work).await
        };
        let read = deadline.within(reading).await?;
        read.map_err(|_| ServeError::Encoder {
            reason: "tokenizing panicked".to_owned(),
        })?
    }
}

async fn collect(
    replies: Vec<oneshot::Receiver<Result<Vec<f32>, RowError>>>,
) -> Result<Vec<Vec<f32>>, RowError> {
    let mut vectors = Vec::with_capacity(replies.len());
    for reply in replies {
        let vector = reply.await.unwrap_or(Err(RowError::Stopped))?;
        if vector.is_empty() || !vector.iter().all(|component| component.is_finite()) {
            return Err(RowError::Failed(
                "what it computed is not finite".to_owned(),
            ));
        }
        vectors.push(vector);
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use millrace_models::ModelStore;

    use super::*;

    /// Without models, and with so many readers.
    fn service(readers: usize) -> Service {
        let config = ModelServerConfig::default();
        let store = ModelStore::at(Path::new("nowhere"));
        Service {
            registry: Arc::new(Registry::new(store.into(), None)),
            reranker: Arc::default(),
            admission: Admission::new(config.max_queued_tokens),
            queue: Arc::default(),
            metrics: Metrics::new(),
            readers: Arc::new(Semaphore::new(readers)),
            bodies: Arc::new(Semaphore::new(config.max_in_flight_bytes)),
            state: watch::Sender::new(State::Ready),
            config,
        }
    }

    #[tokio::test]
    async fn texts_are_read_by_so_many_at_a_time_and_within_the_time() {
        let within = |timeout: Duration| Deadline {
            started: Instant::now(),
            timeout,
        };
        let (one, none) = (service(1), service(0));
        let read = one.read(within(Duration::from_secs(60)), || Ok(7)).await;
        assert_eq!(read, Ok(7));
        let deadline = within(Duration::from_millis(10));
        let read = none.read(deadline, || -> Result<(), ServeError> {
            panic!("read without a reader")
        });
        assert_eq!(read.await, Err(deadline.late()));
    }
}
