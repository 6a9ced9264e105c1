//! OSS through EventBridge: CloudEvents 1.0 whose data is an event of OSS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::oss_mns::{self, OssEvent};
use super::{Entry, EntryError, NoticeFormat, Recognised, each};

#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(rename = "type")]
    event_type: String,
    /// Of the envelope; in an odd form at times, so the data's own is preferred.
    time: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

pub(super) fn read(events: &[&RawValue]) -> Recognised {
    Recognised {
        format: NoticeFormat::OssEventBridge,
        entries: each(events, entry),
    }
}

fn entry(raw: &RawValue) -> Result<Entry, EntryError> {
    let event: CloudEvent<'_> = serde_json::from_str(raw.get()).map_err(EntryError::Shape)?;
    if !event.event_type.starts_with("oss:") {
        return Err(EntryError::EventType(event.event_type));
    }
    let mut oss: serde_json::Map<String, serde_json::Value> = match (event.data, event.data_base64)
    {
        // Data may be a text that holds the JSON.
        (Some(data), _) if data.get().starts_with('"') => {
            let text: String = serde_json::from_str(data.get()).map_err(EntryError::Shape)?;
            serde_json::from_str(&text)
        }
        (Some(data), _) => serde_json::from_str(data.get()),
        (None, Some(encoded)) => {
            let bytes = STANDARD.decode(encoded).map_err(|_| EntryError::NoData)?;
            serde_json::from_slice(&bytes)
        }
        (None, None) => return Err(EntryError::NoData),
    }
    .map_err(EntryError::Shape)?;
    // The envelope's type is the one that subscriptions filter by.
    oss.insert("eventName".to_owned(), event.event_type.into());
    let oss: OssEvent = serde_json::from_value(oss.into()).map_err(EntryError::Shape)?;
    oss_mns::entry(oss, event.time.as_deref())
}
