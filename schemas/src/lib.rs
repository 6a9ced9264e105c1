//! Topic schemas, their Rust types, framing, event headers, document identity and version.
