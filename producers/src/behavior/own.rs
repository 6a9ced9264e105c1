//! Our own rows: the fields of [`millrace_schemas::BehaviorEvent`].
//!
//! `user_id`, `item` (or `item_id`), `kind` and `event_time_ms` (or `event_time`, ISO 8601) are
//! needed. `attributes` is an object; fields of other names join it, so that a CSV has a column for
//! each.

use std::collections::BTreeMap;

use super::RowError;
use super::fields::{Fields, insert};
use super::reader::{Draft, Kinds};

pub(super) fn matches(fields: &Fields) -> bool {
    ["kind", "event_time_ms", "event_time"]
        .iter()
        .any(|name| fields.has(name))
}

pub(super) fn read(mut fields: Fields, kinds: &Kinds) -> Result<Draft, RowError> {
    let user_id = fields.id("user_id")?;
    let (item, item_id) = match (fields.text("item")?, fields.text("item_id")?) {
        (Some(item), id) => (item, id),
        (None, Some(id)) => (id, None),
        (None, None) => return Err(RowError::Missing { field: "item" }),
    };
    let kind = kinds.of(&fields.id("kind")?, |_| None)?;
    let event_time_ms = match fields.time_ms("event_time_ms")? {
        Some(time) => Some(time),
        None => fields.time_ms("event_time")?,
    };
    let event_time_ms = event_time_ms.ok_or(RowError::Missing {
        field: "event_time_ms",
    })?;
    let draft = Draft {
        event_id: fields.text("event_id")?,
        user_id,
        item,
        item_id,
        kind,
        value: fields.number("value")?,
        event_time_ms,
        request_id: fields.text("request_id")?,
        trace_info: fields.text("trace_info")?,
        scene_id: fields.text("scene_id")?,
        position: fields.integer("position")?,
        attributes: BTreeMap::new(),
    };
    // The dialect is what it came in now, whatever it came in before.
    fields.take("source");
    let mut attributes = match fields.object("attributes")? {
        Some(attributes) => attributes.into_attributes(),
        None => BTreeMap::new(),
    };
    for (name, value) in fields.into_attributes() {
        insert(&mut attributes, name, value.into());
    }
    Ok(Draft {
        attributes,
        ..draft
    })
}
