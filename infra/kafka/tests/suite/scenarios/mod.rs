//! What the client must do on any broker.

pub mod administering;
pub mod consuming;
pub mod dead_letters;
pub mod lag;
pub mod positions_of_the_caller;
pub mod producing;
pub mod rebalancing;
pub mod redriving;
pub mod replaying;
