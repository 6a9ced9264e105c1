//! Metarank's events.
//!
//! Source: Metarank, `doc/event-schema.md` and `doc/timestamp-formats.md`.
//!
//! | event | becomes |
//! |---|---|
//! | `ranking` | one `expose` an item, its place as position, the ranking's `id` as request |
//! | `interaction` | its `type`, with the ranking's id as request |
//! | `item`, `user` | nothing: what they tell of documents and users is ingested elsewhere |
//!
//! The user is `user`, or `session` where that is all there is. `fields`, the session and an item's
//! relevancy become attributes. An exposure's event id is `{ranking}#{position}`.

use std::collections::BTreeMap;

use millrace_schemas::BehaviorKind;
use serde_json::Value;

use super::fields::{Fields, insert, wrong};
use super::reader::{Draft, Drafts, Kinds};
use super::{MAX_RANKING_ITEMS, RowError};

pub(super) fn matches(fields: &Fields) -> bool {
    fields.text_is("event", &["item", "user", "ranking", "interaction"])
}

pub(super) fn read(mut fields: Fields, kinds: &Kinds) -> Result<Drafts, RowError> {
    match fields.id("event")?.as_str() {
        "item" => Ok(Drafts::PassedOver("metarank_item")),
        "user" => Ok(Drafts::PassedOver("metarank_user")),
        "ranking" => ranking(fields),
        "interaction" => Ok(Drafts::Events(vec![interaction(fields, kinds)?])),
        _ => Err(wrong("event", "item, user, ranking or interaction")),
    }
}

fn interaction(mut fields: Fields, kinds: &Kinds) -> Result<Draft, RowError> {
    let id = fields.id("id")?;
    let kind = kinds.of(&fields.id("type")?, usual)?;
    let (user_id, event_time_ms, mut attributes) = shared(&mut fields)?;
    let item = fields.id("item")?;
    let request_id = fields.text("ranking")?;
    attributes.extend(fields.into_attributes());
    Ok(Draft {
        event_id: Some(id),
        user_id,
        item,
        item_id: None,
        kind,
        value: None,
        event_time_ms,
        request_id,
        trace_info: None,
        scene_id: None,
        position: None,
        attributes,
    })
}

fn ranking(mut fields: Fields) -> Result<Drafts, RowError> {
    let id = fields.id("id")?;
    let (user_id, event_time_ms, mut attributes) = shared(&mut fields)?;
    let items = fields
        .list("items")?
        .ok_or(RowError::Missing { field: "items" })?;
    attributes.extend(fields.into_attributes());
    if items.is_empty() {
        return Ok(Drafts::PassedOver("metarank_empty_ranking"));
    }
    if items.len() > MAX_RANKING_ITEMS {
        return Err(RowError::TooManyItems { items: items.len() });
    }
    let expose = |(index, item): (usize, Value)| {
        let Value::Object(item) = item else {
            return Err(wrong("items", "a list of objects"));
        };
        let mut item = Fields::new(item);
        let position = index + 1;
        let name = item.id("id").map_err(|error| match error {
            RowError::Missing { .. } => RowError::Missing { field: "items.id" },
            RowError::EmptyId { .. } => RowError::EmptyId { field: "items.id" },
            other => other,
        })?;
        let mut attributes = attributes.clone();
        named(&mut item, &mut attributes)?;
        attributes.extend(item.into_attributes());
        Ok(Draft {
            event_id: Some(format!("{id}#{position}")),
            user_id: user_id.clone(),
            item: name,
            item_id: None,
            kind: BehaviorKind::Expose,
            value: None,
            event_time_ms,
            request_id: Some(id.clone()),
            trace_info: None,
            scene_id: None,
            position: i64::try_from(position).ok(),
            attributes,
        })
    };
    let drafts: Result<Vec<Draft>, RowError> = items.into_iter().enumerate().map(expose).collect();
    Ok(Drafts::Events(drafts?))
}

/// User, time, and the context as attributes.
fn shared(fields: &mut Fields) -> Result<(String, i64, BTreeMap<String, String>), RowError> {
    let mut attributes = BTreeMap::new();
    let user_id = fields.first_id(&["user", "session"])?;
    if let Some(session) = fields.take("session") {
        insert(&mut attributes, "session".to_owned(), session);
    }
    let event_time_ms = fields
        .time_ms("timestamp")?
        .ok_or(RowError::Missing { field: "timestamp" })?;
    named(fields, &mut attributes)?;
    Ok((user_id, event_time_ms, attributes))
}

/// `"fields": [{"name": …, "value": …}]`.
fn named(fields: &mut Fields, attributes: &mut BTreeMap<String, String>) -> Result<(), RowError> {
    for field in fields.list("fields")?.unwrap_or_default() {
        let Value::Object(field) = field else {
            return Err(wrong("fields", "a list of objects with name and value"));
        };
        let mut field = Fields::new(field);
        let name = field.text("name")?;
        let name = name.ok_or(RowError::Missing {
            field: "fields.name",
        })?;
        if let Some(value) = field.take("value") {
            insert(attributes, name, value);
        }
    }
    Ok(())
}

/// Types that Metarank's own examples use.
fn usual(name: &str) -> Option<BehaviorKind> {
    Some(match name {
        "purchase" => BehaviorKind::Buy,
        "add_to_cart" | "addtocart" => BehaviorKind::Cart,
        "impression" => BehaviorKind::Expose,
        "dislike" => BehaviorKind::Unlike,
        "rate" | "rating" => BehaviorKind::Evaluate,
        _ => return None,
    })
}
