//! Requests made by hand, for what rdkafka cannot or will not send.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::client::{DEADLINE, eventually};

/// A connection.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub fn connect(bootstrap: &str) -> Result<Raw> {
        let stream =
            TcpStream::connect(bootstrap).with_context(|| format!("connecting to {bootstrap}"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Raw { stream })
    }

    pub fn ask<Q: Encodable, A: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> Result<A> {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("raw")));
        header.encode(&mut frame, key.request_header_version(version))?;
        request.encode(&mut frame, version)?;
        let length = i32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)?;
        let mut answer = self.read_frame()?;
        ResponseHeader::decode(&mut answer, key.response_header_version(version))?;
        A::decode(&mut answer, version)
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    pub fn read_frame(&mut self) -> Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// The error code and the base offset.
    pub fn produce(&mut self, topic: &str, batch: &Bytes) -> Result<(i16, i64)> {
        let data = PartitionProduceData::default()
            .with_index(0)
            .with_records(Some(batch.clone()));
        let topic_data = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic_data]);
        let answer: ProduceResponse = self.ask(ApiKey::Produce, 8, &request)?;
        let partition = &answer.responses[0].partition_responses[0];
        Ok((partition.error_code, partition.base_offset))
    }

    pub fn new_producer(&mut self) -> Result<(i64, i16)> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000);
        eventually("a producer id", || {
            let answer: InitProducerIdResponse = self.ask(ApiKey::InitProducerId, 1, &request)?;
            let ready = answer.error_code == 0;
            Ok(ready.then_some((answer.producer_id.0, answer.producer_epoch)))
        })
    }

    /// Waits until the group's coordinator is ready: a real one loads its state first.
    pub fn await_coordinator(&mut self, group: &str) -> Result<()> {
        let request =
            FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        eventually("a coordinator", || {
            let answer: FindCoordinatorResponse = self.ask(ApiKey::FindCoordinator, 2, &request)?;
            Ok((answer.error_code == 0).then_some(()))
        })
    }
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A record as it is laid out.
pub struct RawRecord<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut groups = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while groups >= 0x80 {
        out.push(u8::try_from(groups & 0x7f).unwrap_or(0) | 0x80);
        groups >>= 7;
    }
    out.push(u8::try_from(groups).unwrap_or(0));
}

fn nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint(out, -1),
        Some(bytes) => {
            varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// A batch of an idempotent producer (or of none, with −1, −1, −1).
pub fn batch(
    records: &[RawRecord<'_>],
    producer: (i64, i16),
    sequence: i32,
    time_ms: i64,
) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i32(i32::try_from(records.len()).unwrap_or(0) - 1);
    body.put_i64(time_ms);
    body.put_i64(time_ms);
    body.put_i64(producer.0);
    body.put_i16(producer.1);
    body.put_i32(sequence);
    body.put_i32(i32::try_from(records.len()).unwrap_or(0));
    for (delta, record) in (0i64..).zip(records) {
        let mut fields = vec![0];
        varint(&mut fields, 0);
        varint(&mut fields, delta);
        nullable(&mut fields, record.key);
        nullable(&mut fields, record.value);
        varint(&mut fields, record.headers.len() as i64);
        for (name, value) in record.headers {
            nullable(&mut fields, Some(name.as_bytes()));
            nullable(&mut fields, Some(value));
        }
        let mut length = Vec::new();
        varint(&mut length, fields.len() as i64);
        body.put_slice(&length);
        body.put_slice(&fields);
    }
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(i32::try_from(body.len()).unwrap_or(0) + 9);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&body));
    batch.put_slice(&body);
    batch.freeze()
}

/// What of a batch must never change: all after the leader epoch.
pub fn unchanging(mut batch: Bytes) -> Bytes {
    batch.advance(16);
    batch
}
