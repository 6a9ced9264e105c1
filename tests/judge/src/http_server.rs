//! A small HTTP server that can misbehave: what the fault proxy and the object server stand on.
//!
//! hyper alone, not axum: a handler must be able to cut the connection before or in the middle of
//! an answer, and axum's handlers always answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a handler does with a request.
#[derive(Debug)]
pub enum Answer {
    /// Answers it.
    Whole(Response<Bytes>),
    /// Sends the headers and half of the body, then cuts the connection.
    Half(Response<Bytes>),
    /// Cuts the connection without an answer.
    HangUp,
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct HttpServer {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl HttpServer {
    /// Serves on a free port of loopback. Bodies are read whole before the handler is called.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start<H, F>(handler: H) -> anyhow::Result<Self>
    where
        H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no free port for an HTTP server")?;
        let address = listener.local_addr()?;
        let handler = Arc::new(handler);
        let accepting = tokio::spawn(async move {
            // An accept fails only for the one connection that was reset before it.
            loop {
                let Ok((connection, _)) = listener.accept().await else {
                    continue;
                };
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let handler = Arc::clone(&handler);
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                            respond(handler(Request::from_parts(head, body)).await)
                        }
                    });
                    // A client that left, or a connection that was cut on purpose.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), service)
                        .await;
                });
            }
        });
        Ok(Self { address, accepting })
    }

    /// Its base URL, without a closing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An error of the service makes hyper close the connection.
fn respond(answer: Answer) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
    match answer {
        Answer::Whole(response) => {
            Ok(response.map(|body| Full::new(body).map_err(|never| match never {}).boxed()))
        }
        Answer::Half(response) => {
            let (mut head, body) = response.into_parts();
            head.headers
                .insert(header::CONTENT_LENGTH, body.len().into());
            let half = body.slice(..body.len() / 2);
            let frames = [
                Ok(Frame::data(half)),
                Err(io::Error::other("cut off on purpose")),
            ];
            let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
            Ok(Response::from_parts(head, body))
        }
        Answer::HangUp => Err(io::Error::other("hung up on purpose")),
    }
}
