//! The Kafka client: consumer loop, offset tracker, producer, topic declarations, dead letters.
