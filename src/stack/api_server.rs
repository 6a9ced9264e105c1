//! The HTTP server of a stack.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use millrace_telemetry::Health;
use millrace_telemetry::prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};
use crate::config::Config;

/// Serves until stopped.
pub struct ApiServer {
    /// Where it listens.
    pub address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl ApiServer {
    /// Binds and serves the API where there is one, what takes notices and events in, and the
    /// process's state.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(
        config: &Config,
        state: Option<ApiState>,
        intake: Router,
        health: Health,
        registry: Registry,
    ) -> anyhow::Result<Self> {
        let listen = config.api.listen;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!(
                "can't listen on {listen}; set api.listen (MILLRACE_API__LISTEN) to another address, \
                 port 0 takes a free one"
            )
        })?;
        let address = listener.local_addr()?;
        let routes = state
            .map_or_else(Router::new, api::router)
            .merge(millrace_telemetry::router(health, Arc::new(registry)))
            .merge(intake)
            .fallback(api::error::unknown_route)
            .method_not_allowed_fallback(api::error::method_not_allowed);
        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            axum::serve(
                listener,
                routes.into_make_service_with_connect_info::<SocketAddr>(),
            )
            .with_graceful_shutdown(stopped)
            .await
        });
        Ok(Self {
            address,
            stopping,
            serving,
        })
    }

    /// Answers what was asked already, then stops.
    pub async fn stop(self) {
        self.stopping.cancel();
        match self.serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the API ended with an error"),
            Err(error) => tracing::warn!(%error, "the API was cut off"),
        }
    }
}
