//! Rows of any dialect become events.

use std::collections::{BTreeMap, HashMap};

use millrace_schemas::{BehaviorEvent, BehaviorKind};
use serde_json::{Map, Value};

use super::error::beginning;
use super::fields::Fields;
use super::item::ItemDocuments;
use super::{
    BehaviorConfig, BehaviorConfigError, Dialect, MAX_AHEAD_MS, MAX_EVENT_BYTES, MAX_FIELD_BYTES,
    MAX_ID_BYTES, MAX_ROW_BYTES, RowError, Told, airec, event_id, metarank, own, ubi,
};
use crate::rows::CsvFields;

const DAY_MS: i64 = 86_400_000;

/// Reads rows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RowReader {
    items: std::sync::Arc<ItemDocuments>,
    kinds: Kinds,
    max_age_days: Option<u32>,
    dialect: Option<Dialect>,
    shift_ms: i64,
}

/// Which names mean which kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds(std::sync::Arc<HashMap<String, BehaviorKind>>);

impl Kinds {
    /// The configured meaning counts first, then the kind's own name, then what is `usual`.
    pub(super) fn of(
        &self,
        name: &str,
        usual: impl Fn(&str) -> Option<BehaviorKind>,
    ) -> Result<BehaviorKind, RowError> {
        self.0
            .get(name)
            .copied()
            .or_else(|| name.parse().ok())
            .or_else(|| usual(name))
            .ok_or_else(|| RowError::Kind {
                name: beginning(name),
            })
    }
}

/// What a dialect reads, before it is judged.
pub(super) struct Draft {
    pub event_id: Option<String>,
    pub user_id: String,
    /// As the upstream system names it.
    pub item: String,
    /// What is resolved instead of `item`, where it is another text.
    pub item_id: Option<String>,
    pub kind: BehaviorKind,
    pub value: Option<f64>,
    pub event_time_ms: i64,
    pub request_id: Option<String>,
    pub trace_info: Option<String>,
    pub scene_id: Option<String>,
    pub position: Option<i64>,
    pub attributes: BTreeMap<String, String>,
}

pub(super) enum Drafts {
    Events(Vec<Draft>),
    PassedOver(&'static str),
}

impl RowReader {
    /// A reader of all dialects.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(config: &BehaviorConfig) -> Result<Self, BehaviorConfigError> {
        let kind = |(name, kind): (&String, &String)| match kind.parse() {
            Ok(known) => Ok((name.clone(), known)),
            Err(_) => Err(BehaviorConfigError::Kind {
                name: name.clone(),
                kind: kind.clone(),
            }),
        };
        config.collector.validate()?;
        let kinds: Result<HashMap<_, _>, _> = config.kinds.iter().map(kind).collect();
        Ok(Self {
            items: ItemDocuments::new(config)?.into(),
            kinds: Kinds(kinds?.into()),
            max_age_days: Some(config.max_age_days),
            dialect: None,
            shift_ms: 0,
        })
    }

    /// Reads every row as this dialect.
    #[must_use]
    pub fn of_dialect(mut self, dialect: Option<Dialect>) -> Self {
        self.dialect = dialect;
        self
    }

    /// Reads rows of AIRec's behavior table of this instance: an item is one of its item table.
    #[must_use]
    pub(crate) fn of_instance(&self, instance: &str) -> Self {
        Self {
            items: self.items.of_instance(instance).into(),
            dialect: Some(Dialect::Airec),
            ..self.clone()
        }
    }

    /// Which document an item is.
    #[must_use]
    pub fn items(&self) -> &ItemDocuments {
        &self.items
    }

    /// Moves every event's time by `shift_ms`. Derived event ids are those of the times before.
    #[must_use]
    pub fn shifted(mut self, shift_ms: i64) -> Self {
        self.shift_ms = shift_ms;
        self
    }

    /// Takes times of any age.
    #[must_use]
    pub fn of_any_age(mut self) -> Self {
        self.max_age_days = None;
        self
    }

    /// Reads a row of JSON. `now_ms` is this clock.
    ///
    /// # Errors
    /// Why the row makes no event.
    pub fn read_json(&self, row: &[u8], now_ms: i64) -> Result<Told, RowError> {
        if row.len() > MAX_ROW_BYTES {
            let bytes = row.len() as u64;
            return Err(RowError::TooLong { bytes });
        }
        let text = std::str::from_utf8(row).map_err(|_| RowError::NotUtf8)?;
        match serde_json::from_str(text).map_err(RowError::Json)? {
            Value::Object(fields) => self.read(fields, now_ms),
            _ => Err(RowError::NotAnObject),
        }
    }

    /// Reads a record of CSV.
    pub(crate) fn read_csv(&self, row: &CsvFields<'_>, now_ms: i64) -> Result<Told, RowError> {
        let field = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
        self.read(row.iter().map(field).collect(), now_ms)
    }

