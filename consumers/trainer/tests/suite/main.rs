//! The trainer on recordings: RankLens, and what needs the real LightGBM.
#![allow(clippy::unwrap_used)]
