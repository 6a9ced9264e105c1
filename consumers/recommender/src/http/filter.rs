//! What a caller wants in an answer, in the two dialects' words.

use axum::Json;
use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use millrace_index::Filter;
use millrace_producers::behavior::item::ItemDocuments;
use serde::Deserialize;
use serde_json::Value;

use super::rejection;

/// Reads the filter of a search, as JSON.
///
/// # Errors
/// Which field of it is wrong, and what it may be.
pub fn own(text: &str) -> Result<Filter, String> {
    let told = |what: &str| {
        format!(
            "`filter` is no filter of a search: {what}; an example is {{\"tags\":[\"sea\"],\
             \"categories\":[\"drama\"]}}"
        )
    };
    // Objects alone: fields in an array, by their order, are nothing that a caller means.
    let begins = text.trim_start().chars().next();
    if !matches!(begins, Some('{')) {
        return Err(told("it is not a JSON object"));
    }
    let read = Json::<Filter>::from_bytes(text.as_bytes());
    read.map(|Json(filter)| filter).map_err(|error| {
        let (_, _, message) = rejection::of_body(&error);
        told(
            message
                .trim_start_matches("the body is ")
                .trim_start_matches("the body: "),
        )
    })
}

/// AIRec's: base64 of `{"join":"and","filters":[{"cond":"contain","field":"tags","value":"sea"}]}`.
#[derive(Debug, Deserialize)]
struct Conditions {
    #[serde(default)]
    join: Option<String>,
    filters: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    cond: String,
    field: String,
    value: Value,
}

const SUPPORTED: &str = "tags contain|equal, category_path contain|equal|in, language equal, pub_time \
                         greater|less, item_id not_in|not_equal, joined by `and`";

/// Reads AIRec's filter; what it can say and this index can't is refused.
pub(super) fn airec(text: &str, items: &ItemDocuments) -> Result<Filter, String> {
    // Senders leave out the padding, or use the alphabet of URLs.
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    let plain = text.trim().replace('+', "-").replace('/', "_");
    let json = engine
        .decode(plain)
        .map_err(|error| format!("`filter` is not base64: {error}"))?;
    let conditions: Conditions = serde_json::from_slice(&json).map_err(|error| {
        format!(
            "`filter` is not base64 of {{\"join\":\"and\",\"filters\":[{{\"cond\":…,\"field\":…,\
             \"value\":…}}]}}: {error}"
        )
    })?;
    if conditions.join.as_deref().unwrap_or("and") != "and" && conditions.filters.len() > 1 {
        return Err(format!(
            "`filter` joins by another than `and`; served: {SUPPORTED}"
        ));
    }
    let mut filter = Filter::default();
    for condition in conditions.filters {
        add(&mut filter, condition, items)?;
    }
    Ok(filter)
}

fn add(filter: &mut Filter, condition: Condition, items: &ItemDocuments) -> Result<(), String> {
    let Condition { cond, field, value } = condition;
    let values = values(&value);
    let one = || match &values[..] {
        [one] => Ok(one.clone()),
        _ => Err(format!("`filter`: {field} needs one value")),
    };
    match (field.as_str(), cond.as_str()) {
        ("tags", "contain" | "equal") => filter.tags.extend(values),
        ("category_path" | "categories", "contain" | "equal" | "in")
            if filter.categories.is_empty() =>
        {
            filter.categories = values;
        }
        ("language", "equal") => filter.language = Some(one()?),
        ("pub_time", "greater" | "less") => {
            let seconds: i64 = one()?
                .parse()
                .map_err(|_| "`filter`: pub_time is in seconds since 1970".to_owned())?;
            let ms = seconds.saturating_mul(1000);
            match cond.as_str() {
                "greater" => filter.published_from_ms = Some(ms.saturating_add(1000)),
                _ => filter.published_before_ms = Some(ms),
            }
        }
        ("item_id", "not_in" | "not_equal") => {
            for item in values {
                let document = items.resolve(&item).map_err(|error| error.to_string())?;
                filter.exclude_doc_ids.push(document.to_string());
            }
        }
        _ => {
            return Err(format!(
                "`filter`: {field} {cond} is not served; served: {SUPPORTED}"
            ));
        }
    }
    Ok(())
}

/// A value, a list of them, or texts between commas.
fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(self::values).collect(),
        Value::String(text) => {
            let parts = text.split(',').map(str::trim);
            parts
                .filter(|it| !it.is_empty())
                .map(str::to_owned)
                .collect()
        }
        Value::Null => vec![],
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use millrace_producers::behavior::BehaviorConfig;

    use super::*;

    fn read(json: &str) -> Result<Filter, String> {
        let items = ItemDocuments::new(&BehaviorConfig::default()).unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(json);
        airec(&text, &items.of_instance("shop"))
    }

    #[test]
    fn airecs_own_example_is_read() {
        // From AIRec's documentation of `Recommend`.
        let items = ItemDocuments::new(&BehaviorConfig::default()).unwrap();
        let text = "eyJqb2luIjoiYW5kIiwiZmlsdGVycyI6W3siY29uZCI6ImNvbnRhaW4iLCJmaWVsZCI6InRhZ3MiLCJ2YWx1ZSI6IuWPjOS6uiJ9XX0";
        let filter = airec(text, &items).unwrap();
        assert_eq!(filter.tags, ["双人"]);
    }

    #[test]
    fn conditions_are_joined() {
        let filter = read(
            r#"{"join":"and","filters":[
                {"cond":"in","field":"category_path","value":["drama","news"]},
                {"cond":"greater","field":"pub_time","value":1700000000},
                {"cond":"not_in","field":"item_id","value":"7,8"}]}"#,
        );
        let filter = filter.unwrap();
        assert_eq!(filter.categories, ["drama", "news"]);
        assert_eq!(filter.published_from_ms, Some(1_700_000_001_000));
        assert_eq!(filter.exclude_doc_ids.len(), 2);
    }

    #[test]
    fn what_is_not_served_is_refused() {
        for (json, complaint) in [
            ("[]", "is not base64 of"),
            (
                r#"{"filters":[{"cond":"contain","field":"colour","value":"x"}]}"#,
                "colour contain",
            ),
            (
                r#"{"join":"or","filters":[{"cond":"contain","field":"tags","value":"x"},
                    {"cond":"contain","field":"tags","value":"y"}]}"#,
                "another than `and`",
            ),
            (
                r#"{"filters":[{"cond":"less","field":"pub_time","value":"soon"}]}"#,
                "seconds",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
        let items = ItemDocuments::new(&BehaviorConfig::default()).unwrap();
        assert!(airec("%%%", &items).unwrap_err().contains("base64"));
        for (text, complaint) in [
            ("5", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{\"tag\":[]}", "unknown field `tag`"),
            (
                "{\"tags\":\"sea\"}",
                "`tags`: invalid type: string \"sea\", expected an array",
            ),
            ("{", "broken JSON: EOF"),
        ] {
            let error = own(text).unwrap_err();
            assert!(
                error.starts_with("`filter` is no filter") && error.contains(complaint),
                "{error}"
            );
        }
    }
}
