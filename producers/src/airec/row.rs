//! Rows of the item and user tables become notices, users, or rejections.

use std::collections::BTreeMap;

use millrace_retry::error_chain;
use millrace_schemas::{DocumentNotice, User};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::TableRowError;
use super::{Table, item, user};
use crate::behavior::error::beginning;
use crate::behavior::fields::Fields;
use crate::behavior::item::ItemDocuments;
use crate::behavior::{MAX_EVENT_BYTES, MAX_FIELD_BYTES, MAX_ID_BYTES, RowError};
use crate::http::EntryProblem;
use crate::rejection::{Rejection, position_of};

/// What a row becomes.
pub(super) enum Row {
    Item(Box<DocumentNotice>),
    User(Box<User>),
    Rejected(Rejection),
}

/// All rows of a request, in its order.
pub(super) struct Rows {
    pub rows: Vec<Row>,
    pub accepted: usize,
    pub rejected: usize,
    pub errors: Vec<EntryProblem>,
}

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Add or replace.
    Put,
    Delete,
}

impl Rows {
    pub fn read(table: Table, items: &ItemDocuments, raw: &[&RawValue]) -> Self {
        let now_ms = crate::now_ms();
        let mut read = Self {
            rows: Vec::with_capacity(raw.len()),
            accepted: 0,
            rejected: 0,
            errors: vec![],
        };
        for (index, raw) in raw.iter().enumerate() {
            let row = parse(raw).and_then(|(command, fields)| match table {
                Table::Item => item::notice(command, fields, items, now_ms)
                    .map(|notice| Row::Item(Box::new(notice))),
                Table::User | Table::Behavior => {
                    user::user(command, fields, now_ms).map(|user| Row::User(Box::new(user)))
                }
            });
            match row {
                Ok(row) => {
                    read.accepted += 1;
                    read.rows.push(row);
                }
                Err(error) => read.reject(table, index, &error, raw.get().as_bytes()),
            }
        }
        read
    }

    fn reject(&mut self, table: Table, index: usize, error: &TableRowError, row: &[u8]) {
        let (error_type, message) = (error.error_type(), error_chain(error));
        self.rejected += 1;
        self.errors.push(EntryProblem {
            index,
            error_type: error_type.to_owned(),
            message: message.clone(),
        });
        self.rows.push(Row::Rejected(Rejection {
            topic: table.dead_letters(),
            origin: table.origin().to_owned(),
            position: position_of(row),
            row: u64::try_from(index).ok(),
            stage: table.as_str(),
            error_type,
            message: format!("row {index} of a request: {message}"),
            raw: row.to_vec(),
        }));
    }
}

fn parse(raw: &RawValue) -> Result<(Command, Fields), TableRowError> {
    let row: Value = serde_json::from_str(raw.get()).map_err(RowError::Json)?;
    let Value::Object(row) = row else {
        return Err(RowError::NotAnObject.into());
    };
    let mut row = Fields::new(row);
    let command = match row.id("cmd")?.as_str() {
        "add" | "update" => Command::Put,
        "delete" => Command::Delete,
        other => {
            return Err(TableRowError::Command {
                command: beginning(other),
            });
        }
    };
    match row.object("fields")? {
        Some(fields) => Ok((command, fields)),
        None => Err(RowError::Missing { field: "fields" }.into()),
    }
}

/// Ids become keys of records, parts of URIs and lines of logs.
pub(super) fn check_id(field: &'static str, id: &str) -> Result<(), RowError> {
    if id.len() > MAX_ID_BYTES {
        return Err(RowError::FieldTooLong {
            field: field.to_owned(),
            bytes: id.len(),
            limit_bytes: MAX_ID_BYTES,
        });
    }
    match id.chars().find(|character| character.is_control()) {
        Some(character) => Err(RowError::ControlCharacter {
            field: field.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

/// All fields as texts, within AIRec's limits of a field and of a document.
pub(super) fn texts(fields: Fields) -> Result<BTreeMap<String, String>, RowError> {
    let texts = fields.into_attributes();
    let mut bytes = 0;
    for (name, text) in &texts {
        if name.len() > MAX_ID_BYTES || text.len() > MAX_FIELD_BYTES {
            return Err(RowError::FieldTooLong {
                field: beginning(name),
                bytes: name.len().max(text.len()),
                limit_bytes: MAX_FIELD_BYTES,
            });
        }
        if let Some(character) = name.chars().find(|character| character.is_control()) {
            return Err(RowError::ControlCharacter {
                field: beginning(name),
                character,
            });
        }
        bytes += name.len() + text.len();
    }
    if bytes > MAX_EVENT_BYTES {
        return Err(RowError::EventTooLarge {
            bytes,
            limit_bytes: MAX_EVENT_BYTES,
        });
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use millrace_schemas::{Framing, encode};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::behavior::BehaviorConfig;

    /// Values as senders write them, and as none should.
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!(null)),
            Just(json!(["a", 1])),
            Just(json!({"a": {"b": []}})),
            Just(Value::from("x".repeat(MAX_FIELD_BYTES + 1))),
        ]
    }

    fn row() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            Just("item_id"),
            Just("user_id"),
            Just("imei"),
            Just("title"),
            Just("content"),
            Just("pub_time"),
            Just("category_path"),
            Just("tags"),
        ];
        let name = prop_oneof![name.prop_map(str::to_owned), any::<String>()];
        let fields = prop::collection::btree_map(name, value(), 0..6);
        let command = prop_oneof![Just("add"), Just("update"), Just("delete"), Just("drop")];
        prop_oneof![
            8 => (command, fields).prop_map(|(cmd, fields)| json!({"cmd": cmd, "fields": fields})),
            1 => value(),
        ]
    }

    proptest! {
        /// Each row is taken or rejected with its own bytes, and what is taken can be published.
        #[test]
        fn no_row_is_lost(rows in prop::collection::vec(row(), 0..8)) {
            let items = ItemDocuments::new(&BehaviorConfig::default()).unwrap();
            let items = items.of_instance("shop");
            let text = serde_json::to_string(&rows).unwrap();
            let raw: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
            for table in [Table::Item, Table::User] {
                let read = Rows::read(table, &items, &raw);
                prop_assert_eq!(read.rows.len(), rows.len());
                prop_assert_eq!(read.accepted + read.rejected, rows.len());
                prop_assert_eq!(read.errors.len(), read.rejected);
                for (row, raw) in read.rows.iter().zip(&raw) {
                    match row {
                        Row::Item(notice) => {
                            prop_assert!(encode(&**notice, &Framing::SingleObject).is_ok());
                            prop_assert_eq!(items.uri(&items.item(&notice.uri)).unwrap(), notice.uri.as_str());
                        }
                        Row::User(user) => {
                            prop_assert!(encode(&**user, &Framing::SingleObject).is_ok());
                            prop_assert!(!user.user_id.is_empty());
                        }
                        Row::Rejected(rejection) => {
                            prop_assert_eq!(rejection.raw.as_slice(), raw.get().as_bytes());
                        }
                    }
                }
            }
        }
    }
}
