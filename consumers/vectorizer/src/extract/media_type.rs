//! Which media type a document has: what the notice says, else its extension, else its bytes.

use super::ExtractError;

/// Media types that have a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `text/plain`, and every other text without a reader of its own.
    PlainText,
    /// `text/markdown`.
    Markdown,
    /// `text/html`, `application/xhtml+xml`.
    Html,
    /// `application/json`.
    Json,
    /// `application/jsonl`: one JSON value a line.
    JsonLines,
    /// `text/csv`, delimiter found in the first line.
    Csv,
    /// `text/tab-separated-values`.
    Tsv,
    /// `application/pdf`.
    Pdf,
    /// Office Open XML text document.
    Docx,
}

impl MediaType {
    /// For error messages.
    pub(crate) const ACCEPTED: &'static str =
        "plain text, Markdown, HTML, PDF, JSON, JSONL, CSV, TSV and DOCX";

    const ALL: [Self; 9] = [
        Self::PlainText,
        Self::Markdown,
        Self::Html,
        Self::Json,
        Self::JsonLines,
        Self::Csv,
        Self::Tsv,
        Self::Pdf,
        Self::Docx,
    ];

    /// The canonical media type, as signals and records carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlainText => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv",
            Self::Tsv => "text/tab-separated-values",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        }
    }

    /// Short name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PlainText => "text",
            Self::Markdown => "Markdown",
            Self::Html => "HTML",
            Self::Json => "JSON",
            Self::JsonLines => "JSONL",
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
        }
    }

    /// The type that [`MediaType::as_str`] names.
    pub(crate) fn from_canonical(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|media_type| media_type.as_str() == name)
    }

    fn from_declared(essence: &str) -> Option<Self> {
        Some(match essence {
            "text/markdown" | "text/x-markdown" => Self::Markdown,
            "text/html" | "application/xhtml+xml" => Self::Html,
            "application/json" | "text/json" => Self::Json,
            "application/jsonl"
            | "application/x-ndjson"
            | "application/ndjson"
            | "application/x-jsonlines"
            | "application/json-lines" => Self::JsonLines,
            "text/csv" | "application/csv" => Self::Csv,
            "text/tab-separated-values" => Self::Tsv,
            "application/pdf" | "application/x-pdf" => Self::Pdf,
            essence if essence == Self::Docx.as_str() => Self::Docx,
            essence if essence.ends_with("+json") => Self::Json,
            // RTF, calendars and vCards are text that does not read as text.
            "text/rtf" | "text/calendar" | "text/vcard" => return None,
            essence if essence.starts_with("text/") => Self::PlainText,
            _ => return None,
        })
    }

    fn from_extension(extension: &str) -> Option<Self> {
        Some(match extension {
            "txt" | "text" | "log" | "rst" | "adoc" | "org" | "tex" => Self::PlainText,
            "md" | "markdown" | "mdown" | "mkd" => Self::Markdown,
            "html" | "htm" | "xhtml" => Self::Html,
            "json" => Self::Json,
            "jsonl" | "ndjson" => Self::JsonLines,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "pdf" => Self::Pdf,
            "docx" => Self::Docx,
            _ => return None,
        })
    }

    fn is_binary(self) -> bool {
        matches!(self, Self::Pdf | Self::Docx)
    }
}

/// A media type and the charset parameter that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub media_type: MediaType,
    pub charset: Option<String>,
}

impl Resolved {
    /// As the worker is told.
    pub fn to_argument(&self) -> String {
        match &self.charset {
            Some(charset) => format!("{};charset={charset}", self.media_type.as_str()),
            None => self.media_type.as_str().to_owned(),
        }
    }

    /// What [`Resolved::to_argument`] wrote.
    pub fn from_argument(argument: &str) -> Option<Self> {
        let (essence, charset) = parse(argument);
        Some(Self {
            media_type: MediaType::from_canonical(&essence)?,
            charset,
        })
    }
}

