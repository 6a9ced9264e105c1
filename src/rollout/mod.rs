//! From one index generation to the next: the record of how far it is, what a new generation lacks,
//! and whether it may serve. Running it in a process is `stack/rollouts.rs`.
//!
//! ```text
//! start ─► building ─► ready ─► switching ─► switched ─► finished
//!             │          │  ▲                    │
//!             └► aborted ◄┘  └─── rolled_back ◄── rolling_back
//! ```
//! While it is open both generations are written, each by a vectorizer with a group of its own.

pub mod fill;
pub mod gates;
pub mod liking;
pub mod measure;
pub mod recent;
pub mod records;
