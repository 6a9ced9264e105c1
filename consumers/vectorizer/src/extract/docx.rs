//! DOCX: the paragraphs of `word/document.xml` and its notes, read as a stream.
//!
//! Hand-written over `zip` and `quick-xml` because the format's text is four elements (`w:p`,
//! `w:t`, `w:tab`, `w:br`), while the crates for DOCX build the whole document model in memory.
//! A compressed part is read through a cap on what it decompresses to: the size that a zip
//! declares is its author's claim.

use std::io::{BufReader, Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::Event;
use zip::ZipArchive;
use zip::result::ZipError;

use super::published::parse_published;
use super::{ExtractError, ExtractedText};

/// Markup around the text: how many times larger than the text a part may be.
const MARKUP_FACTOR: u64 = 8;

/// What markup alone may take, however small the text limit is.
const MIN_PART_BYTES: u64 = 1 << 20;

/// How many times its size a document without text may decompress to.
const EMPTY_EXPANSION: u64 = 50;

/// Reads the text, and title, keywords, category, language and creation time of the document
/// properties.
pub(super) fn read(bytes: &[u8], max_text_bytes: u64) -> Result<ExtractedText, ExtractError> {
    // An encrypted DOCX is no zip but an OLE compound file.
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]) {
        return Err(ExtractError::Encrypted {
            format: "DOCX".to_owned(),
        });
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| malformed(&error))?;
    let mut extracted = ExtractedText::default();
    let mut budget = Budget {
        text: max_text_bytes,
        part: max_text_bytes
            .saturating_mul(MARKUP_FACTOR)
            .max(MIN_PART_BYTES),
        read: 0,
    };
    for (part, required) in [
        ("word/document.xml", true),
        ("word/footnotes.xml", false),
        ("word/endnotes.xml", false),
    ] {
        match archive.by_name(part) {
            Ok(file) => paragraphs(file, &mut extracted.text, &mut budget)?,
            Err(ZipError::FileNotFound) if !required => {}
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                return Err(ExtractError::Encrypted {
                    format: "DOCX".to_owned(),
                });
            }
            Err(error) => return Err(malformed(&error)),
        }
    }
    if let Ok(file) = archive.by_name("docProps/core.xml") {
        properties(file, &mut extracted, &budget)?;
    }
    // Kept small enough to pass the limit, a bomb would only seem to be an empty document.
    let most = (bytes.len() as u64)
        .saturating_mul(EMPTY_EXPANSION)
        .max(MIN_PART_BYTES);
    if extracted.text.trim().is_empty() && budget.read > most {
        return Err(expands_too_far(most));
    }
    Ok(extracted)
}

struct Budget {
    text: u64,
    part: u64,
    /// What the parts decompressed to so far.
    read: u64,
}

fn malformed(error: &dyn std::fmt::Display) -> ExtractError {
    let detail: String = error.to_string().chars().take(200).collect();
    ExtractError::Malformed {
        format: "DOCX".to_owned(),
        detail,
    }
}

fn expands_too_far(limit_bytes: u64) -> ExtractError {
    ExtractError::ExpandsTooFar {
        format: "DOCX".to_owned(),
        limit_bytes,
    }
}

/// One XML part, event by event, with an error where it decompresses past `limit_bytes`; what it
/// decompressed to.
fn events(
    part: impl Read,
    limit_bytes: u64,
    mut on_event: impl FnMut(Event<'_>) -> Result<(), ExtractError>,
) -> Result<u64, ExtractError> {
    let mut reader = Reader::from_reader(BufReader::new(part.take(limit_bytes)));
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(_) if reader.get_ref().get_ref().limit() == 0 => {
                return Err(expands_too_far(limit_bytes));
            }
            Err(error) => return Err(malformed(&error)),
        };
        if matches!(event, Event::Eof) {
            break;
        }
        on_event(event)?;
    }
    match reader.get_ref().get_ref().limit() {
        0 => Err(expands_too_far(limit_bytes)),
        left => Ok(limit_bytes - left),
    }
}

fn paragraphs(part: impl Read, text: &mut String, budget: &mut Budget) -> Result<(), ExtractError> {
    let limit_bytes = budget.text;
    let mut in_text = false;
    budget.read += events(part, budget.part, |event| {
        match event {
            Event::Start(element) => match element.local_name().as_ref() {
                "t" => in_text = true,
                "tab" => text.push('\t'),
                "br" | "cr" => text.push('\n'),
                _ => {}
            },
            Event::Empty(element) => match element.local_name().as_ref() {
                "tab" => text.push('\t'),
                "br" | "cr" => text.push('\n'),
                _ => {}
            },
            Event::Text(part) if in_text => text.push_str(&part),
            Event::GeneralRef(reference) if in_text => text.push_str(&resolve(&reference)?),
            Event::End(element) => match element.local_name().as_ref() {
                "t" => in_text = false,
                "p" => text.push('\n'),
                _ => {}
            },
            _ => {}
        }
        if text.len() as u64 > limit_bytes {
            return Err(ExtractError::TextTooLarge { limit_bytes });
        }
        Ok(())
    })?;
    Ok(())
}

fn properties(
    part: impl Read,
    extracted: &mut ExtractedText,
    budget: &Budget,
) -> Result<(), ExtractError> {
    let mut name = String::new();
    let mut value = String::new();
    events(part, budget.part.min(1024 * 1024), |event| {
        match event {
            Event::Start(element) => {
                name = element.local_name().as_ref().to_owned();
                value.clear();
            }
            Event::Text(part) => value.push_str(&part),
            Event::GeneralRef(reference) => value.push_str(&resolve(&reference)?),
            Event::End(element) if element.local_name().as_ref() == name => {
                let split = || {
                    value
                        .split([',', ';'])
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                };
                match name.as_str() {
                    "title" => extracted.title = Some(value.clone()),
                    "keywords" => extracted.tags = split(),
                    "category" => extracted.categories = split(),
                    "language" => extracted.language = Some(value.clone()),
                    "created" => extracted.published_at_ms = parse_published(&value),
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(())
}

/// `&amp;`, `&#x41;` and the like; a DOCX has no entities of its own.
fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Result<String, ExtractError> {
    if let Some(c) = reference
        .resolve_char_ref()
        .map_err(|error| malformed(&error))?
    {
        return Ok(c.to_string());
    }
    Ok(quick_xml::escape::resolve_predefined_entity(reference)
        .unwrap_or_default()
        .to_owned())
}
