//! Sockets in, answers out.

mod connection;
mod dispatch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::service::Service;

/// After an error of `accept` (out of file descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until cancelled, then waits for them to end.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stopping: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(service.config.max_connections));
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            warn!(%peer, limit = service.config.max_connections, "too many connections; closing one");
            continue;
        };
        let (service, stopping) = (Arc::clone(&service), stopping.clone());
        connections.spawn(async move {
            let _place = place;
            let served = tokio::select! {
                () = stopping.cancelled() => Ok(()),
                served = connection::serve(stream, peer, &service) => served,
            };
            match served {
                Ok(()) => debug!(%peer, "connection closed"),
                // A client that leaves is no trouble of the broker's, however it leaves.
                Err(error) => debug!(%peer, %error, "connection closed"),
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
