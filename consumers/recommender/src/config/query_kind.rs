//! What a query looks like before it is searched: how many words it has, and whether it holds digits or
//! quotation marks, which want exact words.
//!
//! Few kinds with a weight each, instead of a regression: some hundred judged queries, which `millrace sweep`
//! learns the weights from, are too few for more.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a query looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryKind {
    /// Up to three words.
    Short,
    /// Four to eight words.
    Medium,
    /// Nine words or more.
    Long,
    /// Up to three words, a digit or a quotation mark among them.
    ShortLiteral,
    /// Four to eight, likewise.
    MediumLiteral,
    /// Nine or more, likewise.
    LongLiteral,
}

impl QueryKind {
    /// That of a query; words are what white space separates.
    #[must_use]
    pub fn of(query: &str) -> Self {
        let is_mark = |c: char| c.is_numeric() || matches!(c, '"' | '“' | '”' | '«' | '»');
        let is_literal = query.contains(is_mark);
        match (query.split_whitespace().count(), is_literal) {
            (0..=3, false) => Self::Short,
            (0..=3, true) => Self::ShortLiteral,
            (4..=8, false) => Self::Medium,
            (4..=8, true) => Self::MediumLiteral,
            (9.., false) => Self::Long,
            (9.., true) => Self::LongLiteral,
        }
    }
}

impl fmt::Display for QueryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "1–3 words",
            Self::Medium => "4–8 words",
            Self::Long => "9 words or more",
            Self::ShortLiteral => "1–3 words, digits or quotes",
            Self::MediumLiteral => "4–8 words, digits or quotes",
            Self::LongLiteral => "9 words or more, digits or quotes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_s_kind_is_what_it_looks_like() {
        for (query, kind) in [
            ("part 48151", QueryKind::ShortLiteral),
            ("who said “cogito ergo sum” first", QueryKind::MediumLiteral),
            ("bridges", QueryKind::Short),
            ("", QueryKind::Short),
            ("a b c d", QueryKind::Medium),
            ("a b c d e f g h i", QueryKind::Long),
            ("a b c d e f g h 9", QueryKind::LongLiteral),
        ] {
            assert_eq!(QueryKind::of(query), kind, "{query:?}");
        }
    }
}
