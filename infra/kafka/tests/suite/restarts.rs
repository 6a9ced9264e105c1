//! What brokers answer after a restart or a move: librdkafka's mock cluster says it when it is told to.

use anyhow::{Context as _, Result};
use millrace_kafka::topics::DOCUMENTS;
use millrace_kafka::{Admin, KafkaConfig};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// One of so many brokers that has a topic, and requests to it.
fn cluster(
    brokers: i32,
) -> Result<(
    MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    Admin,
)> {
    let cluster = MockCluster::new(brokers)?;
    let config = KafkaConfig {
        bootstrap: cluster.bootstrap_servers(),
        ..KafkaConfig::default()
    };
    cluster.create_topic(&config.topic(DOCUMENTS), 3, 1)?;
    let admin = Admin::connect(&config)?;
    Ok((cluster, admin))
}

#[tokio::test]
async fn a_coordinator_that_has_moved_ends_no_process() -> Result<()> {
    let (cluster, admin) = cluster(1)?;
    let groups = ["g".to_owned()];
    admin.committed(&groups).await.context("before")?;
    let moved = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 3];
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &moved);
    // It may be told that nobody knows now; the next one is told.
    let _ = admin.committed(&groups).await;
    cluster.clear_request_errors(RDKafkaApiKey::OffsetFetch);
    admin.committed(&groups).await.context("after")?;
    Ok(())
}

#[tokio::test]
async fn leaders_of_before_a_restart_are_looked_up_again() -> Result<()> {
    let (cluster, admin) = cluster(1)?;
    // The oldest and the next offsets are asked for at once; one of the two is refused. With two refusals
    // the first could be asked again and get both.
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH];
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &fenced);
    let ends = admin.all_ends().await?;
    let partitions = ends.values().map(std::collections::BTreeMap::len);
    anyhow::ensure!(partitions.sum::<usize>() == 3, "{ends:?}");
    Ok(())
}

/// Longer than a request waits: what was asked meanwhile is answered when nobody looks for it any more.
#[tokio::test]
async fn an_outage_longer_than_a_request_ends_no_process() -> Result<()> {
    const COORDINATOR: i32 = 2;
    let (cluster, admin) = cluster(2)?;
    let groups = ["g".to_owned()];
    cluster.coordinator(MockCoordinator::Group("g".to_owned()), COORDINATOR)?;
    admin.committed(&groups).await.context("before")?;
    cluster.broker_down(COORDINATOR)?;
    let asked = admin.committed(&groups).await;
    anyhow::ensure!(asked.is_err(), "{asked:?}");
    cluster.broker_up(COORDINATOR)?;
    admin.committed(&groups).await.context("after")?;
    Ok(())
}

#[tokio::test]
async fn an_outage_of_all_brokers_ends_no_process() -> Result<()> {
    let (cluster, admin) = cluster(1)?;
    let groups = ["g".to_owned()];
    admin.committed(&groups).await.context("before")?;
    cluster.broker_down(1)?;
    let asked = tokio::join!(
        admin.committed(&groups),
        admin.describe_groups(&groups),
        admin.delete_group("g")
    );
    for told in [asked.0.map(drop), asked.1.map(drop), asked.2.map(drop)] {
        anyhow::ensure!(told.is_err());
    }
    cluster.broker_up(1)?;
    admin.committed(&groups).await.context("after")?;
    Ok(())
}
