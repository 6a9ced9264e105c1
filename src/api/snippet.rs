//! The part of a chunk that shows why it was found.

const SNIPPET_CHARS: usize = 240;

/// At most 240 characters of `text`, from the first sentence that holds a word
/// of the query, or from the start where none does (a hit by meaning alone).
pub fn snippet(text: &str, query: &str) -> String {
    let words: Vec<String> = query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() > 3)
        .map(str::to_lowercase)
        .collect();
    let start = sentence_starts(text)
        .find(|&(start, sentence)| {
            let lower = sentence.to_lowercase();
            start < text.len() && words.iter().any(|word| lower.contains(word.as_str()))
        })
        .map_or(0, |(start, _)| start);
    let rest = text[start..].trim_start();
    let mut snippet = String::with_capacity(SNIPPET_CHARS + 8);
    if start > 0 {
        snippet.push_str("… ");
    }
    for word in rest.split_whitespace() {
        if snippet.chars().count() + word.chars().count() + 1 > SNIPPET_CHARS {
            snippet.push('…');
            return snippet;
        }
        snippet.push_str(word);
        snippet.push(' ');
    }
    snippet.trim_end().to_owned()
}

fn sentence_starts(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split_inclusive(['.', '!', '?', '\n'])
        .map(move |sentence| {
            let at = start;
            start += sentence.len();
            (at, sentence)
        })
}

#[cfg(test)]
mod tests {
    use super::snippet;

    #[test]
    fn starts_at_the_sentence_that_answers() {
        let text = "First things first. The shark eats a boat. More follows.";
        assert_eq!(
            snippet(text, "Sharks? a shark"),
            "… The shark eats a boat. More follows."
        );
        assert_eq!(snippet(text, "submarine"), text);
    }

    #[test]
    fn is_short_whatever_the_text() {
        let text = "wörter ".repeat(500);
        let snippet = snippet(&text, "nothing");
        assert!(snippet.chars().count() <= 242 && snippet.ends_with('…'));
    }
}
