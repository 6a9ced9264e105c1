//! Where a text may be cut, found in one pass.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// A run of this many characters without a letter or digit ends a sentence. UAX #29's rule SB8
/// looks ahead across such runs from each of their characters, which is quadratic in the run.
const MAX_SEPARATOR_RUN: usize = 32;

/// Sentences of UAX #29, cut also at line feeds and long runs without letters or digits.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    blocks(text).flat_map(move |block| {
        let start = block.start;
        text[block]
            .split_sentence_bound_indices()
            .filter_map(move |(at, sentence)| {
                let range = start + at..start + at + sentence.len();
                (!sentence.trim().is_empty()).then_some(range)
            })
    })
}

/// Parts of `text` in which no run of separators is longer than [`MAX_SEPARATOR_RUN`].
fn blocks(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    let mut run = 0;
    let mut characters = text.char_indices();
    std::iter::from_fn(move || {
        for (at, c) in characters.by_ref() {
            run = if c.is_alphanumeric() { 0 } else { run + 1 };
            if c == '\n' || run == MAX_SEPARATOR_RUN {
                run = 0;
                let end = at + c.len_utf8();
                let block = start..end;
                start = end;
                return Some(block);
            }
        }
        let block = start..text.len();
        start = text.len();
        (!block.is_empty()).then_some(block)
    })
}

/// Parts of `range` of at most `max_bytes`, cut at white space where there is any.
pub(super) fn windows(
    text: &str,
    range: Range<usize>,
    max_bytes: usize,
) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = range.start;
    std::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let mut end = range.end;
        if end - start > max_bytes {
            end = text.floor_char_boundary(start + max_bytes);
            if let Some(space) = text[start..end].rfind(char::is_whitespace) {
                let after = start
                    + space
                    + text[start + space..]
                        .chars()
                        .next()
                        .map_or(1, char::len_utf8);
                if after > start {
                    end = after;
                }
            }
        }
        let window = start..end;
        start = end;
        Some(window)
    })
}
