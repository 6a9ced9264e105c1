//! Two admin requests of librdkafka for which its Rust binding has no call: offsets of other groups, and the
//! offsets of many partitions at once.
//!
//! What librdkafka gives is copied before its event is destroyed, and
//! nothing of it leaves this file; the client outlives each call, being borrowed by it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{COORDINATOR_TIMEOUT, TopicPartition};
use crate::position::NotedOffset;

/// How much longer than a request the wait for its answer is: librdkafka answers a request that timed out
/// itself.
const GRACE: Duration = Duration::from_secs(1);

/// Offsets by partition, in no order.
type Offsets = Vec<(TopicPartition, NotedOffset)>;

/// What each of `groups` has committed, by topic and partition; a group that has not is empty.
pub(super) fn committed<C: ClientContext>(
    client: &Client<C>,
    groups: &[CString],
    timeout: Duration,
) -> Result<Vec<(String, Offsets)>, KafkaError> {
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let requests = Requests::new(client, kind, COORDINATOR_TIMEOUT, timeout)?;
    for group in groups {
        // SAFETY: the name is a C string that outlives the call; without a list all partitions are meant.
        // The request is copied by the call, and destroyed here once.
        unsafe {
            let mut request =
                sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), std::ptr::null());
            sys::rd_kafka_ListConsumerGroupOffsets(
                requests.client,
                &raw mut request,
                1,
                requests.options.as_ptr(),
                requests.queue.as_ptr(),
            );
            sys::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        }
    }
    let mut answers = Vec::with_capacity(groups.len());
    for _ in groups {
        let event = requests.answer()?;
        // SAFETY: the event answers this kind of request, since the queue has no others. Each result and
        // list belongs to the event, which lives to the end of the block; what is read is copied.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.0.as_ptr());
            let mut count = 0;
            let results =
                sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
            for &group in slice(results, count) {
                let error = sys::rd_kafka_group_result_error(group);
                if !error.is_null() {
                    return Err(failed(sys::rd_kafka_error_code(error)));
                }
                let name = text(sys::rd_kafka_group_result_name(group));
                let list = sys::rd_kafka_group_result_partitions(group);
                let offsets = partitions(list).into_iter();
                // A partition without a committed offset is told with a negative one.
                answers.push((name, offsets.filter(|(_, it)| it.offset >= 0).collect()));
            }
        }
    }
    Ok(answers)
}

/// An offset of a partition, or the protocol's number of what keeps the broker from telling it.
pub(super) type ToldOffset = (TopicPartition, Result<i64, i32>);

/// The offsets that `wanted` asks for by [`rdkafka::Offset::Beginning`] or [`rdkafka::Offset::End`].
pub(super) fn offsets<C: ClientContext>(
    client: &Client<C>,
    wanted: &TopicPartitionList,
    timeout: Duration,
) -> Result<Vec<ToldOffset>, KafkaError> {
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let requests = Requests::new(client, kind, timeout, timeout + GRACE)?;
    // SAFETY: the list outlives the call, which copies it.
    unsafe {
        sys::rd_kafka_ListOffsets(
            requests.client,
            wanted.ptr(),
            requests.options.as_ptr(),
            requests.queue.as_ptr(),
        );
    }
    let event = requests.answer()?;
    let mut answers = Vec::with_capacity(wanted.count());
    // SAFETY: as in `committed`.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.0.as_ptr());
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        for &info in slice(infos, count) {
            let element = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
            // As a number: brokers may send a code that the enum does not have.
            let code = (&raw const (*element).err).cast::<i32>().read();
            let partition = (text((*element).topic), (*element).partition);
            let offset = match code {
                0 => Ok((*element).offset),
                _ => Err(code),
            };
            answers.push((partition, offset));
        }
    }
    Ok(answers)
}

/// The options and the queue of requests of one kind.
struct Requests {
    client: *mut sys::rd_kafka_t,
    options: NonNull<sys::rd_kafka_AdminOptions_t>,
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// How long an answer is waited for.
    wait: Duration,
}

impl Requests {
    fn new<C: ClientContext>(
        client: &Client<C>,
        kind: sys::rd_kafka_admin_op_t,
        timeout: Duration,
        wait: Duration,
    ) -> Result<Self, KafkaError> {
        let client = client.native_ptr();
        let none = || KafkaError::AdminOpCreation("librdkafka is out of memory".to_owned());
        // SAFETY: the client is alive, borrowed by the caller of this file; both are destroyed by `Drop`.
        let (options, queue) = unsafe {
            (
                NonNull::new(sys::rd_kafka_AdminOptions_new(client, kind)),
                NonNull::new(sys::rd_kafka_queue_new(client)),
            )
        };
        let requests = Self {
            client,
            options: options.ok_or_else(none)?,
            queue: queue.ok_or_else(none)?,
            wait,
        };
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the options are alive; no text is wanted of an error, so none is written.
        let code = unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(
                requests.options.as_ptr(),
                timeout_ms,
                std::ptr::null_mut(),
                0,
            )
        };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code));
        }
        Ok(requests)
    }

    /// Waits for the next answer.
    fn answer(&self) -> Result<Event, KafkaError> {
        let wait_ms = i32::try_from(self.wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event is destroyed by `Drop`.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), wait_ms) };
        let Some(event) = NonNull::new(event) else {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
        };
        let event = Event(event);
        // SAFETY: the event is alive.
        let code = unsafe { sys::rd_kafka_event_error(event.0.as_ptr()) };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code));
        }
        Ok(event)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed here once; librdkafka keeps a queue for as long as a request
        // refers to it.
        unsafe {
            sys::rd_kafka_AdminOptions_destroy(self.options.as_ptr());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// An answer.
struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: polled by `answer`, destroyed here once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

fn failed(code: sys::rd_kafka_resp_err_t) -> KafkaError {
    KafkaError::AdminOp(RDKafkaErrorCode::from(code))
}

/// # Safety
/// `first` points to `count` elements that outlive the slice; it may be null where there are none.
unsafe fn slice<'a, T>(first: *mut T, count: usize) -> &'a [T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// # Safety
/// `list` is null or a list that is alive.
unsafe fn partitions(list: *const sys::rd_kafka_topic_partition_list_t) -> Offsets {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: by the caller's promise.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let of = |element: &sys::rd_kafka_topic_partition_t| {
            let note = slice(element.metadata.cast::<u8>(), element.metadata_size);
            let noted = NotedOffset {
                offset: element.offset,
                note: String::from_utf8_lossy(note).into_owned(),
            };
            ((text(element.topic), element.partition), noted)
        };
        slice((*list).elems, count).iter().map(of).collect()
    }
}
