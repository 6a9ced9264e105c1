//! Any bytes as what a client sends on one connection.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{connection, dispatch};
use crate::config::{BrokerConfig, FlushPolicy};
use crate::maintenance;
use crate::metadata::{Fact, Metadata};
use crate::service::Service;

const MAX_STORED_BYTES: u64 = 4 << 20;
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// A request that still waits after so many looks is one whose client has left.
const LOOKS: usize = 3;

/// Timers need one; nothing here waits for it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build();
    match built {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    }
});

/// A broker with a plain and a compacted topic gets the bytes, answers each request under its own
/// number or ends the connection, does a round of upkeep, and after a restart is where it was.
pub fn requests(connection: &[u8], dir: &Path) {
    let _timers = RUNTIME.enter();
    let service = open(dir);
    for (topic, policy) in [("plain", "delete"), ("compacted", "compact")] {
        let settings = BTreeMap::from([("cleanup.policy".to_owned(), policy.to_owned())]);
        if let Err(error) = service.topics.create(topic, 2, 1, settings, false) {
            panic!("{error}");
        }
    }
    let mut rest = connection;
    while let Some(frame) = next_frame(&mut rest) {
        let number = frame.get(4..8).map(<[u8]>::to_vec);
        let mut answering = std::pin::pin!(dispatch::answer(&service, frame, peer()));
        let mut context = Context::from_waker(Waker::noop());
        let answered = (0..LOOKS).find_map(|_| match answering.as_mut().poll(&mut context) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        });
        match answered {
            Some(Ok(Some(answer))) => {
                let length = u32::try_from(answer.len() - 4).unwrap_or(u32::MAX);
                assert_eq!(answer[..4], length.to_be_bytes());
                assert_eq!(answer.get(4..8), number.as_deref());
            }
            Some(Ok(None)) => {}
            Some(Err(_)) => break,
            None => {}
        }
    }
    maintenance::clean(&service);
    let cleaned = state(&service);
    drop(service);
    let again = open(dir);
    assert_eq!(state(&again), cleaned, "a restart changed something");
}

fn open(dir: &Path) -> Arc<Service> {
    let mut config = BrokerConfig::new(dir);
    config.flush = FlushPolicy::Never;
    config.storage_limit_bytes = Some(MAX_STORED_BYTES);
    config.request_max_bytes = MAX_REQUEST_BYTES;
    config.group_initial_delay = Duration::ZERO;
    match Service::open(config, "127.0.0.1".to_owned(), 9092) {
        Ok(service) => Arc::new(service),
        Err(error) => panic!("the broker cannot open what it wrote: {error}"),
    }
}

fn next_frame(rest: &mut &[u8]) -> Option<bytes::Bytes> {
    let mut reading = std::pin::pin!(connection::read_frame(rest, MAX_REQUEST_BYTES));
    let mut context = Context::from_waker(Waker::noop());
    match reading.as_mut().poll(&mut context) {
        Poll::Ready(read) => read.ok().flatten(),
        Poll::Pending => panic!("a slice never waits"),
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000))
}

/// What a restart must keep.
#[derive(Debug, PartialEq)]
struct State {
    facts: Vec<Fact>,
    /// Topic, partition, first and next offset, bytes.
    logs: Vec<(String, usize, i64, i64, u64)>,
}

fn state(service: &Service) -> State {
    let topics = service.topics.all();
    let logs = topics.iter().flat_map(|topic| {
        let name = topic.name.clone();
        let partitions = topic.partitions().into_iter().enumerate();
        partitions.map(move |(index, partition)| {
            let log = partition.log();
            let (start, end, bytes) = (log.start_offset(), log.end_offset(), log.bytes());
            (name.clone(), index, start, end, bytes)
        })
    });
    State {
        facts: service.journal.read(Metadata::facts),
        logs: logs.collect(),
    }
}
