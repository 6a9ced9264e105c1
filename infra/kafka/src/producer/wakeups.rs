//! The queue of librdkafka's events, and waking a thread when it is no longer empty: its Rust binding keeps the
//! queue to itself.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::thread::Thread;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

/// The events of a client.
pub(super) struct EventQueue<'client> {
    queue: *mut sys::rd_kafka_queue_t,
    /// What the callback is given; its place in memory must not change.
    _sleeper: Box<Thread>,
    _client: PhantomData<&'client ()>,
}

impl<'client> EventQueue<'client> {
    /// From now on `sleeper` is unparked whenever the queue was empty and is not any more.
    pub fn of<C: ClientContext>(client: &'client Client<C>, sleeper: Thread) -> Self {
        let sleeper = Box::new(sleeper);
        let opaque = std::ptr::from_ref::<Thread>(&sleeper).cast_mut().cast();
        // SAFETY: the client is alive, being borrowed for as long as this exists. Its main queue is never null;
        // the reference to it is given back in `drop`, and so is the callback taken out, before the thread
        // handle that it is given is freed.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_get_main(client.native_ptr());
            sys::rd_kafka_queue_cb_event_enable(queue, Some(wake), opaque);
            queue
        };
        Self {
            queue,
            _sleeper: sleeper,
            _client: PhantomData,
        }
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        // SAFETY: the reference to the queue is given back in `drop` only.
        unsafe { sys::rd_kafka_queue_length(self.queue) == 0 }
    }
}

impl Drop for EventQueue<'_> {
    fn drop(&mut self) {
        // SAFETY: librdkafka calls back under the lock that taking the callback out needs, so it is not being
        // called afterwards. The reference is given back once.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, std::ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Called by librdkafka's own threads, which it may not keep.
unsafe extern "C" fn wake(_: *mut sys::rd_kafka_t, sleeper: *mut c_void) {
    // SAFETY: the handle lives until the callback has been taken out; to unpark needs a shared reference only.
    unsafe { (*sleeper.cast::<Thread>()).unpark() }
}
