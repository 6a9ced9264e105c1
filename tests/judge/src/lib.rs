//! The judge: is anything lost or wrong after crashes, duplicates, disorder and replays?
//!
//! ```text
//! workload ──obligations──► pipeline under test ◄──faults── schedule
//!     │ what was acknowledged    │ topics, index, signals, dead letters
//!     └──────────► verdict ◄─────┘
//! ```
//! - [`workload`] hands out versions of documents, removals, duplicates, late and disordered
//!   notices, lying clocks and poison, and notes what the pipeline acknowledged.
//! - [`schedule`] is the faults, as data drawn from a seed; [`faults`] carries them out, on the
//!   processes of a [`target`] by their pids, and on HTTP and TCP by servers and relays in this
//!   process.
//! - [`verdict`], with the faults off and all worked off, reads what there is and compares it with
//!   what was promised.
//!
//! **Promises** that a seed makes the same obligations and the same faults in the same order. When
//! each of them happens is the operating system's, so a violation may need several runs to come
//! again.
//!
//! **Leaves to others** the parts' own tests, which say where a defect is; this only says that there
//! is one. `README.md` names each safeguard of the pipeline and a change that removes it.

pub mod faults;
pub mod http_server;
pub mod object_server;
pub mod report;
pub mod run;
pub mod schedule;
pub mod target;
pub mod verdict;
pub mod workload;
