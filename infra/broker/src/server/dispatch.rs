//! Which requests are understood in which versions, and who answers them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use thiserror::Error;

use super::shape;
use crate::api::{self, Caller};
use crate::service::Service;

/// First and last version of each request. The last ones are before topic ids (Metadata, Fetch) and
/// KIP-848 (OffsetFetch): what lies beyond needs what a single node does not have.
pub const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 9),
    (ApiKey::OffsetCommit, 2, 8),
    (ApiKey::OffsetFetch, 1, 7),
    (ApiKey::FindCoordinator, 0, 4),
    (ApiKey::JoinGroup, 0, 7),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 4),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 5),
    (ApiKey::ListGroups, 0, 4),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 6),
    (ApiKey::DeleteTopics, 1, 5),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 3),
    (ApiKey::EndTxn, 0, 3),
    (ApiKey::TxnOffsetCommit, 0, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 1),
];

/// A request that cannot be answered; the connection ends.
#[derive(Debug, Error)]
pub enum RequestError {
    #[error("the request is cut short")]
    Short,
    #[error("request type {0} is unknown")]
    UnknownKey(i16),
    #[error("{key:?} version {version} is not supported")]
    Unsupported { key: ApiKey, version: i16 },
    #[error("{key:?} version {version} cannot be decoded: {reason}")]
    Decode {
        key: ApiKey,
        version: i16,
        reason: String,
    },
    #[error("the answer to {key:?} version {version} cannot be encoded: {reason}")]
    Encode {
        key: ApiKey,
        version: i16,
        reason: String,
    },
}

/// A request whose header is read.
struct Request {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Request {
    fn decode<R: Decodable>(&mut self) -> Result<R, RequestError> {
        let failed = |reason: String| RequestError::Decode {
            key: self.key,
            version: self.version,
            reason,
        };
        shape::check(self.key, self.version, &self.body)
            .map_err(|error| failed(error.to_string()))?;
        R::decode(&mut self.body, self.version).map_err(|error| failed(format!("{error:#}")))
    }

    /// A whole frame.
    fn encode(
        &self,
        version: i16,
        answer: &impl Encodable,
    ) -> Result<Option<BytesMut>, RequestError> {
        let failed = |reason: String| RequestError::Encode {
            key: self.key,
            version: self.version,
            reason,
        };
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        let encoded = header
            .encode(&mut frame, self.key.response_header_version(version))
            .and_then(|()| answer.encode(&mut frame, version));
        encoded.map_err(|error| failed(format!("{error:#}")))?;
        let length = i32::try_from(frame.len() - 4).map_err(|error| failed(error.to_string()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Some(frame))
    }
}

/// Decodes one request, has it answered, and encodes the answer. `None`: none is wanted.
pub async fn answer(
    service: &Arc<Service>,
    mut frame: Bytes,
    peer: SocketAddr,
) -> Result<Option<BytesMut>, RequestError> {
    let start: [u8; 8] = *frame.first_chunk().ok_or(RequestError::Short)?;
    let key = i16::from_be_bytes([start[0], start[1]]);
    let version = i16::from_be_bytes([start[2], start[3]]);
    let correlation_id = i32::from_be_bytes([start[4], start[5], start[6], start[7]]);
    let key = ApiKey::try_from(key).map_err(|()| RequestError::UnknownKey(key))?;
    let is_supported = SUPPORTED
        .iter()
        .any(|(known, first, last)| *known == key && (*first..=*last).contains(&version));
    if !is_supported {
        let request = Request {
            key,
            version,
            correlation_id,
            body: Bytes::new(),
        };
        return match key {
            // A newer client asks in its own version first; the oldest form tells it which to use.
            ApiKey::ApiVersions => {
                request.encode(0, &api_versions(ResponseError::UnsupportedVersion.code()))
            }
            _ => Err(RequestError::Unsupported { key, version }),
        };
    }
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version)).map_err(
        |error| RequestError::Decode {
            key,
            version,
            reason: format!("{error:#}"),
        },
    )?;
    let client_id = header
        .client_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    let caller = Caller {
        client_id,
        host: format!("/{}", peer.ip()),
        version,
    };
    handle(
        service,
        &caller,
        Request {
            key,
            version,
            correlation_id,
            body: frame,
        },
    )
    .await
}

async fn handle(
    service: &Arc<Service>,
    caller: &Caller,
    mut request: Request,
) -> Result<Option<BytesMut>, RequestError> {
    macro_rules! with {
        (async $handler:path) => {{
            let decoded = request.decode()?;
            let answer = $handler(service, caller, decoded).await;
            request.encode(request.version, &answer)
        }};
        ($handler:path) => {{
            let decoded = request.decode()?;
            let answer = $handler(service, caller, decoded);
            request.encode(request.version, &answer)
        }};
    }
    match request.key {
        ApiKey::ApiVersions => request.encode(request.version, &api_versions(0)),
        ApiKey::Produce => {
            let decoded = request.decode()?;
            match api::produce::produce(service, decoded) {
                Some(answer) => request.encode(request.version, &answer),
                None => Ok(None),
            }
        }
        ApiKey::Fetch => with!(async api::fetch::fetch),
        ApiKey::ListOffsets => with!(api::list_offsets::list_offsets),
        ApiKey::DeleteRecords => with!(api::list_offsets::delete_records),
        ApiKey::Metadata => with!(api::cluster::metadata),
        ApiKey::DescribeCluster => with!(api::cluster::describe_cluster),
        ApiKey::FindCoordinator => with!(api::cluster::find_coordinator),
        ApiKey::CreateTopics => with!(api::topics::create_topics),
        ApiKey::DeleteTopics => with!(api::topics::delete_topics),
        ApiKey::CreatePartitions => with!(api::topics::create_partitions),
        ApiKey::DescribeConfigs => with!(api::configs::describe_configs),
        ApiKey::AlterConfigs => with!(api::configs::alter_configs),
        ApiKey::IncrementalAlterConfigs => with!(api::configs::incremental_alter_configs),
        ApiKey::JoinGroup => with!(async api::groups::join_group),
        ApiKey::SyncGroup => with!(async api::groups::sync_group),
        ApiKey::Heartbeat => with!(api::groups::heartbeat),
        ApiKey::LeaveGroup => with!(api::groups::leave_group),
        ApiKey::ListGroups => with!(api::groups::list_groups),
        ApiKey::DescribeGroups => with!(api::groups::describe_groups),
        ApiKey::DeleteGroups => with!(api::groups::delete_groups),
        ApiKey::OffsetCommit => with!(api::offsets::offset_commit),
        ApiKey::OffsetFetch => with!(api::offsets::offset_fetch),
        ApiKey::OffsetDelete => with!(api::offsets::offset_delete),
        ApiKey::InitProducerId => with!(api::transactions::init_producer_id),
        ApiKey::AddPartitionsToTxn => with!(api::transactions::add_partitions_to_txn),
        ApiKey::AddOffsetsToTxn => with!(api::transactions::add_offsets_to_txn),
        ApiKey::TxnOffsetCommit => with!(api::transactions::txn_offset_commit),
        ApiKey::EndTxn => with!(api::transactions::end_txn),
        key => Err(RequestError::Unsupported {
            key,
            version: request.version,
        }),
    }
}

fn api_versions(error_code: i16) -> ApiVersionsResponse {
    let supported = SUPPORTED.iter().map(|(key, first, last)| {
        // librdkafka takes a broker for one without modern batches unless Produce reaches down to 0.
        let first = if *key == ApiKey::Produce { 0 } else { *first };
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(first)
            .with_max_version(*last)
    });
    ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(supported.collect())
}
