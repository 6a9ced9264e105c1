//! YAML (`---`) and TOML (`+++`) front matter of Markdown files, as static site generators use it.

use serde::Deserialize;
use serde_json::Value;

use super::ExtractedText;
use super::published::parse_published;

/// Which language a metadata block is written in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notation {
    Yaml,
    Toml,
}

/// Largest block that is parsed, bytes: metadata, not a place for documents (or alias bombs).
const MAX_BYTES: usize = 64 * 1024;

/// Copies the known keys of `block` into `extracted`. A block that does not parse is left out:
/// the document under it is still good.
pub(super) fn apply(block: &str, notation: Notation, extracted: &mut ExtractedText) {
    if block.len() > MAX_BYTES {
        return;
    }
    let parsed = match notation {
        Notation::Yaml => serde_saphyr::from_str::<Value>(block).ok(),
        Notation::Toml => toml::from_str::<toml::Table>(block).ok().map(|table| {
            Value::Object(
                table
                    .into_iter()
                    .map(|(key, value)| (key, json(value)))
                    .collect(),
            )
        }),
    };
    let Some(Value::Object(fields)) = parsed else {
        tracing::debug!(?notation, "front matter is not a mapping; ignored");
        return;
    };
    let find = |names: &[&str]| {
        names.iter().find_map(|name| {
            fields
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        })
    };
    extracted.title = find(&["title"]).and_then(scalar);
    extracted.language = find(&["lang", "language"]).and_then(scalar);
    extracted.tags = find(&["tags", "keywords"]).map(labels).unwrap_or_default();
    extracted.categories = find(&["categories", "category"])
        .map(labels)
        .unwrap_or_default();
    extracted.published_at_ms = find(&["date", "published", "published_at", "publishdate"])
        .and_then(scalar)
        .and_then(|text| parse_published(&text));
}

/// TOML's own dates become the text that they were written as.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(datetime) => Value::String(datetime.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        other => Value::deserialize(other).unwrap_or(Value::Null),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A list of labels, or one string with commas.
pub(super) fn labels(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(scalar).collect(),
        Value::String(text) => text
            .split(',')
            .map(|label| label.trim().to_owned())
            .collect(),
        other => scalar(other).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_give_the_same() {
        let yaml =
            "title: A day\ntags: [sea, sand]\ncategories: travel\ndate: 2024-05-01\nlang: en\n";
        let toml = "title = 'A day'\ntags = ['sea', 'sand']\ncategories = ['travel']\ndate = 2024-05-01\nlang = 'en'\n";
        let (mut first, mut second) = (ExtractedText::default(), ExtractedText::default());
        apply(yaml, Notation::Yaml, &mut first);
        apply(toml, Notation::Toml, &mut second);
        assert_eq!(first, second);
        assert_eq!(first.title.as_deref(), Some("A day"));
        assert_eq!(first.tags, ["sea", "sand"]);
        assert_eq!(first.categories, ["travel"]);
        assert_eq!(first.published_at_ms, Some(1_714_521_600_000));
    }

    #[test]
    fn a_broken_block_or_an_alias_bomb_is_ignored() {
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (name, of) in ["b", "c", "d", "e", "f", "g", "h"]
            .iter()
            .zip(["a", "b", "c", "d", "e", "f", "g"])
        {
            bomb.push_str(&format!(
                "{name}: &{name} [{}]\n",
                vec![format!("*{of}"); 9].join(",")
            ));
        }
        for block in ["title: [unclosed", "just words", &bomb] {
            let mut extracted = ExtractedText::default();
            apply(block, Notation::Yaml, &mut extracted);
            assert_eq!(extracted, ExtractedText::default());
        }
    }
}
