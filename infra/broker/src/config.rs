//! What a broker is told when it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::storage::FlushPolicy;

/// Settings of a broker. [`BrokerConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where everything is kept. One process at a time.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 picks a free one. Default `127.0.0.1:0`. There is no authentication,
    /// so another than a loopback address is refused unless `allow_remote` is set.
    pub listen: SocketAddr,
    /// Lets `listen` be reachable from other machines. Default false.
    pub allow_remote: bool,
    /// `host:port` under which clients reach the broker, if not the address that it listens on.
    pub advertised: Option<String>,
    /// When acknowledged records are forced to disk. Default: at most a second later.
    pub flush: FlushPolicy,
    /// Makes a topic when a client asks for one that is not there. Default false.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is made without saying how many. Default 1.
    pub default_partitions: i32,
    /// `max.message.bytes` of topics that do not set it: the largest batch, in bytes. Default 1,048,588.
    pub message_max_bytes: usize,
    /// The largest request, in bytes. A client that sends a larger one is disconnected. Default 100 MiB.
    pub request_max_bytes: usize,
    /// Connections at a time; more are closed at once. Default 1,000.
    pub max_connections: usize,
    /// Whether members of groups go on where they were. Without it all groups begin empty, for who knows
    /// that no member can be alive. Default true.
    pub keep_members: bool,
    /// How long a group's first members wait for others. Default 100 ms.
    pub group_initial_delay: Duration,
    /// How long the offsets of a group without members are kept. Default 7 days.
    pub offsets_retention: Duration,
    /// Between two rounds of retention and compaction. Default 10 s.
    pub maintenance_interval: Duration,
    /// Bytes that records and journal may take; beyond it the disk counts as full. Default no limit.
    pub storage_limit_bytes: Option<u64>,
    /// Threads of the broker's own runtime. Default 2.
    pub worker_threads: usize,
}

impl BrokerConfig {
    /// The defaults over a data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> BrokerConfig {
        BrokerConfig {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            advertised: None,
            flush: FlushPolicy::Every(Duration::from_secs(1)),
            auto_create_topics: false,
            default_partitions: 1,
            message_max_bytes: 1_048_588,
            request_max_bytes: 100 << 20,
            max_connections: 1000,
            keep_members: true,
            group_initial_delay: Duration::from_millis(100),
            offsets_retention: Duration::from_hours(7 * 24),
            maintenance_interval: Duration::from_secs(10),
            storage_limit_bytes: None,
            worker_threads: 2,
        }
    }
}
