//! What fuzzing asks of a schema registry's answers. Compiled for fuzzing and for the test that
//! replays the corpus.

use async_trait::async_trait;
use millrace_schemas::{
    DocumentNotice, DocumentOutcome, Framing, Message, SchemaError, SchemaRegistry, Signal,
    WriterSchema, decode_with, encode,
};

use crate::schema_registry::writer_schema;

const SCHEMA_ID: i32 = 7;

/// A registry that has one schema.
struct One(WriterSchema);

#[async_trait]
impl SchemaRegistry for One {
    async fn schema(&self, _id: i32) -> Result<WriterSchema, SchemaError> {
        Ok(self.0.clone())
    }

    async fn register(&self, _subject: &str, _schema: &str) -> Result<i32, SchemaError> {
        Ok(SCHEMA_ID)
    }
}

/// An answer of the registry up to the first NUL, then a datum that its schema wrote, both from
/// outside: what can be read is a message that can be written.
pub fn registry_answer(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == 0);
    let (answer, datum) = input.split_at(at.unwrap_or(input.len()));
    let Ok(schema) = writer_schema(SCHEMA_ID, 200, answer) else {
        return;
    };
    let registry = One(schema);
    let mut value = vec![0];
    value.extend_from_slice(&SCHEMA_ID.to_be_bytes());
    value.extend_from_slice(datum.get(1..).unwrap_or_default());
    reads::<DocumentNotice>(&value, &registry);
    reads::<Signal>(&value, &registry);
    reads::<DocumentOutcome>(&value, &registry);
}

fn reads<M: Message>(value: &[u8], registry: &One) {
    // Nothing waits here: the registry above answers at once.
    let mut reading = std::pin::pin!(decode_with::<M>(value, Some(registry)));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(read) = reading.as_mut().poll(&mut context) else {
        panic!("reading waits");
    };
    if let Ok(message) = read {
        assert!(encode(&message, &Framing::SingleObject).is_ok());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_registry_answers() {
        millrace_fuzz::replay("registry_answer", super::registry_answer);
    }
}
