//! Parts tell `/readyz` whether they can work.

use millrace_index::SinkState;
use millrace_kafka::ConsumerState;
use millrace_telemetry::Part;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows a consumer; one that can do nothing more cancels `failed`.
pub fn follow_consumer(
    part: Part,
    mut state: watch::Receiver<ConsumerState>,
    failed: CancellationToken,
) {
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
    });
}

/// Follows a bulk sink, which goes on by itself once the index takes writes again.
pub fn follow_sink(part: Part, mut state: watch::Receiver<SinkState>) {
    tokio::spawn(async move {
        loop {
            match &*state.borrow_and_update() {
                SinkState::Running => part.ready(),
                SinkState::Retrying { .. } => part.not_ready("retrying writes"),
                SinkState::Halted { reason } => part.not_ready(format!("halted: {reason}")),
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    });
}
