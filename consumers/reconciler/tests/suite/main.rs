//! The reconciler's parts on an embedded broker and on both indexes. Whole comparisons, with the
//! pipeline that repairs, are scenarios of the binary (`tests/cli/reconcile.rs`).

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod sweeping;
