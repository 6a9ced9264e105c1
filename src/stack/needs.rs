//! Which parts are started.

use millrace_vectorizer::Outsiders;

/// Which parts a command needs besides the API.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Topics.
    pub topics: bool,
    /// The consumer that turns notices into index records.
    pub pipeline: bool,
    /// Watched folders, and notices over HTTP.
    pub uploads: bool,
    /// What the pipeline does with notices of objects that it may not read. One that ends with its
    /// command leaves them to the next `up`, whose configuration may allow them.
    pub outsiders: Outsiders,
    /// Comparisons and sweeps on a schedule.
    pub reconciler: bool,
}

impl Needs {
    /// The index and the encoder alone.
    pub const SEARCH: Self = Self {
        topics: false,
        pipeline: false,
        uploads: false,
        outsiders: Outsiders::Wait,
        reconciler: false,
    };
    /// The index and the topics, to look at.
    pub const STATUS: Self = Self {
        topics: true,
        pipeline: false,
        uploads: false,
        outsiders: Outsiders::Wait,
        reconciler: false,
    };
    /// All that takes a notice to the index.
    pub const INGEST: Self = Self {
        topics: true,
        pipeline: true,
        uploads: false,
        outsiders: Outsiders::Wait,
        reconciler: false,
    };
    /// All that there is.
    pub const UP: Self = Self {
        topics: true,
        pipeline: true,
        uploads: true,
        outsiders: Outsiders::DeadLetter,
        reconciler: true,
    };
}
