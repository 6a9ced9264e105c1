//! Bytes to characters.
//!
//! A byte order mark decides. Without one the order is: what the document or its sender declares,
//! UTF-8, a guess from the bytes. The first one that decodes without a malformed sequence wins: a
//! wrong declaration is common and must cost nothing, while text full of replacement characters
//! would be indexed as if it were the document.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

use super::ExtractError;

/// Decodes `bytes`; `declared` is a charset label of the WHATWG encoding standard, unknown labels
/// are ignored.
pub(super) fn decode<'a>(
    bytes: &'a [u8],
    declared: Option<&str>,
) -> Result<Cow<'a, str>, ExtractError> {
    let mut tried: Vec<&'static str> = Vec::new();
    let mut attempt = |encoding: &'static Encoding, bytes: &'a [u8]| {
        if tried.contains(&encoding.name()) {
            return None;
        }
        tried.push(encoding.name());
        encoding.decode_without_bom_handling_and_without_replacement(bytes)
    };
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        // A mark is no accident: where the rest does not follow it, no guess would be better.
        return attempt(encoding, &bytes[length..]).ok_or_else(|| ExtractError::UndecodableText {
            tried: encoding.name().to_owned(),
        });
    }
    let declared = declared.and_then(|label| Encoding::for_label(label.as_bytes()));
    for encoding in declared.into_iter().chain([UTF_8]) {
        if let Some(text) = attempt(encoding, bytes) {
            return Ok(text);
        }
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    if let Some(text) = attempt(detector.guess(None, Utf8Detection::Allow), bytes) {
        return Ok(text);
    }
    Err(ExtractError::UndecodableText {
        tried: tried.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GB18030, SHIFT_JIS, WINDOWS_1252};

    use super::*;

    #[test]
    fn a_wrong_declaration_is_overruled_by_the_bytes() {
        let cafe = "Le café de la gare est fermé l’été";
        assert_eq!(decode(cafe.as_bytes(), Some("gb18030x")).unwrap(), cafe);
        let (latin, ..) = WINDOWS_1252.encode(cafe);
        assert_eq!(decode(&latin, Some("utf-8")).unwrap(), cafe);
    }

    #[test]
    fn marks_declarations_and_guesses_are_tried_in_this_order() {
        assert_eq!(
            decode(b"\xef\xbb\xbfabc", Some("shift_jis")).unwrap(),
            "abc"
        );
        assert_eq!(decode(b"\xff\xfea\0b\0", None).unwrap(), "ab");
        let chinese = "机器学习是人工智能的一个分支，研究如何从数据中学习。";
        let (bytes, ..) = GB18030.encode(chinese);
        assert_eq!(decode(&bytes, Some("gb2312")).unwrap(), chinese);
        assert_eq!(decode(&bytes, None).unwrap(), chinese);
        let japanese = "これは日本語の文章です。文字コードを推定します。";
        let (bytes, ..) = SHIFT_JIS.encode(japanese);
        assert_eq!(decode(&bytes, None).unwrap(), japanese);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_what_was_tried() {
        // A lone lead byte and an odd length fit neither the mark nor anything guessed from it.
        let error = decode(b"\xff\xfe\x00\xd8\x41", Some("utf-16le")).unwrap_err();
        assert_eq!(error.error_type(), "undecodable_text");
        assert!(error.to_string().contains("UTF-16LE"), "{error}");
    }
}
