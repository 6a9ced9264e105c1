//! Whether a client is in its group, for which librdkafka's Rust binding has no call.
#![allow(unsafe_code)]

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};

/// Whether it has joined and sent no word of leaving. Answered by librdkafka's own thread, at once.
pub(super) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive, being borrowed. Its answer is null or a C string that is the caller's to
    // free, once, which is read before.
    unsafe {
        let id = sys::rd_kafka_memberid(client);
        if id.is_null() {
            return false;
        }
        let is_empty = *id == 0;
        sys::rd_kafka_mem_free(client, id.cast());
        !is_empty
    }
}
