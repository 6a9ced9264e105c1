//! What goes wrong, on purpose.

pub mod half_append;
pub mod half_commit;
pub mod http_rules;
pub mod injector;
pub mod relay;
pub mod search_proxy;
pub mod stranger;