/// Decides the media type of `bytes`.
pub(super) fn resolve(
    declared: Option<&str>,
    uri: &str,
    bytes: &[u8],
) -> Result<Resolved, ExtractError> {
    let (essence, charset) = declared.map(parse).unwrap_or_default();
    // Object stores put these on whatever was uploaded without a type: they say nothing.
    let says_nothing = matches!(
        essence.as_str(),
        "" | "application/octet-stream" | "binary/octet-stream"
    );
    let media_type = if says_nothing {
        match extension(uri)
            .as_deref()
            .and_then(MediaType::from_extension)
        {
            Some(media_type) => media_type,
            None => sniff(bytes)?,
        }
    } else {
        let declared =
            MediaType::from_declared(&essence).ok_or(ExtractError::UnsupportedMediaType {
                media_type: essence,
            })?;
        match declared {
            // Web servers and buckets call every text file plain; the extension knows better.
            MediaType::PlainText => extension(uri)
                .as_deref()
                .and_then(MediaType::from_extension)
                .filter(|by_extension| !by_extension.is_binary())
                .unwrap_or(MediaType::PlainText),
            declared => declared,
        }
    };
    if !media_type.is_binary() && is_binary(bytes) {
        return Err(ExtractError::BinaryContent {
            declared: media_type.as_str().to_owned(),
            looks_like: looks_like(bytes).to_owned(),
        });
    }
    Ok(Resolved {
        media_type,
        charset,
    })
}

/// `text/html; charset="utf-8"` to (`text/html`, `utf-8`).
fn parse(declared: &str) -> (String, Option<String>) {
    let mut parts = declared.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_owned())
    });
    (essence, charset)
}

/// The extension of the last path segment, lower case; query and fragment ignored.
fn extension(uri: &str) -> Option<String> {
    let path = uri.split(['#', '?']).next().unwrap_or(uri);
    let name = path.rsplit('/').next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && extension.len() <= 10).then(|| extension.to_ascii_lowercase())
}

fn sniff(bytes: &[u8]) -> Result<MediaType, ExtractError> {
    let looks_like = looks_like(bytes);
    let text = !is_binary(bytes);
    match MediaType::from_declared(looks_like) {
        Some(media_type) => Ok(media_type),
        None if text => Ok(MediaType::PlainText),
        None => Err(ExtractError::UnsupportedMediaType {
            media_type: looks_like.to_owned(),
        }),
    }
}

fn looks_like(bytes: &[u8]) -> &'static str {
    infer::get(bytes).map_or("application/octet-stream", |kind| kind.mime_type())
}

/// Text holds no NUL byte unless it is UTF-16 or UTF-32, which without a byte order mark nobody
/// could tell from data. The first 8 KiB decide, as in Git.
fn is_binary(bytes: &[u8]) -> bool {
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    !marked && bytes[..bytes.len().min(8192)].contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(
        declared: Option<&str>,
        uri: &str,
        bytes: &[u8],
    ) -> Result<MediaType, ExtractError> {
        resolve(declared, uri, bytes).map(|resolved| resolved.media_type)
    }

    #[test]
    fn the_notice_decides_before_the_extension_and_that_before_the_bytes() {
        assert_eq!(
            resolved(Some("text/html"), "file:///a.md", b"x"),
            Ok(MediaType::Html)
        );
        assert_eq!(
            resolved(None, "file:///a.MD?x#y.pdf", b"x"),
            Ok(MediaType::Markdown)
        );
        assert_eq!(
            resolved(None, "file:///noext", b"%PDF-1.7\n"),
            Ok(MediaType::Pdf)
        );
        assert_eq!(
            resolved(None, "file:///noext", b"words"),
            Ok(MediaType::PlainText)
        );
        assert_eq!(
            resolved(None, "file:///README", b"<!DOCTYPE html><p>"),
            Ok(MediaType::Html)
        );
        assert_eq!(
            resolved(Some("application/octet-stream"), "s3://b/a.csv", b"a,b"),
            Ok(MediaType::Csv)
        );
        assert_eq!(
            resolved(Some("text/plain"), "s3://b/a.md", b"# a"),
            Ok(MediaType::Markdown)
        );
        assert_eq!(
            resolved(Some("text/x-rust"), "s3://b/a.rs", b"fn"),
            Ok(MediaType::PlainText)
        );
    }

    #[test]
    fn an_unsupported_type_is_named() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        for (declared, uri) in [(Some("image/png"), "s3://b/a"), (None, "s3://b/a.png")] {
            let error = resolved(declared, uri, png).unwrap_err();
            assert_eq!(
                error,
                ExtractError::UnsupportedMediaType {
                    media_type: "image/png".into()
                }
            );
        }
    }

    #[test]
    fn a_picture_called_text_is_not_read_as_text() {
        let error = resolved(None, "s3://b/a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap_err();
        assert_eq!(error.error_type(), "binary_content");
        assert!(error.to_string().contains("image/png"), "{error}");
    }

    #[test]
    fn the_charset_parameter_survives_quotes_and_case() {
        let resolved = resolve(Some("Text/HTML; Charset=\"GB18030\""), "s3://b/a", b"x").unwrap();
        assert_eq!(resolved.charset.as_deref(), Some("GB18030"));
    }
}
