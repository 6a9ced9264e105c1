//! What an event says of a user, and what is left of it later.

use millrace_schemas::BehaviorKind;
use serde::{Deserialize, Serialize};

/// How much interest behavior shows, a click being 1. Exposures show none, and neither do ratings,
/// whose scale the upstream system alone knows.
#[must_use]
pub fn interest(kind: BehaviorKind) -> f64 {
    match kind {
        BehaviorKind::Click => 1.0,
        BehaviorKind::Stay => 0.5,
        BehaviorKind::Like | BehaviorKind::Comment | BehaviorKind::Download => 2.0,
        BehaviorKind::Collect
        | BehaviorKind::Share
        | BehaviorKind::Tip
        | BehaviorKind::Subscribe
        | BehaviorKind::Cart => 3.0,
        BehaviorKind::Buy => 5.0,
        BehaviorKind::Unlike => -1.0,
        BehaviorKind::Expose | BehaviorKind::Evaluate | BehaviorKind::Unknown => 0.0,
    }
}

/// What an event adds to sums, at their time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addition {
    pub(super) interest: f64,
    pub(super) shown: f64,
    pub(super) clicked: f64,
    pub(super) residual: f64,
    pub(super) expected_shown: f64,
    pub(super) expected_clicked: f64,
}

impl Addition {
    pub(super) fn of(kind: BehaviorKind, expected_ctr: Option<f64>) -> Self {
        let expected = expected_ctr
            .filter(|ctr| ctr.is_finite())
            .map(|ctr| ctr.clamp(0.0, 1.0));
        let one = |is: bool| if is { 1.0 } else { 0.0 };
        let (shown, clicked) = (
            one(kind == BehaviorKind::Expose),
            one(kind == BehaviorKind::Click),
        );
        let known = one(expected.is_some());
        Self {
            interest: interest(kind),
            shown,
            clicked,
            residual: known * clicked - expected.unwrap_or(0.0) * shown,
            expected_shown: known * shown,
            expected_clicked: known * clicked,
        }
    }

    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            interest: self.interest * factor,
            shown: self.shown * factor,
            clicked: self.clicked * factor,
            residual: self.residual * factor,
            expected_shown: self.expected_shown * factor,
            expected_clicked: self.expected_clicked * factor,
        }
    }
}

/// `2^(-age / half-life)`; 1 for what is not past.
pub(super) fn decay(from_ms: i64, to_ms: i64, half_life_ms: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ms of millennia")]
    let age_ms = to_ms.saturating_sub(from_ms).max(0) as f64;
    (-age_ms / half_life_ms).exp2()
}

/// Exposures and clicks, decayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trials {
    pub(super) shown: f64,
    pub(super) clicked: f64,
    /// Exposures and clicks that had an expected rate: what residuals are over.
    pub(super) expected_shown: f64,
    pub(super) expected_clicked: f64,
}

impl Trials {
    pub(super) fn add(&mut self, addition: Addition) {
        self.shown += addition.shown;
        self.clicked += addition.clicked;
        self.expected_shown += addition.expected_shown;
        self.expected_clicked += addition.expected_clicked;
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.shown *= factor;
        self.clicked *= factor;
        self.expected_shown *= factor;
        self.expected_clicked *= factor;
    }
}
