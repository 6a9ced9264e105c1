//! A TCP relay between one role and the broker, which can be cut.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Carries connections to one address; stops when dropped.
#[derive(Debug)]
pub struct Relay {
    cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// From `listen`, a port of loopback, to `to`.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(listen: u16, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", listen))
            .await
            .with_context(|| format!("no relay on port {listen}"))?;
        let (cut, watched) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else {
                    continue;
                };
                tokio::spawn(carry(connection, to, watched.clone()));
            }
        });
        Ok(Self { cut, accepting })
    }

    /// Cuts all connections and takes no new one for so long.
    pub async fn cut_for(&self, lasting: Duration) {
        self.cut.send_replace(true);
        tokio::time::sleep(lasting).await;
        self.cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Ends at the end of either side, or when the relay is cut; dropping the sockets closes them.
async fn carry(mut from: TcpStream, to: SocketAddr, mut cut: watch::Receiver<bool>) {
    if *cut.borrow() {
        return;
    }
    let Ok(mut to) = TcpStream::connect(to).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut from, &mut to) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}
