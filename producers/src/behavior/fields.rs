//! The fields of a row, whatever they are written as: CSV has only texts, and JSON's senders write
//! numbers as texts and texts as numbers.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::RowError;

#[derive(Clone)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn new(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text_is(&self, name: &str, texts: &[&str]) -> bool {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .is_some_and(|text| texts.contains(&text))
    }

    /// Takes a field out; none where it is null or an empty text.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        match self.0.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(value) => Some(value),
        }
    }

    /// A text, or a number as text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, RowError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(wrong(name, "a text or a number")),
        }
    }

    /// An id that must be there.
    pub(crate) fn id(&mut self, name: &'static str) -> Result<String, RowError> {
        let was_empty = self.is_empty_text(name);
        match self.text(name)? {
            Some(id) if !id.trim().is_empty() => Ok(id),
            None if !was_empty => Err(RowError::Missing { field: name }),
            _ => Err(RowError::EmptyId { field: name }),
        }
    }

    /// The first of these ids that is there; `names[0]` is told where none is.
    pub(crate) fn first_id(&mut self, names: &[&'static str]) -> Result<String, RowError> {
        let present = |name: &&&'static str| {
            let value = self.0.get(**name);
            value.is_some_and(|value| !value.is_null()) && !self.is_empty_text(name)
        };
        let name = names.iter().find(present).or(names.first()).copied();
        self.id(name.unwrap_or_default())
    }

    fn is_empty_text(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::String(text)) if text.trim().is_empty())
    }

    /// A finite number, or a text of one.
    pub(crate) fn number(&mut self, name: &'static str) -> Result<Option<f64>, RowError> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match number {
            None => Err(wrong(name, "a number")),
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(_) => Err(RowError::NotFinite { field: name }),
        }
    }

    /// A whole number, or a text of one.
    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<i64>, RowError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match integer_of(&value) {
                Some(integer) => Ok(Some(integer)),
                None => Err(wrong(name, "a whole number")),
            },
        }
    }

    /// Milliseconds since 1970, as number or text, or an ISO 8601 time; without a zone it is UTC.
    pub(crate) fn time_ms(&mut self, name: &'static str) -> Result<Option<i64>, RowError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        integer_of(&value)
            .or_else(|| iso_8601(value.as_str()?.trim()))
            .map(Some)
            .ok_or(RowError::Time {
                field: name,
                expected: "milliseconds since 1970, or an ISO 8601 time",
            })
    }

    /// Seconds since 1970, as milliseconds.
    pub(crate) fn time_s(&mut self, name: &'static str) -> Result<Option<i64>, RowError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        integer_of(&value)
            .and_then(|seconds| seconds.checked_mul(1000))
            .map(Some)
            .ok_or(RowError::Time {
                field: name,
                expected: "seconds since 1970",
            })
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, RowError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields))),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, RowError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(_) => Err(wrong(name, "a list")),
        }
    }

    /// What is left: texts and numbers as they are, lists and objects as JSON.
    pub(crate) fn into_attributes(self) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::new();
        for (name, value) in self.0 {
            insert(&mut attributes, name, value);
        }
        attributes
    }
}

/// Adds a value to attributes; null and what is empty are no values.
pub(crate) fn insert(attributes: &mut BTreeMap<String, String>, name: String, value: Value) {
    let text = match value {
        Value::Null => return,
        Value::String(text) => text,
        other => other.to_string(),
    };
    if !text.is_empty() {
        attributes.insert(name, text);
    }
}

pub(crate) fn wrong(field: &str, expected: &'static str) -> RowError {
    RowError::Type {
        field: super::error::beginning(field),
        expected,
    }
}

fn integer_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| whole(text.parse().ok()?))
        }
        _ => None,
    }
}

/// Numbers such as `1.7E12`, as far as a double is exact.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn iso_8601(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let local: DateTime = text.parse().ok()?;
    let time = local.to_zoned(TimeZone::UTC).ok()?;
    Some(time.timestamp().as_millisecond())
}
