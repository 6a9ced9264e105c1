//! The search index: one port, two adapters (OpenSearch and embedded).
