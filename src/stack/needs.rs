//! Which parts are started.

use millrace_vectorizer::Outsiders;

/// Which parts a command needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Topics.
    pub topics: bool,
    /// The index, the encoder and the API over them.
    pub search: bool,
    /// The consumer that turns notices into index records.
    pub pipeline: bool,
    /// What the pipeline does with notices of objects that it may not read. One that ends with its
    /// command leaves them to the next `up`, whose configuration may allow them.
    pub outsiders: Outsiders,
    /// The consumer that joins behavior with signals.
    pub joiner: bool,
    /// The consumer that joins answers with clicks.
    pub labeler: bool,
    /// The consumer that keeps profiles of users.
    pub profiles: bool,
    /// Reading profiles, whoever keeps them.
    pub profile_reader: bool,
    /// Recommendations; they read profiles and search.
    pub recommender: bool,
    /// Watched folders, and notices over HTTP.
    pub uploads: bool,
    /// Behavior over HTTP.
    pub collector: bool,
    /// Comparisons and sweeps on a schedule.
    pub reconciler: bool,
    /// Metrics of how far consumer groups are behind.
    pub lag: bool,
    /// A document uploaded on a schedule and searched for.
    pub canary: bool,
    /// Pages for people.
    pub console: bool,
}

impl Needs {
    /// The API with health and metrics, which a process always has.
    pub const NOTHING: Self = Self {
        topics: false,
        search: false,
        pipeline: false,
        outsiders: Outsiders::Wait,
        joiner: false,
        labeler: false,
        profiles: false,
        profile_reader: false,
        recommender: false,
        uploads: false,
        collector: false,
        reconciler: false,
        lag: false,
        canary: false,
        console: false,
    };
    /// The index and the encoder alone.
    pub const SEARCH: Self = Self {
        search: true,
        ..Self::NOTHING
    };
    /// The index and the topics, to look at.
    pub const STATUS: Self = Self {
        topics: true,
        ..Self::SEARCH
    };
    /// All that takes a notice to the index.
    pub const INGEST: Self = Self {
        pipeline: true,
        ..Self::STATUS
    };
    /// All that takes behavior to item stats.
    pub const BEHAVIOR: Self = Self {
        topics: true,
        joiner: true,
        ..Self::NOTHING
    };
    /// All that takes feedback to profiles.
    pub const FEEDBACK: Self = Self {
        topics: true,
        profiles: true,
        ..Self::NOTHING
    };
    /// What profiles are read with.
    pub const PROFILES: Self = Self {
        topics: true,
        profile_reader: true,
        ..Self::NOTHING
    };
    /// What recommends, and all that it learns from.
    pub const RECOMMEND: Self = Self {
        joiner: true,
        profiles: true,
        recommender: true,
        ..Self::STATUS
    };
    /// All that there is.
    pub const UP: Self = Self {
        outsiders: Outsiders::DeadLetter,
        joiner: true,
        labeler: true,
        profiles: true,
        recommender: true,
        uploads: true,
        collector: true,
        reconciler: true,
        lag: true,
        canary: true,
        console: true,
        ..Self::INGEST
    };

    /// Whether any consumer group gets a member.
    pub fn consumes(self) -> bool {
        self.pipeline || self.joiner || self.labeler || self.profiles
    }
}
