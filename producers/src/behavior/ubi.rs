//! OpenSearch User Behavior Insights.
//!
//! Source: the UBI specification 1.3.0 (`event.schema.json`, `query.request.schema.json`) and the
//! index mappings of OpenSearch's plugin, which also take times as milliseconds.
//!
//! An event is about the item `event_attributes.object.object_id`, at the place
//! `event_attributes.position.ordinal` (from 1) of the answer `query_id`. The user is `user_id`, or
//! `client_id` where nobody is logged on. Events about no object (a page that was left, a filter)
//! are passed over, and so are queries: what an engine returned is not yet what was shown, which
//! `impression` events tell.

use millrace_schemas::BehaviorKind;

use super::RowError;
use super::fields::{Fields, insert};
use super::reader::{Draft, Drafts, Kinds};

pub(super) fn matches(fields: &Fields) -> bool {
    fields.has("action_name") || is_query(fields)
}

fn is_query(fields: &Fields) -> bool {
    !fields.has("action_name")
        && fields.has("query_id")
        && (fields.has("user_query") || fields.has("query_response_hit_ids"))
}

pub(super) fn read(mut fields: Fields, kinds: &Kinds) -> Result<Drafts, RowError> {
    if is_query(&fields) {
        return Ok(Drafts::PassedOver("ubi_query"));
    }
    let action = fields.id("action_name")?;
    let mut details = fields.object("event_attributes")?;
    let mut object = match &mut details {
        Some(details) => details.object("object")?,
        None => None,
    };
    let Some(item) = (match &mut object {
        Some(object) => object.text("object_id")?,
        None => None,
    }) else {
        return Ok(Drafts::PassedOver("ubi_no_object"));
    };
    let kind = kinds.of(&action, usual)?;
    let user_id = fields.first_id(&["user_id", "client_id"])?;
    let event_time_ms = fields
        .time_ms("timestamp")?
        .ok_or(RowError::Missing { field: "timestamp" })?;
    let request_id = fields.text("query_id")?;
    let position = match &mut details {
        Some(details) => match details.object("position")? {
            Some(mut position) => position.integer("ordinal")?,
            None => None,
        },
        None => None,
    };
    let mut attributes = fields.into_attributes();
    for (prefix, part) in [("", details), ("object.", object)] {
        for (name, value) in part.map(Fields::into_attributes).unwrap_or_default() {
            insert(&mut attributes, format!("{prefix}{name}"), value.into());
        }
    }
    Ok(Drafts::Events(vec![Draft {
        event_id: None,
        user_id,
        item,
        item_id: None,
        kind,
        value: None,
        event_time_ms,
        request_id,
        trace_info: None,
        scene_id: None,
        position,
        attributes,
    }]))
}

/// The specification's common actions.
fn usual(name: &str) -> Option<BehaviorKind> {
    Some(match name {
        "impression" => BehaviorKind::Expose,
        "click_through" | "view" => BehaviorKind::Click,
        "add_to_cart" => BehaviorKind::Cart,
        "purchase" => BehaviorKind::Buy,
        "watch" => BehaviorKind::Stay,
        _ => return None,
    })
}
