//! What is asked of the pipeline: obligations, drawn from a seed.
//!
//! The generator is a pure function of its seed. How many obligations are handed out before the
//! faults end, and when each is, depends on the machine.

pub mod behavior;
pub mod delivery;
pub mod ledger;
pub mod poison;

use self::behavior::Behavior;
use self::poison::Poison;

/// Of the keys of objects that come, change and go.
pub const OBJECT_PREFIX: &str = "docs/";
/// Objects of the bucket that come, change and go.
const OBJECTS: u32 = 160;
/// Documents whose content comes with the notice.
const INLINE: u32 = 24;
/// Files of the watched folder.
const FILES: u32 = 5;

const WORDS: &[&str] = &[
    "harbour",
    "lantern",
    "meadow",
    "copper",
    "violin",
    "glacier",
    "orchard",
    "satellite",
    "bridge",
    "pepper",
    "archive",
    "comet",
    "river",
    "engine",
    "paper",
    "winter",
    "island",
    "market",
];

/// One thing that the pipeline is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obligation {
    /// An object is written to the bucket, then its notices are posted.
    PutObject {
        /// Its key.
        key: String,
        /// Its content.
        text: String,
        /// How they come.
        notices: Notices,
    },
    /// An object is removed from the bucket, then its notices are posted.
    DeleteObject {
        /// Its key.
        key: String,
        /// How they come.
        notices: Notices,
    },
    /// A notice with content, published to the topic by another producer. Its version is the only
    /// truth there is.
    Inline {
        /// The document.
        uri: String,
        /// Its content, none for a removal.
        text: Option<String>,
        /// Event time against the clock, ms.
        skew_ms: i64,
        /// How often it is sent.
        copies: u32,
    },
    /// A file is written into the watched folder.
    File {
        /// Its name.
        name: String,
        /// Its content.
        text: String,
    },
    /// Something that can never be indexed.
    Poison(Poison),
    /// A user did something with a document.
    Behavior(Behavior),
}

/// How the notices of a change come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notices {
    /// For each copy: how late, ms.
    pub late_ms: Vec<u64>,
    /// Event time against the clock, ms; all copies have the same.
    pub skew_ms: i64,
    /// The event time is that of the object's notice before, as clocks of whole seconds make it.
    pub same_time: bool,
}

impl Obligation {
    /// The text of the version that it brings.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::PutObject { text, .. } | Self::File { text, .. } => Some(text),
            Self::Inline { text, .. } => text.as_deref(),
            Self::DeleteObject { .. } | Self::Poison(_) | Self::Behavior(_) => None,
        }
    }

    /// As reports count it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PutObject { .. } => "object written",
            Self::DeleteObject { .. } => "object deleted",
            Self::Inline { text: Some(_), .. } => "inline version",
            Self::Inline { text: None, .. } => "inline removal",
            Self::File { .. } => "file written",
            Self::Poison(_) => "poison",
            Self::Behavior(_) => "behavior",
        }
    }
}

/// An endless sequence of obligations.
#[derive(Clone, Debug)]
pub struct Workload {
    rng: fastrand::Rng,
    drawn: u64,
}

impl Workload {
    /// Equal seeds give equal sequences.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            drawn: 0,
        }
    }

    fn notices(&mut self) -> Notices {
        let rng = &mut self.rng;
        let copies = if rng.u32(..6) == 0 { rng.u32(2..4) } else { 1 };
        let late_ms = (0..copies)
            .map(|_| match rng.u32(..6) {
                0 => rng.u64(100..4_000),
                _ => 0,
            })
            .collect();
        // Four minutes ahead is believed, and pins the document unless the object is looked at.
        let skew_ms = match rng.u32(..12) {
            0 => rng.i64(10_000..240_000),
            1 => -rng.i64(10_000..3_600_000),
            _ => 0,
        };
        Notices {
            late_ms,
            skew_ms,
            same_time: rng.u32(..10) == 0,
        }
    }

    /// The first word is found in no other version of any document.
    fn text(&mut self) -> String {
        let rng = &mut self.rng;
        let sentences = if rng.u32(..5) == 0 {
            rng.usize(2..8)
        } else {
            1
        };
        let mut text = format!("unique{}mark", self.drawn);
        for sentence in 0..sentences {
            for _ in 0..rng.usize(4..9) {
                text.push(' ');
                text.push_str(WORDS[rng.usize(..WORDS.len())]);
            }
            text.push('.');
            if sentence + 1 < sentences {
                text.push_str(" The");
            }
        }
        text
    }

    fn object_key(&mut self) -> String {
        format!("{OBJECT_PREFIX}{}.txt", self.rng.u32(..OBJECTS))
    }

    fn inline(&mut self) -> Obligation {
        let removal = self.rng.u32(..7) == 0;
        let text = (!removal).then(|| self.text());
        let rng = &mut self.rng;
        // Far enough back to be older than what is there already.
        let skew_ms = match rng.u32(..6) {
            0 | 1 => -rng.i64(0..20_000),
            2 => rng.i64(0..5_000),
            _ => 0,
        };
        Obligation::Inline {
            uri: inline_uri(rng.u32(..INLINE)),
            text,
            skew_ms,
            copies: if rng.u32(..8) == 0 { 2 } else { 1 },
        }
    }
}

impl Iterator for Workload {
    type Item = Obligation;

    fn next(&mut self) -> Option<Obligation> {
        self.drawn += 1;
        Some(match self.rng.u32(..100) {
            0..36 => Obligation::PutObject {
                key: self.object_key(),
                text: self.text(),
                notices: self.notices(),
            },
            36..44 => Obligation::DeleteObject {
                key: self.object_key(),
                notices: self.notices(),
            },
            44..68 => self.inline(),
            68..90 => {
                let uri = match self.rng.bool() {
                    true => delivery::object_uri(&self.object_key()),
                    false => inline_uri(self.rng.u32(..INLINE)),
                };
                Obligation::Behavior(Behavior::draw(&mut self.rng, self.drawn, uri))
            }
            90..93 => Obligation::File {
                name: format!("{}.txt", self.rng.u32(..FILES)),
                text: self.text(),
            },
            _ => Obligation::Poison(Poison::draw(&mut self.rng, self.drawn)),
        })
    }
}

/// A record of a larger object: nothing but its notices tells of it.
fn inline_uri(number: u32) -> String {
    format!("s3://{}/lines.jsonl#{number}", crate::object_server::BUCKET)
}

/// The word by which a version is found.
#[must_use]
pub fn mark(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_with_every_kind() {
        let drawn = |seed| Workload::new(seed).take(2_000).collect::<Vec<_>>();
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        let kinds: std::collections::BTreeSet<_> = drawn(3).iter().map(Obligation::kind).collect();
        assert_eq!(kinds.len(), 7);
    }

    #[test]
    fn every_version_has_a_word_of_its_own() {
        let mut marks = std::collections::HashSet::new();
        for obligation in Workload::new(1).take(2_000) {
            if let Obligation::PutObject { text, .. } | Obligation::File { text, .. } = obligation {
                assert!(marks.insert(mark(&text).to_owned()), "{text}");
            }
        }
    }
}
