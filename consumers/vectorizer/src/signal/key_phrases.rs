//! Key phrases by RAKE: Rose, Engel, Cramer, Cowley, "Automatic keyword extraction from individual
//! documents" (2010), section 1.2.
//!
//! Candidate phrases are runs of words between stop words and punctuation. A word's score is
//! `degree / frequency`, where its degree counts the words of all candidates it occurs in; a
//! phrase scores the sum of its words. Own code because the crates for it are unmaintained or
//! carry stop lists of one language only; here words of at most two letters and the most frequent
//! ones of the text stand in where there is no list.

use std::collections::{HashMap, HashSet};

use unicode_segmentation::UnicodeSegmentation;

/// Phrases of more words than this are accidents of missing punctuation.
const MAX_WORDS: usize = 4;

/// Only this much of a text is read: the phrases of its beginning describe it, and the cost of a
/// signal must not grow with the document.
const MAX_BYTES: usize = 64 * 1024;

/// The `count` best phrases of `text`, lower case, best first; ties in order of appearance.
pub(super) fn key_phrases(text: &str, count: usize) -> Vec<String> {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let lower = text.to_lowercase();
    let candidates = candidates(&lower);
    let mut frequency: HashMap<&str, u32> = HashMap::new();
    let mut degree: HashMap<&str, u32> = HashMap::new();
    for phrase in &candidates {
        for word in phrase {
            *frequency.entry(word).or_default() += 1;
            *degree.entry(word).or_default() += u32::try_from(phrase.len()).unwrap_or(u32::MAX);
        }
    }
    let mut scored: Vec<(f64, usize, u32, &Vec<&str>)> = Vec::new();
    let mut position: HashMap<&Vec<&str>, usize> = HashMap::new();
    for phrase in &candidates {
        if let Some(at) = position.get(phrase) {
            scored[*at].2 += 1;
            continue;
        }
        let score = phrase
            .iter()
            .map(|word| f64::from(degree[word]) / f64::from(frequency[word]))
            .sum();
        position.insert(phrase, scored.len());
        scored.push((score, scored.len(), 1, phrase));
    }
    // Plain RAKE prefers whatever is longest; a phrase that comes back is likelier to be what the
    // text is about, hence the logarithm of its occurrences as a factor.
    let weight = |(score, _, times, _): &(f64, usize, u32, &Vec<&str>)| {
        score * (1.0 + f64::from(*times).ln())
    };
    scored.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.1.cmp(&b.1)));
    scored
        .into_iter()
        .take(count)
        .map(|(.., phrase)| phrase.join(" "))
        .collect()
}

fn candidates(lower: &str) -> Vec<Vec<&str>> {
    let stop_words: HashSet<&str> = STOP_WORDS.iter().copied().collect();
    let mut phrases: Vec<Vec<&str>> = vec![Vec::new()];
    for token in lower.split_word_bounds() {
        if token == " " || token == "-" {
            continue;
        }
        let is_word = token.chars().any(char::is_alphabetic) && token.len() <= 40;
        let short = token.is_ascii() && token.len() <= 2;
        match phrases.last_mut() {
            Some(open) if is_word && !short && !stop_words.contains(token) => open.push(token),
            Some(open) if !open.is_empty() => phrases.push(Vec::new()),
            _ => {}
        }
    }
    phrases.retain(|phrase| (1..=MAX_WORDS).contains(&phrase.len()));
    phrases
}

/// Function words of English, German, French, Spanish, Italian and Portuguese of three letters or
/// more: enough to cut phrases, not a linguistic resource.
const STOP_WORDS: &[&str] = &[
    "about", "above", "after", "again", "against", "all", "also", "and", "any", "are", "because",
    "been", "before", "being", "below", "between", "both", "but", "can", "could", "did", "does",
    "doing", "down", "during", "each", "few", "for", "from", "further", "had", "has", "have",
    "having", "her", "here", "hers", "him", "his", "how", "however", "into", "its", "itself",
    "just", "may", "might", "more", "most", "must", "nor", "not", "now", "off", "once", "one",
    "only", "other", "our", "out", "over", "own", "same", "shall", "she", "should", "some", "such",
    "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those",
    "through", "too", "two", "under", "until", "upon", "very", "was", "were", "what", "when",
    "where", "which", "while", "who", "whom", "why", "will", "with", "within", "without", "would",
    "you", "your", "it's", "don't", "isn't", "aber", "als", "auch", "auf", "aus", "bei", "bis",
    "das", "dass", "dem", "den", "der", "des", "die", "doch", "durch", "ein", "eine", "einem",
    "einen", "einer", "eines", "für", "hat", "ich", "ihr", "ihre", "ist", "mit", "nach", "nicht",
    "noch", "nur", "oder", "sich", "sie", "sind", "über", "und", "uns", "von", "vor", "war",
    "wenn", "werden", "wie", "wir", "wird", "zum", "zur", "avec", "aux", "ces", "cette", "comme",
    "dans", "des", "donc", "elle", "est", "été", "être", "les", "leur", "mais", "nous", "ont",
    "par", "pas", "plus", "pour", "que", "qui", "sans", "ses", "son", "sont", "sur", "une", "vous",
    "como", "con", "cuando", "del", "desde", "donde", "ella", "entre", "era", "esta", "este",
    "esto", "fue", "hasta", "las", "los", "más", "muy", "para", "pero", "por", "porque", "sin",
    "sobre", "son", "sus", "una", "uno", "unos", "unas", "che", "come", "dal", "dalla", "dei",
    "della", "delle", "gli", "nel", "nella", "non", "per", "più", "sono", "tra", "una", "com",
    "das", "dos", "ela", "ele", "foi", "mais", "mas", "não", "nas", "nos", "pela", "pelo", "são",
    "seu", "sua", "uma",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_own_example_gives_its_best_phrases() {
        let text = "Compatibility of systems of linear constraints over the set of natural numbers. \
            Criteria of compatibility of a system of linear Diophantine equations, strict inequations, \
            and nonstrict inequations are considered. Upper bounds for components of a minimal set of \
            solutions and algorithms of construction of minimal generating sets of solutions for all \
            types of systems are given. These criteria and the corresponding algorithms for constructing \
            a minimal supporting set of solutions can be used in solving all the considered types of \
            systems and systems of mixed types.";
        let phrases = key_phrases(text, 3);
        // Table 1.1 of the paper: minimal generating sets 8.7, linear diophantine equations 8.5,
        // minimal supporting set 7.7.
        assert_eq!(
            phrases,
            [
                "minimal generating sets",
                "linear diophantine equations",
                "minimal supporting set"
            ]
        );
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        assert!(key_phrases("", 5).is_empty());
        assert!(key_phrases("the of and 12 34 !!", 5).is_empty());
    }
}
