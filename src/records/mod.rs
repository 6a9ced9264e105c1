//! Records of a topic as people and programs look at them, outside any group.

mod chosen;
mod decode;
mod merge;
pub mod paging;
mod place;

pub use self::chosen::{Choice, Chosen};
pub use self::decode::{Decoded, Raw, decoded, text};
pub use self::place::Place;
