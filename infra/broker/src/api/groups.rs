//! Members of consumer groups, and looking at groups.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest,
    SyncGroupResponse,
};

use super::{Caller, code, text};
use crate::groups::group::{Group, Join, Outcome, Speaker};
use crate::groups::member::{JoinRefused, duration};
use crate::service::Service;

pub async fn join_group(
    service: &Arc<Service>,
    caller: &Caller,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    // Version 0 had one timeout for both.
    let rebalance_ms = if request.rebalance_timeout_ms > 0 {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let member_id = request.member_id.to_string();
    let join = Join {
        member_id: member_id.clone(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        client_id: caller.client_id.clone(),
        client_host: caller.host.clone(),
        session_timeout: duration(request.session_timeout_ms),
        rebalance_timeout: duration(rebalance_ms),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|said| (said.name.to_string(), said.metadata))
            .collect(),
        id_required_first: caller.version >= 4,
    };
    let reply = match service.groups.join(&request.group_id, join) {
        Outcome::Now(reply) => reply,
        Outcome::Later(later) => later.await.unwrap_or_else(|_| {
            // Another join of the same member took this one's place.
            Err(JoinRefused {
                error: ResponseError::UnknownMemberId,
                member_id,
            })
        }),
    };
    match reply {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|(id, instance, metadata)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_group_instance_id(instance.map(text))
                    .with_metadata(metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(Some(text(joined.protocol_type)))
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader))
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
        Err(refused) => JoinGroupResponse::default()
            .with_error_code(refused.error.code())
            .with_generation_id(-1)
            // Null only exists from version 7 on.
            .with_protocol_name(if caller.version >= 7 {
                None
            } else {
                Some(text(""))
            })
            .with_member_id(text(refused.member_id)),
    }
}

pub async fn sync_group(
    service: &Arc<Service>,
    _caller: &Caller,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let speaker = Speaker {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let assignments = request
        .assignments
        .iter()
        .map(|given| (given.member_id.to_string(), given.assignment.clone()))
        .collect();
    let (protocol_type, protocol) = (
        request.protocol_type.as_deref(),
        request.protocol_name.as_deref(),
    );
    let reply = match service.groups.sync(
        &request.group_id,
        speaker,
        protocol_type,
        protocol,
        assignments,
    ) {
        Outcome::Now(reply) => reply,
        Outcome::Later(later) => later
            .await
            .unwrap_or(Err(ResponseError::RebalanceInProgress)),
    };
    match reply {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

pub fn heartbeat(
    service: &Arc<Service>,
    _caller: &Caller,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let speaker = Speaker {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    HeartbeatResponse::default()
        .with_error_code(code(&service.groups.heartbeat(&request.group_id, speaker)))
}

pub fn leave_group(
    service: &Arc<Service>,
    caller: &Caller,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    if caller.version < 3 {
        let left = service
            .groups
            .leave(&request.group_id, &request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code(&left));
    }
    let members = request.members.into_iter().map(|member| {
        let instance_id = member.group_instance_id.as_deref();
        let left = service
            .groups
            .leave(&request.group_id, &member.member_id, instance_id);
        MemberResponse::default()
            .with_error_code(code(&left))
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

pub fn list_groups(
    service: &Arc<Service>,
    _caller: &Caller,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let states = request.states_filter;
    let is_wanted = |state: &str| {
        states.is_empty()
            || states
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(state))
    };
    let groups = service
        .groups
        .list()
        .into_iter()
        .filter(|(_, _, state)| is_wanted(state));
    let groups = groups.map(|(name, protocol_type, state)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(name)))
            .with_protocol_type(text(protocol_type))
            .with_group_state(text(state))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub fn describe_groups(
    service: &Arc<Service>,
    _caller: &Caller,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let has_offsets = || {
            service
                .journal
                .read(|metadata| metadata.offsets.contains_key(id.as_str()))
        };
        let described = service.groups.describe(&id, describe).unwrap_or_else(|| {
            let state = if has_offsets() { "Empty" } else { "Dead" };
            DescribedGroup::default()
                .with_group_state(text(state))
                .with_protocol_type(text("consumer"))
        });
        described.with_group_id(id)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe(group: &Group) -> DescribedGroup {
    let protocol = group.protocol.clone().unwrap_or_default();
    let members = group.members.values().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(member.id.as_str()))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_client_id(text(member.client_id.as_str()))
            .with_client_host(text(member.client_host.as_str()))
            .with_member_metadata(member.metadata(&protocol))
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_state(text(group.state_name()))
        .with_protocol_type(text(group.protocol_type.as_str()))
        .with_members(members.collect())
        .with_protocol_data(text(protocol))
}

pub fn delete_groups(
    service: &Arc<Service>,
    _caller: &Caller,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let deleted = service.groups.delete(&id);
        DeletableGroupResult::default()
            .with_error_code(code(&deleted))
            .with_group_id(id)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
