//! Fetch, extract, chunk, embed, index, signal.
