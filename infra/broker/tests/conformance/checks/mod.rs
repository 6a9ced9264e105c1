//! The checks, one file a family.

pub mod admin;
pub mod groups;
pub mod records;
pub mod transactions;
