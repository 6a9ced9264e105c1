//! Why a request has no vectors or scores. Each dialect says it in its own words.

use std::time::Duration;

/// Why a request has no vectors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServeError {
    /// No input, or one without a text.
    #[error("the input is empty; give at least one text, and none of them empty")]
    Empty,
    /// A query or a text of those to rank is empty, or there is none.
    #[error("the query and the texts are not to be empty; give at least one text")]
    NothingToRank,
    /// The body is none that this route reads.
    #[error("{message}")]
    Malformed { message: String },
    /// A parameter has a value that it can't have.
    #[error("{message}")]
    Invalid {
        param: &'static str,
        message: String,
    },
    /// More inputs than a request may have.
    #[error("{found} inputs in one request, {limit} are allowed; send several requests")]
    TooManyInputs { found: usize, limit: usize },
    /// A text that is longer than the model reads, and must not be cut.
    #[error(
        "input {index} has {found} tokens, the model reads {limit}; shorten it or let it be cut"
    )]
    TooManyTokens {
        index: usize,
        found: usize,
        limit: usize,
    },
    /// As [`Self::TooManyTokens`], for a text that is not worth counting.
    #[error("input {index} has {found} bytes, {limit} are allowed; shorten it or let it be cut")]
    TooManyBytes {
        index: usize,
        found: usize,
        limit: usize,
    },
    /// More tokens than there ever is room for.
    #[error(
        "the inputs have more than the {limit} tokens that are allowed at a time; send several requests"
    )]
    TooLarge { limit: usize },
    /// The body is larger than allowed.
    #[error("the body is larger than {limit} bytes; send several requests")]
    BodyTooLarge { limit: usize },
    /// The body did not arrive whole.
    #[error("the body could not be read: {reason}")]
    BodyUnread { reason: String },
    /// A text that the model's tokenizer refuses.
    #[error("input {index} can't be tokenized: {reason}")]
    Tokenizer { index: usize, reason: String },
    /// No model of this name serves.
    #[error("no model `{name}` serves here; these do: {known}")]
    UnknownModel { name: String, known: String },
    /// The model serves, and not in this version.
    #[error("model `{name}` does not serve version `{version}`; these do: {known}")]
    UnknownVersion {
        name: String,
        version: String,
        known: String,
    },
    /// A default version, or the default model, that others stand on.
    #[error(
        "Cannot remove default version for model {name}; make another version the default first. The \
         model that answers requests without a name stays"
    )]
    DefaultStays { name: String },
    /// The model has no such prompt.
    #[error("the model has no prompt `{name}`; it has {known}")]
    UnknownPrompt { name: String, known: String },
    /// What is there already takes longer than this request has.
    #[error("more is asked than can be computed in time; come back in {} s", retry_after.as_secs())]
    Overloaded { retry_after: Duration },
    /// Its time was over before its vectors were there.
    #[error("the request's time of {} ms was over before its vectors were there", timeout.as_millis())]
    Late { timeout: Duration },
    /// Models are still being loaded, or the process is stopping.
    #[error("{reason}")]
    NotReady { reason: String },
    /// Only a cross-encoder ranks, and none is configured. TEI's words, and what to do.
    #[error("model is not a re-ranker model; name a cross-encoder in model_server.reranker")]
    NotAReranker,
    /// No token, or a wrong one.
    #[error("this call needs a token, as `Authorization: Bearer …`")]
    Unauthorised,
    /// No such route in this dialect.
    #[error("there is nothing at {path}")]
    UnknownRoute { path: String },
    /// The route has other methods.
    #[error("{path} does not take {method}")]
    Method { path: String, method: String },
    /// The encoder failed.
    #[error("the encoder failed: {reason}")]
    Encoder { reason: String },
}

impl ServeError {
    /// What `Retry-After` says, whole seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Overloaded { retry_after } => Some(retry_after.as_secs().max(1)),
            Self::Late { .. } | Self::NotReady { .. } => Some(1),
            _ => None,
        }
    }

    /// Stable name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty
            | Self::NothingToRank
            | Self::Malformed { .. }
            | Self::Invalid { .. }
            | Self::UnknownPrompt { .. }
            | Self::Tokenizer { .. }
            | Self::NotAReranker
            | Self::DefaultStays { .. }
            | Self::BodyUnread { .. } => "invalid",
            Self::TooManyInputs { .. }
            | Self::TooManyTokens { .. }
            | Self::TooManyBytes { .. }
            | Self::TooLarge { .. }
            | Self::BodyTooLarge { .. } => "too_large",
            Self::UnknownModel { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownRoute { .. }
            | Self::Method { .. } => "not_found",
            Self::Overloaded { .. } => "overloaded",
            Self::Late { .. } => "late",
            Self::NotReady { .. } => "not_ready",
            Self::Unauthorised => "unauthorised",
            Self::Encoder { .. } => "failed",
        }
    }
}
