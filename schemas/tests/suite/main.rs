//! The crate from outside: compatibility of its schemas, framing, identity.

#![allow(clippy::unwrap_used)]

mod compatibility;
mod framing;
mod identity;
