//! Token ids as a model reads them.

/// The ids of a text, or of a pair of texts one behind the other, special ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSequence {
    /// Indexes into the vocabulary.
    pub ids: Vec<u32>,
    /// Where the second text begins; a text alone has none, and this is its length.
    pub second_from: usize,
}

/// A [`TokenSequence`] that belongs to somebody else.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// Indexes into the vocabulary.
    pub ids: &'a [u32],
    /// Where the second text begins; a text alone has none, and this is its length.
    pub second_from: usize,
}

impl TokenSequence {
    /// A text alone.
    #[must_use]
    pub fn alone(ids: Vec<u32>) -> Self {
        Self {
            second_from: ids.len(),
            ids,
        }
    }

    /// The same, lent.
    #[must_use]
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            ids: &self.ids,
            second_from: self.second_from,
        }
    }
}

impl<'a> Segments<'a> {
    /// A text alone.
    #[must_use]
    pub fn alone(ids: &'a [u32]) -> Self {
        Self {
            ids,
            second_from: ids.len(),
        }
    }
}
