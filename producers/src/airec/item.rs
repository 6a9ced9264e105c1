//! A row of the item table is a document of one passage.
//!
//! Source: Alibaba Cloud, AIRec 2020-11-26, "Data specifications", item tables. The text is `content`,
//! else `brief`, else `description`, else the title. Of the other fields, which all become metadata
//! under their own names, these are also told in the words that documents use:
//!
//! | AIRec | as |
//! |---|---|
//! | `pub_time`, seconds | `published_at`, ISO 8601 |
//! | `category_path`, levels joined by `_` | `categories`, one a line |
//! | `tags`, joined by commas or `;` | `tags`, one a line |

use std::collections::BTreeMap;

use millrace_schemas::{DocumentEvent, DocumentNotice, Layout};
use sha2::{Digest, Sha256};

use super::error::TableRowError;
use super::row::{Command, check_id, texts};
use crate::behavior::fields::Fields;
use crate::behavior::item::ItemDocuments;

/// Fields that may hold the text, in the order in which they are asked.
const TEXTS: [&str; 3] = ["content", "brief", "description"];

pub(super) fn notice(
    command: Command,
    mut fields: Fields,
    items: &ItemDocuments,
    now_ms: i64,
) -> Result<DocumentNotice, TableRowError> {
    let item = fields.id("item_id")?;
    check_id("item_id", &item)?;
    let uri = items.uri(&item)?;
    let published_ms = fields.clone().time_s("pub_time")?;
    let mut metadata = texts(fields)?;
    let mut notice = DocumentNotice {
        uri,
        event: DocumentEvent::Removed,
        event_time_ms: now_ms,
        etag: None,
        size_bytes: None,
        media_type: None,
        content: None,
        title: None,
        layout: Layout::Passage,
        metadata: BTreeMap::new(),
        min_version: None,
        source: "airec".to_owned(),
    };
    if command == Command::Delete {
        return Ok(notice);
    }
    let title = metadata.remove("title").filter(|it| !it.trim().is_empty());
    let text = TEXTS
        .iter()
        .find(|name| metadata.get(**name).is_some_and(|it| !it.trim().is_empty()))
        .and_then(|name| metadata.remove(*name))
        .or_else(|| title.clone())
        .ok_or(TableRowError::NoText)?;
    if let Some(time) = published_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        metadata.insert("published_at".to_owned(), time.to_string());
    }
    if let Some(path) = metadata.get("category_path") {
        let levels = lines(path, &['_']);
        metadata.entry("categories".to_owned()).or_insert(levels);
    }
    if let Some(tags) = metadata.get_mut("tags") {
        *tags = lines(tags, &[',', ';']);
    }
    metadata.insert("item_id".to_owned(), item);
    let mut hash = Sha256::new();
    for part in title.iter().chain([&text]).chain(metadata.values()) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    notice.event = DocumentEvent::Created;
    notice.etag = Some(format!("sha256:{}", hex::encode(&hash.finalize()[..16])));
    notice.size_bytes = i64::try_from(text.len()).ok();
    notice.media_type = Some("text/plain".to_owned());
    notice.content = Some(text.into_bytes());
    notice.title = title;
    notice.metadata = metadata;
    Ok(notice)
}

fn lines(text: &str, separators: &[char]) -> String {
    let parts = text.split(separators).map(str::trim);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}
