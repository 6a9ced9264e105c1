//! Rows of AIRec's behavior table: `{"cmd":"add","fields":{…}}` as its bulk interface takes them, or
//! the fields alone.
//!
//! Source: Alibaba Cloud, AIRec 2020-11-26, "Data specifications", behavior table: `item_id`,
//! `bhv_type`, `bhv_value`, `bhv_time` (seconds), `user_id`, `imei`, `trace_id`, `trace_info`,
//! `scene_id`, `position`, and what the client tells of itself (`platform`, `device_model`,
//! `net_type`, `ip`, `login`, `item_type` and so on), which become attributes. A user who has not
//! logged on is known by `imei`.
//!
//! `trace_id` is the answer that showed the item. Of AIRec's own service it is not: there it only
//! says whose recommendation it was, `Alibaba`, `ali` or `selfhold`, and is then an attribute.

use super::error::beginning;
use super::fields::Fields;
use super::reader::{Draft, Kinds};
use super::{RowError, fields};

const NO_REQUEST: [&str; 3] = ["alibaba", "ali", "selfhold"];

pub(super) fn matches(fields: &Fields) -> bool {
    fields.has("bhv_type") || fields.has("cmd") && fields.has("fields")
}

pub(super) fn read(mut row: Fields, kinds: &Kinds) -> Result<Draft, RowError> {
    let mut fields = match row.text("cmd")? {
        Some(command) if command == "add" => match row.object("fields")? {
            Some(fields) => fields,
            None => return Err(RowError::Missing { field: "fields" }),
        },
        Some(command) => {
            return Err(RowError::Command {
                command: beginning(&command),
            });
        }
        None => row,
    };
    let kind = kinds.of(&fields.id("bhv_type")?, |_| None)?;
    let user_id = fields.first_id(&["user_id", "imei"])?;
    let item = fields.id("item_id")?;
    let event_time_ms = fields
        .time_s("bhv_time")?
        .ok_or(RowError::Missing { field: "bhv_time" })?;
    let (request_id, marker) = match fields.text("trace_id")? {
        Some(id) if NO_REQUEST.contains(&id.to_ascii_lowercase().as_str()) => (None, Some(id)),
        id => (id, None),
    };
    let draft = Draft {
        event_id: fields.text("event_id")?,
        user_id,
        item,
        item_id: None,
        kind,
        value: fields.number("bhv_value")?,
        event_time_ms,
        request_id,
        trace_info: fields.text("trace_info")?,
        scene_id: fields.text("scene_id")?,
        position: fields.integer("position")?,
        attributes: std::collections::BTreeMap::new(),
    };
    let mut attributes = fields.into_attributes();
    if let Some(marker) = marker {
        fields::insert(&mut attributes, "trace_id".to_owned(), marker.into());
    }
    Ok(Draft {
        attributes,
        ..draft
    })
}
