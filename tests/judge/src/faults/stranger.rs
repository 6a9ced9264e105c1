//! A member that joins the vectorizers' group, takes its share of the partitions, finishes nothing
//! and leaves: two rebalances, and every record it took must be read again by another.

use std::time::Duration;

use millrace_kafka::{Consumer, ConsumerConfig, topics};

use crate::target::Target;

/// Joins, stays for `lasting`, leaves.
///
/// # Errors
/// The settings can't be used.
pub async fn visit(target: &Target, lasting: Duration) -> anyhow::Result<()> {
    let config = ConsumerConfig::new(target.group.clone(), &[topics::DOCUMENTS]);
    let mut consumer = Consumer::start(&target.kafka, &config)?;
    let taking = async {
        let mut taken = Vec::new();
        while let Some(delivery) = consumer.recv().await {
            taken.push(delivery);
        }
    };
    // At the end of its visit the deliveries are dropped without an acknowledgement.
    let _ = tokio::time::timeout(lasting, taking).await;
    consumer.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
