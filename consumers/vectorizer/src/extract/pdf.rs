//! PDF through `pdf-extract`. Runs in the worker process only: the crate panics on fonts it does
//! not expect, and a page tree may be as deep as its author liked.

use pdf_extract::{Document, OutputError, PlainTextOutput};

use super::published::parse_published;
use super::{ExtractError, ExtractedText};

/// Reads the text of all pages and the title, keywords and creation date of the document.
pub(super) fn read(bytes: &[u8], max_text_bytes: u64) -> Result<ExtractedText, ExtractError> {
    let mut document = Document::load_mem(bytes).map_err(|error| malformed(&error))?;
    // A document may be encrypted with an empty user password: everyone may read it, only
    // editing is restricted.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(ExtractError::Encrypted {
            format: "PDF".to_owned(),
        });
    }
    let mut extracted = ExtractedText {
        title: info(&document, b"Title"),
        tags: info(&document, b"Keywords")
            .map(|keywords| keywords.split([',', ';']).map(str::to_owned).collect())
            .unwrap_or_default(),
        published_at_ms: info(&document, b"CreationDate").and_then(|date| parse_pdf_date(&date)),
        ..ExtractedText::default()
    };
    let mut text = Capped {
        text: Vec::new(),
        limit: max_text_bytes,
        passed: false,
    };
    let mut output = PlainTextOutput::new(&mut text as &mut dyn std::io::Write);
    let result = pdf_extract::output_doc(&document, &mut output);
    if text.passed {
        return Err(ExtractError::TextTooLarge {
            limit_bytes: max_text_bytes,
        });
    }
    result.map_err(|error| match error {
        OutputError::PdfError(error) => malformed(&error),
        _ => ExtractError::Malformed {
            format: "PDF".to_owned(),
            detail: "unreadable page".to_owned(),
        },
    })?;
    extracted.text = String::from_utf8_lossy(&text.text).into_owned();
    Ok(extracted)
}

fn malformed(error: &pdf_extract::Error) -> ExtractError {
    // lopdf's messages name objects and offsets, which say nothing of the text.
    let detail: String = error.to_string().chars().take(200).collect();
    ExtractError::Malformed {
        format: "PDF".to_owned(),
        detail,
    }
}

fn info(document: &Document, key: &[u8]) -> Option<String> {
    let info = document.trailer.get(b"Info").ok()?;
    let (_, info) = document.dereference(info).ok()?;
    let (_, value) = document
        .dereference(info.as_dict().ok()?.get(key).ok()?)
        .ok()?;
    pdf_extract::decode_text_string(value)
        .ok()
        .filter(|text| !text.trim().is_empty())
}

/// `D:20240501120000+02'00'` (PDF 32000-1, 7.9.4).
fn parse_pdf_date(date: &str) -> Option<i64> {
    let date = date.strip_prefix("D:").unwrap_or(date);
    let digits: String = date.chars().take_while(char::is_ascii_digit).collect();
    let part = |from: usize, to: usize, default: &str| {
        digits
            .get(from..to)
            .filter(|part| part.len() == to - from)
            .unwrap_or(default)
            .to_owned()
    };
    let year = digits.get(0..4)?;
    let rest = &date[digits.len()..];
    let offset = match rest.chars().next() {
        Some(sign @ ('+' | '-')) => {
            let numbers: Vec<&str> = rest[1..].split('\'').collect();
            format!(
                "{sign}{}:{}",
                numbers.first()?,
                numbers.get(1).filter(|m| !m.is_empty()).unwrap_or(&"00")
            )
        }
        _ => "Z".to_owned(),
    };
    parse_published(&format!(
        "{year}-{}-{}T{}:{}:{}{offset}",
        part(4, 6, "01"),
        part(6, 8, "01"),
        part(8, 10, "00"),
        part(10, 12, "00"),
        part(12, 14, "00"),
    ))
}

/// Stops the output device once enough text has come.
struct Capped {
    text: Vec<u8>,
    limit: u64,
    passed: bool,
}

impl std::io::Write for Capped {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        if (self.text.len() + part.len()) as u64 > self.limit {
            self.passed = true;
            return Err(std::io::Error::other("enough text"));
        }
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdf_dates_may_stop_early_and_carry_an_offset() {
        assert_eq!(
            parse_pdf_date("D:20240501140000+02'00'"),
            Some(1_714_564_800_000)
        );
        assert_eq!(parse_pdf_date("D:20240501120000Z"), Some(1_714_564_800_000));
        assert_eq!(parse_pdf_date("D:20240501"), Some(1_714_521_600_000));
        assert_eq!(parse_pdf_date("yesterday"), None);
    }
}