    fn read(&self, fields: Map<String, Value>, now_ms: i64) -> Result<Told, RowError> {
        let fields = Fields::new(fields);
        let dialect = self
            .dialect
            .or_else(|| dialect_of(&fields))
            .ok_or(RowError::Dialect)?;
        let drafts = match dialect {
            Dialect::Own => Drafts::Events(vec![own::read(fields, &self.kinds)?]),
            Dialect::Airec => Drafts::Events(vec![airec::read(fields, &self.kinds)?]),
            Dialect::Metarank => metarank::read(fields, &self.kinds)?,
            Dialect::Ubi => ubi::read(fields, &self.kinds)?,
        };
        let event = |draft| self.event(draft, dialect, now_ms);
        Ok(match drafts {
            Drafts::Events(drafts) => {
                let events: Result<_, RowError> = drafts.into_iter().map(event).collect();
                Told::Events(events?)
            }
            Drafts::PassedOver(what) => Told::PassedOver(what),
        })
    }

    /// Judges a draft.
    fn event(
        &self,
        draft: Draft,
        dialect: Dialect,
        now_ms: i64,
    ) -> Result<BehaviorEvent, RowError> {
        check_ids(&draft)?;
        let item_id = self
            .items
            .resolve(draft.item_id.as_ref().unwrap_or(&draft.item))?;
        let position = match draft.position {
            None => None,
            Some(position) => match i32::try_from(position) {
                Ok(place) if place >= 1 => Some(place),
                _ => return Err(RowError::Position { position }),
            },
        };
        let mut event = BehaviorEvent {
            event_id: String::new(),
            user_id: draft.user_id,
            item_id: item_id.into(),
            item: draft.item,
            kind: draft.kind,
            value: draft.value,
            event_time_ms: draft.event_time_ms,
            request_id: draft.request_id,
            trace_info: draft.trace_info,
            scene_id: draft.scene_id,
            position,
            attributes: draft.attributes,
            source: dialect.as_str().to_owned(),
        };
        check_lengths(&event)?;
        event.event_id = match draft.event_id {
            Some(id) => id,
            None => event_id::derive(&event),
        };
        event.event_time_ms = event.event_time_ms.saturating_add(self.shift_ms);
        self.check_time(event.event_time_ms, now_ms)?;
        Ok(event)
    }

    fn check_time(&self, event_time_ms: i64, now_ms: i64) -> Result<(), RowError> {
        let ahead_ms = event_time_ms.saturating_sub(now_ms);
        if ahead_ms > MAX_AHEAD_MS {
            return Err(RowError::InFuture {
                event_time_ms,
                ahead_ms,
            });
        }
        match self.max_age_days {
            Some(days) if ahead_ms < -(i64::from(days) * DAY_MS) => Err(RowError::TooOld {
                event_time_ms,
                max_age_days: days,
            }),
            _ => Ok(()),
        }
    }
}

fn dialect_of(fields: &Fields) -> Option<Dialect> {
    [
        (Dialect::Airec, airec::matches(fields)),
        (Dialect::Ubi, ubi::matches(fields)),
        (Dialect::Metarank, metarank::matches(fields)),
        (Dialect::Own, own::matches(fields)),
    ]
    .into_iter()
    .find_map(|(dialect, matches)| matches.then_some(dialect))
}

/// Ids become keys of records and of state, and lines of logs.
fn check_ids(draft: &Draft) -> Result<(), RowError> {
    let ids = [
        ("user_id", Some(&draft.user_id)),
        ("item", Some(&draft.item)),
        ("item_id", draft.item_id.as_ref()),
        ("event_id", draft.event_id.as_ref()),
        ("request_id", draft.request_id.as_ref()),
        ("scene_id", draft.scene_id.as_ref()),
    ];
    for (field, id) in ids {
        let Some(id) = id else { continue };
        if id.trim().is_empty() {
            return Err(RowError::EmptyId { field });
        }
        if id.len() > MAX_ID_BYTES {
            return Err(RowError::FieldTooLong {
                field: field.to_owned(),
                bytes: id.len(),
                limit_bytes: MAX_ID_BYTES,
            });
        }
        if let Some(character) = id.chars().find(|character| character.is_control()) {
            return Err(RowError::ControlCharacter {
                field: field.to_owned(),
                character,
            });
        }
    }
    Ok(())
}

fn check_lengths(event: &BehaviorEvent) -> Result<(), RowError> {
    let too_long = |field: &str, bytes: usize, limit_bytes| RowError::FieldTooLong {
        field: beginning(field),
        bytes,
        limit_bytes,
    };
    if let Some(info) = event
        .trace_info
        .as_ref()
        .filter(|info| info.len() > MAX_FIELD_BYTES)
    {
        return Err(too_long("trace_info", info.len(), MAX_FIELD_BYTES));
    }
    let mut bytes = event.user_id.len() + event.item.len() + event.item_id.len();
    for text in [&event.request_id, &event.trace_info, &event.scene_id] {
        bytes += text.as_ref().map_or(0, String::len);
    }
    for (name, value) in &event.attributes {
        if name.len() > MAX_ID_BYTES {
            return Err(too_long(name, name.len(), MAX_ID_BYTES));
        }
        if let Some(character) = name.chars().find(|character| character.is_control()) {
            return Err(RowError::ControlCharacter {
                field: beginning(name),
                character,
            });
        }
        if value.len() > MAX_FIELD_BYTES {
            return Err(too_long(name, value.len(), MAX_FIELD_BYTES));
        }
        bytes += name.len() + value.len();
    }
    if bytes > MAX_EVENT_BYTES {
        return Err(RowError::EventTooLarge {
            bytes,
            limit_bytes: MAX_EVENT_BYTES,
        });
    }
    Ok(())
}
