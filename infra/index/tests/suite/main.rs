//! One suite of scenarios, run by the same names against the embedded index (`embedded::…`) and a
//! real OpenSearch (`real::…`), and what concerns only one of them.

mod conformance;
mod cranfield;
mod crash;
mod embedded;
mod real;
mod sink;
