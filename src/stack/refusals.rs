//! What the HTTP server itself refuses, before there is a request that a route could see, in the words
//! of all other refusals.
//!
//! hyper answers an address that is too long, headers that are too many and what is no HTTP with a bare
//! status, and offers no way to give it a body. So the answer is replaced where it is written: heads of
//! these statuses without a body are hyper's own, since every route's refusal has one.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// How a head begins, and what to say instead.
const BARE: [(&str, &str, &str); 3] = [
    (
        "HTTP/1.1 400 Bad Request\r\n",
        "malformed_http",
        "this is no HTTP/1.1 request: its first line, a header or its encoding is broken",
    ),
    (
        "HTTP/1.1 414 URI Too Long\r\n",
        "uri_too_long",
        "the address has more than 65534 bytes, the most that is read: shorten its parameters",
    ),
    (
        "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        "headers_too_large",
        "the request's first line and headers are more than is read: shorten or leave out some",
    ),
];
const NO_BODY: &[u8] = b"\r\ncontent-length: 0\r\n";

/// Accepts connections whose bare refusals get a body.
pub struct WithBodies(pub TcpListener);

impl Listener for WithBodies {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The trait's, which waits where the process has no file descriptors left.
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Connection::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection to a client.
pub struct Connection {
    stream: TcpStream,
    /// What is written for what was given to be written, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            instead: None,
        }
    }

    /// Writes what takes the place of `given`, all of it, before that counts as written. Asked again
    /// with the same until then, as writers are.
    fn poll_instead(&mut self, cx: &mut Context<'_>, given: usize) -> Poll<io::Result<usize>> {
        while let Some((text, written)) = &mut self.instead {
            let rest = text.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            let now = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if now == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += now;
        }
        Poll::Ready(Ok(given))
    }
}

/// The refusal with a body, where this is the head of one without.
fn with_body(head: &[u8]) -> Option<Vec<u8>> {
    let (begin, error_type, message) = BARE
        .iter()
        .find(|(begin, _, _)| head.starts_with(begin.as_bytes()))?;
    if !head.ends_with(b"\r\n\r\n") || !head.windows(NO_BODY.len()).any(|part| part == NO_BODY) {
        return None;
    }
    let body = json!({ "error_type": error_type, "message": message }).to_string();
    let length = body.len();
    let head = "content-type: application/json\r\nconnection: close";
    Some(format!("{begin}{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        given: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            self.instead = with_body(given).map(|text| (text, 0));
        }
        match self.instead {
            Some(_) => self.poll_instead(cx, given.len()),
            None => Pin::new(&mut self.stream).poll_write(cx, given),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        given: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A head without a body is one piece.
        match given {
            [one] => self.poll_write(cx, one),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, given),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use serde_json::Value;

    use super::*;

    /// Status line and body of the answer to these bytes.
    async fn answer(request: String) -> (String, String) {
        let routes = Router::new()
            .route("/", get(|| async { "fine" }))
            .route("/own", get(|| async { (StatusCode::URI_TOO_LONG, "own") }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(WithBodies(listener), routes).await });
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let text = asked.await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "{head}");
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn what_hyper_refuses_has_the_body_of_every_refusal() {
        let end = "host: here\r\nconnection: close\r\n\r\n";
        let long = "x".repeat(70_000);
        let headers: String = (0..200).map(|n| format!("h-{n}: 1\r\n")).collect();
        for (request, status, error_type) in [
            (
                format!("GET /{long} HTTP/1.1\r\n{end}"),
                "HTTP/1.1 414 URI Too Long",
                "uri_too_long",
            ),
            (
                format!("GET / HTTP/1.1\r\n{headers}{end}"),
                "HTTP/1.1 431 Request Header Fields Too Large",
                "headers_too_large",
            ),
            (
                "no request at all\r\n\r\n".to_owned(),
                "HTTP/1.1 400 Bad Request",
                "malformed_http",
            ),
        ] {
            let (found, body) = answer(request).await;
            assert_eq!(found, status);
            let told: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(told["error_type"], error_type, "{told}");
        }
        let (_, body) = answer(format!("GET / HTTP/1.1\r\n{end}")).await;
        assert_eq!(body, "fine");
        // A route's own refusal is left as it is.
        let (_, body) = answer(format!("GET /own HTTP/1.1\r\n{end}")).await;
        assert_eq!(body, "own");
    }
}
