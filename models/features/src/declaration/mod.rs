//! Features as they are declared in configuration: Metarank's name, type, scope, refresh and ttl.

mod words;
mod written;

use millrace_schemas::BehaviorKind;
use serde::{Deserialize, Serialize};

use crate::field::{Field, MAX_VALUE_BYTES};
use crate::profile::RECENT_ITEMS;
use crate::rates::HalfLife;

use words::Word;
pub use words::{Combine, ProfileVector, ScoreOf, SeenOf, Transform};
use written::Written;

/// Longest name of a feature, bytes.
const MAX_NAME_BYTES: usize = 64;
const MAX_REFRESH_SECONDS: u64 = 7 * 24 * 60 * 60;
const MAX_TTL_DAYS: u32 = 3_650;

/// One column of a feature row.
///
/// ```toml
/// [[features]]
/// name = "clicks_24h"
/// kind = "count"
/// event = "click"
/// half_life = "day"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct FeatureDeclaration {
    /// ASCII letters, digits, `_`, `-`, `.`: LightGBM's model files take no others.
    pub name: String,
    /// What is computed.
    pub kind: FeatureKind,
    /// What the value is about; a kind has one scope. Default: the kind's.
    pub scope: Scope,
    /// The time that the value is read for is rounded down to it, so that it stays the same in
    /// between. Default: the request's own time.
    pub refresh_seconds: Option<u64>,
    /// The value is missing where nothing was seen of the item, or of the user, for so long.
    /// Default: never.
    pub ttl_days: Option<u32>,
}

/// What a value is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The candidate, whoever asks.
    Item,
    /// The user: the same for all candidates of a request.
    User,
    /// The user and the candidate.
    Pair,
    /// The request and the candidate: what recall scored.
    Request,
}

/// What is computed; `docs/features.md` has each kind with its formula.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// A score of recall.
    Score {
        /// Which.
        of: ScoreOf,
    },
    /// Cosine of the item's vector with one of the user's.
    Cosine {
        /// Which.
        with: ProfileVector,
    },
    /// The item's vector times the sum of the user's residuals, over their number and a prior.
    ResidualVector,
    /// Greatest cosine of the item's vector with those of the user's last items.
    MaxCosine {
        /// How many, 1 to 50.
        last: usize,
    },
    /// How often the event happened to the item, decayed.
    Count {
        /// The event.
        event: BehaviorKind,
        /// After how long it weighs half.
        half_life: HalfLife,
    },
    /// The item's click-through rate, smoothed by that of all items.
    Ctr {
        /// After how long an event weighs half.
        half_life: HalfLife,
    },
    /// The item's clicks over those expected at its positions.
    Coec,
    /// The last hour's rate of the event over the last day's.
    Velocity {
        /// The event.
        event: BehaviorKind,
    },
    /// The share of the user's interest that the item's values have.
    Affinity {
        /// The values' field.
        field: Field,
        /// Over the item's values.
        combine: Combine,
    },
    /// How much more often than expected the user clicked what has the item's values.
    ResidualAffinity {
        /// The values' field.
        field: Field,
        /// Over the item's values.
        combine: Combine,
    },
    /// Hours since the item was published.
    Age,
    /// A number among the item's metadata.
    Number {
        /// `metadata.KEY`.
        field: Field,
        /// What is made of it.
        transform: Transform,
    },
    /// A number among what the upstream system says of the user.
    UserNumber {
        /// The key among the user's fields.
        user_field: String,
        /// What is made of it.
        transform: Transform,
    },
    /// The share of the item's values that are among the user's own.
    UserMatch {
        /// The key among the user's fields.
        user_field: String,
        /// The item's values' field.
        field: Field,
    },
    /// How often the user did this.
    UserCount {
        /// What.
        event: BehaviorKind,
    },
    /// The user's click-through rate, smoothed by that of all items.
    UserCtr,
    /// How often the item was shown to the user, or acted on by them.
    Seen {
        /// Which of both.
        of: SeenOf,
    },
}

/// A declaration that cannot be computed; each message names the feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// The name would not survive a model file.
    #[error("feature name `{name}` is not 1 to 64 ASCII letters, digits, `_`, `-` or `.`")]
    Name {
        /// As declared, its start.
        name: String,
    },
    /// There is no such kind.
    #[error("feature `{name}`: unknown kind `{kind}`; known: {known}")]
    UnknownKind {
        /// The feature.
        name: String,
        /// As declared.
        kind: String,
        /// The kinds there are.
        known: String,
    },
    /// The kind needs a parameter that is not there.
    #[error("feature `{name}`: kind `{kind}` needs `{parameter}`")]
    Needs {
        /// The feature.
        name: String,
        /// Its kind.
        kind: &'static str,
        /// What is missing.
        parameter: &'static str,
    },
    /// The kind has no such parameter.
    #[error("feature `{name}`: kind `{kind}` takes no `{parameter}`; it takes: {takes}")]
    TakesNo {
        /// The feature.
        name: String,
        /// Its kind.
        kind: &'static str,
        /// What it does not take.
        parameter: &'static str,
        /// What it takes.
        takes: String,
    },
    /// A parameter has a value that makes no sense.
    #[error("feature `{name}`: {parameter} = `{found}`; {rule}")]
    Value {
        /// The feature.
        name: String,
        /// The parameter.
        parameter: &'static str,
        /// As declared.
        found: String,
        /// What it must be.
        rule: String,
    },
    /// Two features have one name.
    #[error("feature `{name}` is declared twice")]
    Twice {
        /// The feature.
        name: String,
    },
    /// No feature, or more than a row takes.
    #[error("{count} features are declared; 1 to {most} make a row")]
    Count {
        /// How many.
        count: usize,
        /// Most.
        most: usize,
    },
}

