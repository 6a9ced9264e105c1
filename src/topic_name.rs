//! Topics as people name them.

use anyhow::bail;
use millrace_kafka::KafkaConfig;
use millrace_kafka::topics::declared;

/// The full name of a declared topic, or of any name that carries the prefix.
///
/// # Errors
/// No such topic is declared; the declared ones are named.
pub fn full_name(topic: &str, kafka: &KafkaConfig) -> anyhow::Result<String> {
    if !kafka.topic_prefix.is_empty() && topic.starts_with(&kafka.topic_prefix) {
        return Ok(topic.to_owned());
    }
    if declared().iter().any(|declared| declared.name == topic) {
        return Ok(kafka.topic(topic));
    }
    let names: Vec<&str> = declared()
        .iter()
        .map(|declared| declared.name.as_str())
        .collect();
    bail!(
        "no topic {topic:?} is declared; there are {}",
        names.join(", ")
    )
}
