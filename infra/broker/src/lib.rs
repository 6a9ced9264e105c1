//! A single-node, file-backed Kafka-protocol log.
