//! One client: frames in order, one answer at a time, as Kafka does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::dispatch::{self, RequestError};
use crate::service::Service;

/// A frame grows by so much while it arrives, so that a length field alone takes no memory.
const READ_STEP_BYTES: usize = 1 << 20;

/// Why a client is disconnected.
#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
    #[error("a request of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge { bytes: i32, limit: usize },
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Serves a connection to its end.
pub async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    service: &Arc<Service>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    while let Some(frame) = read_frame(&mut stream, service.config.request_max_bytes).await? {
        let answering = dispatch::answer(service, frame, peer);
        let answer = tokio::select! {
            biased;
            answer = answering => answer?,
            // A member that waits in a rebalance, or a reader that waits for records, may die: then
            // nobody waits, and what it held is let go.
            () = hung_up(&stream) => return Ok(()),
        };
        if let Some(answer) = answer {
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<Bytes>, ConnectionError> {
    let length = match stream.read_i32().await {
        Ok(length) => length,
        Err(error) if is_hang_up(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let wanted = usize::try_from(length)
        .ok()
        .filter(|wanted| *wanted <= limit);
    let Some(wanted) = wanted else {
        return Err(ConnectionError::TooLarge {
            bytes: length,
            limit,
        });
    };
    let mut frame = BytesMut::with_capacity(wanted.min(READ_STEP_BYTES));
    while frame.len() < wanted {
        let missing = wanted - frame.len();
        frame.reserve(missing.min(READ_STEP_BYTES));
        let read = (&mut *stream)
            .take(missing as u64)
            .read_buf(&mut frame)
            .await?;
        if read == 0 {
            return Ok(None);
        }
    }
    Ok(Some(frame.freeze()))
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

/// Completes when the peer is gone; never when it has sent more.
async fn hung_up(stream: &TcpStream) {
    let mut next = [0];
    if matches!(stream.peek(&mut next).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}
