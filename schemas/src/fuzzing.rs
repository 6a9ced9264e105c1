//! What fuzzing asks of framing and headers. Compiled for fuzzing and for the tests that replay the
//! corpora, so that neither needs an API that the product has not.

use crate::{
    BehaviorByItem, BehaviorEvent, DocumentNotice, DocumentOutcome, EventHeaders, Feedback,
    Framing, ItemStats, Message, Signal, UnmatchedBehavior, catalogue, decode, encode, to_json,
};

/// Any bytes as a record's value: what is read can be written, and reads as the same again. A first
/// byte from `F0` on, which begins no value, stands for the single-object header of a topic, since no
/// mutation finds a fingerprint.
pub fn framing(input: &[u8]) {
    let mut value = input.to_vec();
    if let Some(topic) = input.first().and_then(|first| first.checked_sub(0xF0)) {
        let topics = catalogue();
        let fingerprint = topics[usize::from(topic) % topics.len()].newest_fingerprint();
        let header = [0xC3, 0x01].into_iter().chain(fingerprint);
        value.splice(..1, header);
    }
    let value = &value;
    let _ = to_json(value);
    reads_as_written::<DocumentNotice>(value);
    reads_as_written::<Signal>(value);
    reads_as_written::<DocumentOutcome>(value);
    reads_as_written::<BehaviorEvent>(value);
    reads_as_written::<BehaviorByItem>(value);
    reads_as_written::<UnmatchedBehavior>(value);
    reads_as_written::<Feedback>(value);
    reads_as_written::<ItemStats>(value);
}

fn reads_as_written<M: Message>(value: &[u8]) {
    let Ok(message) = decode::<M>(value) else {
        return;
    };
    let avro = |message: &M| match encode(message, &Framing::SingleObject) {
        Ok(written) => written,
        Err(error) => panic!("a message that was read cannot be written: {error}"),
    };
    let written = avro(&message);
    // By their bytes: a NaN in a vector is not equal to itself.
    match decode::<M>(&written) {
        Ok(again) => assert_eq!(avro(&again), written),
        Err(error) => panic!("a message that was written cannot be read: {error}"),
    }
    assert!(to_json(&written).is_ok(), "what was written can be shown");
    let Ok(json) = encode(&message, &Framing::Json) else {
        panic!("a message that was read has no JSON");
    };
    // JSON has no NaN; the tenth digit of a number may differ.
    if let Ok(again) = decode::<M>(&json) {
        assert_eq!(encode(&again, &Framing::Json).ok(), Some(json));
    }
}

/// Lines of `name=value` as a record's headers: an event that is read has headers that read as it.
pub fn event_headers(lines: &[u8]) {
    let headers = lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]))
    });
    let Ok(event) = EventHeaders::from_headers(headers) else {
        return;
    };
    let written = event.to_headers();
    let borrowed = written
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()));
    assert_eq!(EventHeaders::from_headers(borrowed), Ok(event));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_framing() {
        millrace_fuzz::replay("framing", super::framing);
    }

    #[test]
    fn the_corpus_of_event_headers() {
        millrace_fuzz::replay("event_headers", super::event_headers);
    }
}
