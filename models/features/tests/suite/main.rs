//! Declarations, profiles and features from outside.

#![allow(clippy::unwrap_used)]

mod computing;
mod declarations;
mod documentation;
mod profiles;
mod samples;
