//! Parts tell `/readyz` whether they can work.

use millrace_index::SinkState;
use millrace_kafka::ConsumerState;
use millrace_stateful::RunState;
use millrace_telemetry::Part;
use millrace_vectorizer::VectorizerState;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Follows a consumer; one that can do nothing more cancels `failed`.
pub fn follow_consumer(
    part: Part,
    mut state: watch::Receiver<ConsumerState>,
    failed: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match &*state.borrow_and_update() {
                ConsumerState::Ready { .. } => part.ready(),
                ConsumerState::Connecting => part.not_ready("joining its group"),
                ConsumerState::Waiting { reason } => part.not_ready(reason.clone()),
                ConsumerState::Draining => part.not_ready("draining"),
                ConsumerState::Stopped => part.not_ready("stopped"),
                ConsumerState::Fatal { reason } => {
                    tracing::error!(reason, "the consumer can't go on; restart the process");
                    part.not_ready(reason.clone());
                    failed.cancel();
                }
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    })
}

/// Follows a bulk sink, which goes on by itself once the index takes writes again.
pub fn follow_sink(part: Part, mut state: watch::Receiver<SinkState>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match &*state.borrow_and_update() {
                SinkState::Running => part.ready(),
                SinkState::Retrying { reason } => part.not_ready(format!("retrying: {reason}")),
                SinkState::Halted { reason } => part.not_ready(format!("halted: {reason}")),
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    })
}

/// Cancels `failed` when the vectorizer can't go on.
pub fn follow_vectorizer(
    mut state: watch::Receiver<VectorizerState>,
    failed: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let failure = state
            .wait_for(|state| matches!(state, VectorizerState::Failed { .. }))
            .await;
        if let Ok(state) = failure
            && let VectorizerState::Failed { reason } = &*state
        {
            tracing::error!(reason, "the vectorizer can't go on; restart the process");
            failed.cancel();
        }
    })
}

/// Cancels `failed` when a stateful consumer can't go on.
pub fn follow_stateful(mut state: watch::Receiver<RunState>, failed: CancellationToken) {
    tokio::spawn(async move {
        let failure = state
            .wait_for(|state| matches!(state, RunState::Failed { .. }))
            .await;
        // It has said why itself.
        if failure.is_ok() {
            failed.cancel();
        }
    });
}
