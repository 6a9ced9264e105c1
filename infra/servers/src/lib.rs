//! Finds the real Kafka and OpenSearch that tests run against.
