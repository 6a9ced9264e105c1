//! What happens by itself: sessions and transactions time out, bytes go to disk, old records go.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock::now_ms;
use crate::config::FlushPolicy;
use crate::partition::Partition;
use crate::service::Service;
use crate::topic_config::TopicConfig;

/// Resolution of session and transaction timeouts.
const TICK: Duration = Duration::from_millis(50);
/// As Kafka's `producer.id.expiration.ms`.
const FORGET_PRODUCERS_MS: i64 = 86_400_000;

/// Runs until cancelled.
pub async fn run(service: Arc<Service>, stopping: CancellationToken) {
    let timeouts = every(TICK, stopping.clone(), {
        let service = Arc::clone(&service);
        move || {
            service.groups.tick();
            if service.transactions.tick() {
                service.appended.notify_waiters();
            }
        }
    });
    let flush_interval = match service.config.flush {
        FlushPolicy::Every(interval) => {
            (interval / 4).clamp(Duration::from_millis(5), Duration::from_millis(250))
        }
        FlushPolicy::Never | FlushPolicy::EachWrite => Duration::from_millis(250),
    };
    let flushes = every(flush_interval, stopping.clone(), {
        let service = Arc::clone(&service);
        move || flush(&service)
    });
    let cleaning = every(service.config.maintenance_interval, stopping, move || {
        clean(&service);
    });
    tokio::join!(timeouts, flushes, cleaning);
}

/// Repeats a job that may block, one run at a time.
async fn every(
    interval: Duration,
    stopping: CancellationToken,
    job: impl Fn() + Send + Sync + 'static,
) {
    let job = Arc::new(job);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let run = Arc::clone(&job);
        if let Err(error) = tokio::task::spawn_blocking(move || run()).await {
            error!(%error, "a maintenance job panicked; it runs again");
        }
    }
}

fn flush(service: &Service) {
    for topic in service.topics.all() {
        let config = topic.config();
        for (index, partition) in topic.partitions().iter().enumerate() {
            if let Err(error) = partition.flush_overdue(&config, service.config.flush) {
                error!(topic = topic.name, partition = index, %error, "records could not be forced to disk");
            }
        }
    }
    if let FlushPolicy::Every(_) = service.config.flush
        && let Err(error) = service.journal.flush()
    {
        error!(%error, "the journal could not be forced to disk");
    }
}

/// One round of expiry, retention and compaction.
pub fn clean(service: &Service) {
    let retention_ms =
        i64::try_from(service.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
    service.groups.expire(now_ms(), retention_ms);
    for topic in service.topics.all() {
        let config = topic.config();
        for (index, partition) in topic.partitions().iter().enumerate() {
            let cleaned = clean_partition(partition, &config);
            // A topic deleted meanwhile has no files any more.
            if let Err(error) = cleaned
                && service.topics.get(&topic.name).is_some()
            {
                error!(topic = topic.name, partition = index, %error, "retention or compaction failed; it is tried again");
            }
        }
    }
}

fn clean_partition(partition: &Partition, config: &TopicConfig) -> io::Result<()> {
    let now_ms = now_ms();
    let due = {
        let mut log = partition.log();
        log.forget_idle_producers(now_ms.saturating_sub(FORGET_PRODUCERS_MS));
        log.retain(config, now_ms)?;
        log.plan_compaction(config, now_ms)?
    };
    let Some(compaction) = due else { return Ok(()) };
    let compacted = compaction.run()?;
    partition.log().install(compacted, now_ms)
}
