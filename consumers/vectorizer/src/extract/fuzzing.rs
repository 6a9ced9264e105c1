//! What fuzzing asks of the readers. Compiled for fuzzing and for the tests that replay the corpora.
//! PDF is fuzzed from outside, through the child process (`tests/suite/hostile.rs`): its parser is
//! known to panic and to swell, and what has to hold is that the process contains it.

use super::{
    ExtractError, ExtractedText, MediaType, charset, docx, html, media_type, read_text, tidy,
    within,
};

const MAX_TEXT_BYTES: u64 = 1 << 16;

/// Text formats that are read in the vectorizer's own process; the first byte chooses.
const READ_HERE: [MediaType; 6] = [
    MediaType::PlainText,
    MediaType::Markdown,
    MediaType::Json,
    MediaType::JsonLines,
    MediaType::Csv,
    MediaType::Tsv,
];

/// Any bytes as a text format, and any bytes' media type.
pub fn text(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    if let Ok(resolved) = media_type::resolve(None, "file:///x", bytes) {
        let argument = resolved.to_argument();
        assert_eq!(
            media_type::Resolved::from_argument(&argument),
            Some(resolved)
        );
    }
    let media_type = READ_HERE[usize::from(choice) % READ_HERE.len()];
    holds(read_text(media_type, bytes, None, MAX_TEXT_BYTES));
}

/// Any bytes as HTML, as the child process reads it.
pub fn html(bytes: &[u8]) {
    let declared = html::declared_charset(bytes);
    let read = charset::decode(bytes, declared.as_deref()).and_then(|source| {
        let extracted = html::read(&source);
        within(&extracted.text, MAX_TEXT_BYTES)?;
        Ok(extracted)
    });
    holds(read);
}

/// Any bytes as DOCX, as the child process reads it.
pub fn docx(bytes: &[u8]) {
    holds(docx::read(bytes, MAX_TEXT_BYTES));
}

/// The limit is kept, an error tells nothing of the document, and tidying once is enough.
fn holds(read: Result<ExtractedText, ExtractError>) {
    let mut extracted = match read {
        Ok(extracted) => extracted,
        Err(error) => {
            assert!(!error.is_transient(), "{error}");
            let chars = error.to_string().chars().count();
            assert!(chars <= 512, "{chars} characters of error");
            return;
        }
    };
    assert!(extracted.text.len() as u64 <= MAX_TEXT_BYTES);
    tidy(&mut extracted);
    let noise = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!extracted.text.contains(noise));
    assert_eq!(extracted.text.trim(), extracted.text);
    for line in [&extracted.title, &extracted.language]
        .into_iter()
        .flatten()
    {
        is_one_line(line);
    }
    for label in extracted.tags.iter().chain(&extracted.categories) {
        is_one_line(label);
    }
    let mut again = extracted.clone();
    tidy(&mut again);
    assert_eq!(again, extracted);
    let answer = match serde_json::to_vec(&extracted) {
        Ok(answer) => answer,
        // How a fuzz target says that something is wrong.
        Err(error) => panic!("the child cannot answer: {error}"),
    };
    assert_eq!(
        serde_json::from_slice::<ExtractedText>(&answer).ok(),
        Some(extracted)
    );
}

fn is_one_line(line: &str) {
    assert!(!line.is_empty() && line.chars().count() <= 512);
    assert!(!line.contains(char::is_control), "{line:?}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_text_formats() {
        millrace_fuzz::replay("extract_text", super::text);
    }

    #[test]
    fn the_corpus_of_html() {
        millrace_fuzz::replay("extract_html", super::html);
    }

    #[test]
    fn the_corpus_of_docx() {
        millrace_fuzz::replay("extract_docx", super::docx);
    }
}