impl FeatureKind {
    /// The name in declarations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Score { .. } => "score",
            Self::Cosine { .. } => "cosine",
            Self::ResidualVector => "residual_vector",
            Self::MaxCosine { .. } => "max_cosine",
            Self::Count { .. } => "count",
            Self::Ctr { .. } => "ctr",
            Self::Coec => "coec",
            Self::Velocity { .. } => "velocity",
            Self::Affinity { .. } => "affinity",
            Self::ResidualAffinity { .. } => "residual_affinity",
            Self::Age => "age",
            Self::Number { .. } => "number",
            Self::UserNumber { .. } => "user_number",
            Self::UserMatch { .. } => "user_match",
            Self::UserCount { .. } => "user_count",
            Self::UserCtr => "user_ctr",
            Self::Seen { .. } => "seen",
        }
    }

    /// What a value of this kind is about.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Score { .. } => Scope::Request,
            Self::Count { .. }
            | Self::Ctr { .. }
            | Self::Coec
            | Self::Velocity { .. }
            | Self::Age
            | Self::Number { .. } => Scope::Item,
            Self::UserNumber { .. } | Self::UserCount { .. } | Self::UserCtr => Scope::User,
            Self::Cosine { .. }
            | Self::ResidualVector
            | Self::MaxCosine { .. }
            | Self::Affinity { .. }
            | Self::ResidualAffinity { .. }
            | Self::UserMatch { .. }
            | Self::Seen { .. } => Scope::Pair,
        }
    }

    /// Whether the value stands for evidence that grows old.
    fn expires(&self) -> bool {
        !self.is_timeless() && *self != Self::Age
    }

    /// Whether the value is the same at all times.
    fn is_timeless(&self) -> bool {
        matches!(
            self,
            Self::Score { .. }
                | Self::Number { .. }
                | Self::UserNumber { .. }
                | Self::UserMatch { .. }
        )
    }

    /// Whether it reads what the upstream system says of users.
    pub(crate) fn reads_user_fields(&self) -> bool {
        matches!(self, Self::UserNumber { .. } | Self::UserMatch { .. })
    }
}

impl FeatureDeclaration {
    /// A declaration of this kind, with its scope, at the request's time, never expiring.
    #[must_use]
    pub fn new(name: &str, kind: FeatureKind) -> Self {
        Self {
            name: name.to_owned(),
            scope: kind.scope(),
            kind,
            refresh_seconds: None,
            ttl_days: None,
        }
    }

    /// What no type can hold.
    pub(crate) fn check(&self) -> Result<(), DeclarationError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let length = 1..=MAX_NAME_BYTES;
        if !length.contains(&self.name.len()) || !self.name.chars().all(allowed) {
            return Err(DeclarationError::Name {
                name: start(&self.name),
            });
        }
        let value = |parameter, found: &dyn ToString, rule: &str| DeclarationError::Value {
            name: self.name.clone(),
            parameter,
            found: start(&found.to_string()),
            rule: rule.to_owned(),
        };
        let scope = self.kind.scope();
        if self.scope != scope {
            let rule = format!("kind `{}` is about {}", self.kind.name(), scope.word());
            return Err(value("scope", &self.scope.word(), &rule));
        }
        match &self.kind {
            FeatureKind::MaxCosine { last } if !(1..=RECENT_ITEMS).contains(last) => {
                let rule = format!("1 to {RECENT_ITEMS} items are kept");
                return Err(value("last", last, &rule));
            }
            FeatureKind::Number { field, .. } if !matches!(field, Field::Metadata(_)) => {
                return Err(value("field", field, "numbers are in `metadata.KEY`"));
            }
            FeatureKind::UserNumber { user_field, .. }
            | FeatureKind::UserMatch { user_field, .. }
                if !(1..=MAX_VALUE_BYTES).contains(&user_field.len()) =>
            {
                let rule = format!("a key of users' fields has 1 to {MAX_VALUE_BYTES} bytes");
                return Err(value("user_field", user_field, &rule));
            }
            FeatureKind::Count { event, .. }
            | FeatureKind::Velocity { event }
            | FeatureKind::UserCount { event }
                if *event == BehaviorKind::Unknown =>
            {
                return Err(value("event", event, "not a kind of behavior"));
            }
            _ => {}
        }
        if let Some(seconds) = self.refresh_seconds {
            if self.kind.is_timeless() {
                return Err(value(
                    "refresh_seconds",
                    &seconds,
                    "the value does not depend on time",
                ));
            }
            if !(1..=MAX_REFRESH_SECONDS).contains(&seconds) {
                return Err(value(
                    "refresh_seconds",
                    &seconds,
                    "1 second to 7 days (604800)",
                ));
            }
        }
        if let Some(days) = self.ttl_days {
            if !self.kind.expires() {
                return Err(value("ttl_days", &days, "the value does not expire"));
            }
            if !(1..=MAX_TTL_DAYS).contains(&days) {
                return Err(value("ttl_days", &days, "1 to 3650 days"));
            }
        }
        Ok(())
    }
}

/// Enough of a text to find it by: an error is no place for a megabyte.
fn start(text: &str) -> String {
    text.chars().take(80).collect()
}
