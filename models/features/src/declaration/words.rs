//! Parameters of features that a file names by a word.

use crate::rates::HalfLife;

use super::Scope;

/// Something that a file names by a word.
pub(super) trait Word: Copy + PartialEq + 'static {
    const ALL: &'static [(Self, &'static str)];

    fn word(self) -> &'static str {
        let named = Self::ALL.iter().find(|(value, _)| *value == self);
        named.map_or("", |(_, word)| word)
    }
}

impl Word for HalfLife {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Hour, "hour"),
        (Self::Day, "day"),
        (Self::Week, "week"),
    ];
}

impl Word for Scope {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Item, "item"),
        (Self::User, "user"),
        (Self::Pair, "pair"),
        (Self::Request, "request"),
    ];
}

/// A kind's parameters that are words, each with its word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl Word for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $word)),*];
        }
    };
}

words! {
    /// A score that recall gave the candidate for this request.
    ScoreOf {
        /// BM25.
        Text = "text",
        /// Similarity of vectors.
        Vector = "vector",
        /// Both, weighted.
        Hybrid = "hybrid",
        /// Of its rank in the merged list.
        Rank = "rank",
    }
}

words! {
    /// A vector of the user's profile.
    ProfileVector {
        /// What they acted on, with a half-life of 30 days.
        LongTerm = "long_term",
        /// The same with a half-life of 30 minutes, missing once they paused for long.
        Session = "session",
        /// What they clicked more often than expected, less what they clicked less often.
        Residual = "residual",
    }
}

words! {
    /// How the values of an item's field make one number.
    Combine {
        /// Their mean: each value says how well the item suits.
        Mean = "mean",
        /// Their sum: each value is evidence of its own.
        Sum = "sum",
    }
}

words! {
    /// What is made of a number.
    Transform {
        /// Nothing.
        Identity = "identity",
        /// ln(1 + x), for what grows by factors; missing for x below 0.
        Log1p = "log1p",
    }
}

words! {
    /// What a user saw of an item.
    SeenOf {
        /// It was shown.
        Shown = "shown",
        /// It was clicked, liked, bought or otherwise acted on.
        Acted = "acted",
    }
}
