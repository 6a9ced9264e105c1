//! The handle of a running broker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::config::BrokerConfig;
use crate::data_dir::DataDirLock;
use crate::journal::JournalError;
use crate::service::Service;
use crate::topics::TopicError;
use crate::{maintenance, server};

/// A broker that could not start.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// Another process has the folder.
    #[error("the data folder {} is in use by process {pid}; stop it, or use another folder", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The holder, as it wrote itself into the lock file.
        pid: String,
    },
    /// The folder cannot be read or written.
    #[error("cannot use the data folder {}", dir.display())]
    DataDir {
        /// The folder.
        dir: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Topics, offsets and groups could not be read.
    #[error(transparent)]
    Journal(#[from] JournalErrorOpaque),
    /// A topic's records could not be read.
    #[error(transparent)]
    Topic(#[from] TopicErrorOpaque),
    /// Anybody on the network could read and write.
    #[error(
        "{0} is reachable from other machines and the broker has no authentication; set allow_remote if that is meant"
    )]
    Remote(SocketAddr),
    /// The advertised address is not `host:port`.
    #[error("the advertised address {0:?} is not host:port")]
    Advertised(String),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The operating system gave no thread.
    #[error("cannot start the broker's threads")]
    Threads(#[source] std::io::Error),
}

/// Why the journal could not be read.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct JournalErrorOpaque(#[from] JournalError);

/// Why a topic could not be read.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct TopicErrorOpaque(#[from] TopicError);

impl From<JournalError> for BrokerError {
    fn from(error: JournalError) -> BrokerError {
        BrokerError::Journal(error.into())
    }
}

impl From<TopicError> for BrokerError {
    fn from(error: TopicError) -> BrokerError {
        BrokerError::Topic(error.into())
    }
}

/// A running broker. Dropping it stops it, as [`Broker::stop`] does.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    service: Arc<Service>,
    stopping: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Opens the data folder, binds, and serves on a thread of its own.
    pub fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
        if !config.listen.ip().is_loopback() && !config.allow_remote {
            return Err(BrokerError::Remote(config.listen));
        }
        let lock = DataDirLock::acquire(&config.data_dir)?;
        let listen_failed = |source| BrokerError::Listen {
            address: config.listen,
            source,
        };
        let listener = std::net::TcpListener::bind(config.listen).map_err(listen_failed)?;
        listener.set_nonblocking(true).map_err(listen_failed)?;
        let address = listener.local_addr().map_err(listen_failed)?;
        let (host, port) = match &config.advertised {
            None => (address.ip().to_string(), address.port()),
            Some(advertised) => split_host_port(advertised)?,
        };
        let worker_threads = config.worker_threads.max(1);
        // Before the runtime: a folder that can't be opened must not drop one inside the caller's.
        let service = Arc::new(Service::open(config, host, port)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(worker_threads)
            .thread_name("broker-worker")
            .enable_all()
            .build()
            .map_err(BrokerError::Threads)?;
        let stopping = CancellationToken::new();
        let (serving, stop) = (Arc::clone(&service), stopping.clone());
        let serve = move || {
            let _held_to_the_end = lock;
            runtime.block_on(async {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let upkeep = maintenance::run(Arc::clone(&serving), stop.clone());
                        let ((), ()) = tokio::join!(
                            server::serve(listener, Arc::clone(&serving), stop),
                            upkeep
                        );
                    }
                    Err(error) => error!(%error, "the listener could not be registered"),
                }
            });
            // Running requests end before the last flush.
            runtime.shutdown_timeout(Duration::from_secs(10));
            if let Err(error) = serving.flush() {
                error!(%error, "the last flush failed");
            }
        };
        let thread = std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn(serve)
            .map_err(BrokerError::Threads)?;
        info!(%address, data_dir = %service.config.data_dir.display(), "broker started");
        Ok(Broker {
            address,
            service,
            stopping,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value of clients' `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", self.service.host, self.service.port)
    }

    /// Bytes that records and journal take.
    pub fn stored_bytes(&self) -> u64 {
        self.service.quota.used_bytes()
    }

    /// Changes the limit that [`BrokerConfig::storage_limit_bytes`] set.
    pub fn set_storage_limit(&self, limit_bytes: Option<u64>) {
        self.service.quota.set_limit(limit_bytes);
    }

    /// Ends connections, forces everything to disk, and lets go of the data folder.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        self.stopping.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the broker's thread panicked");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.halt();
    }
}

fn split_host_port(advertised: &str) -> Result<(String, u16), BrokerError> {
    let refused = || BrokerError::Advertised(advertised.to_owned());
    let (host, port) = advertised.rsplit_once(':').ok_or_else(refused)?;
    let port = port.parse().map_err(|_| refused())?;
    if host.is_empty() {
        Err(refused())
    } else {
        Ok((host.to_owned(), port))
    }
}
