//! What a lag means, by [Burrow's rules](https://github.com/linkedin/Burrow/wiki/Consumer-Lag-Evaluation-Rules):
//! no threshold on records, but whether the group goes on.
//!
//! Burrow looks at the commits of ten minutes. Here each look also knows for how long the next record has
//! waited, which says the same of a group that was looked at for a second only.

use std::time::Duration;

use serde::Serialize;

/// A record that waits for so long, while its group does not move, is not waiting for the next commit.
const STALLED_AFTER_SECONDS: f64 = 30.0;
/// Looks over less time can't tell a group that stands from one that commits seldom.
const STALLED_OVER: Duration = Duration::from_secs(5);
/// A lag that grows, or that nobody of the group has, is told of once its next record has waited for so long:
/// longer than it takes to hand a partition on.
const WARN_AFTER_SECONDS: f64 = 10.0;

/// A partition of a group at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    /// When, since some moment that all looks share.
    pub at: Duration,
    /// The offset that the group resumes from.
    pub current: i64,
    /// The offset that the next record gets.
    pub end: i64,
    /// The age of the next unread record in seconds, where it is known.
    pub lag_seconds: Option<f64>,
}

/// What a lag means. Ordered by how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LagStatus {
    /// It has caught up, or is catching up.
    Ok,
    /// It goes on, and falls behind; or it stood for as long as it was looked at, which was too short to say more.
    Warn,
    /// It went back: somebody reset its offsets.
    Rewind,
    /// It has the partition and does not move, though records wait.
    Stall,
    /// Records wait, and no member of the group has the partition.
    Stop,
}

impl LagStatus {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Rewind => "REWIND",
            Self::Stall => "STALL",
            Self::Stop => "STOP",
        }
    }
}

/// What is to be said of a partition after some looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Assessment {
    /// What it means.
    pub status: LagStatus,
    /// Offsets that the group goes on by a second.
    pub rate_per_second: f64,
    /// Until nothing is left at the present rates; absent where it never ends.
    pub eta_seconds: Option<f64>,
}

/// Assesses a partition by looks at it, the oldest first; `has_member` says whether one of the group has it
/// now. One look has no rate, and sees no rewind.
pub(super) fn assess(looks: &[Look], has_member: bool) -> Assessment {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else {
        return Assessment {
            status: LagStatus::Ok,
            rate_per_second: 0.0,
            eta_seconds: Some(0.0),
        };
    };
    let seconds = last.at.saturating_sub(first.at).as_secs_f64();
    let per_second = |from: i64, to: i64| {
        #[expect(
            clippy::cast_precision_loss,
            reason = "offsets moved within seconds are far below 2^52"
        )]
        let moved = (to - from) as f64;
        if seconds > 0.0 { moved / seconds } else { 0.0 }
    };
    let rate_per_second = per_second(first.current, last.current);
    let catches_up = rate_per_second - per_second(first.end, last.end);
    let lag = last.lag();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let eta_seconds = match lag {
        0 => Some(0.0),
        lag => (catches_up > 0.0).then(|| lag as f64 / catches_up),
    };
    Assessment {
        status: status(looks, first, last, has_member),
        rate_per_second,
        eta_seconds,
    }
}

fn status(looks: &[Look], first: &Look, last: &Look, has_member: bool) -> LagStatus {
    let went_back = |pair: &[Look]| pair[1].current < pair[0].current;
    if looks.windows(2).any(went_back) {
        return LagStatus::Rewind;
    }
    // That it had caught up before says nothing then.
    if !has_member && last.lag() > 0 && last.has_waited(WARN_AFTER_SECONDS) {
        return LagStatus::Stop;
    }
    if looks.iter().any(|look| look.lag() == 0) {
        return LagStatus::Ok;
    }
    if !has_member {
        return LagStatus::Stop;
    }
    if first.current == last.current {
        if !last.has_waited(STALLED_AFTER_SECONDS) {
            return LagStatus::Ok;
        }
        let is_sure = last.at.saturating_sub(first.at) >= STALLED_OVER;
        return if is_sure {
            LagStatus::Stall
        } else {
            LagStatus::Warn
        };
    }
    if last.lag() > first.lag() && last.has_waited(WARN_AFTER_SECONDS) {
        return LagStatus::Warn;
    }
    LagStatus::Ok
}

impl Look {
    fn has_waited(&self, seconds: f64) -> bool {
        self.lag_seconds.is_some_and(|waited| waited >= seconds)
    }

    fn lag(&self) -> i64 {
        self.end - self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(offsets: &[(i64, i64)], lag_seconds: f64) -> Vec<Look> {
        let at = |(second, &(current, end)): (usize, &(i64, i64))| Look {
            at: Duration::from_secs(second as u64),
            current,
            end,
            lag_seconds: Some(lag_seconds),
        };
        offsets.iter().enumerate().map(at).collect()
    }

    fn status_of(offsets: &[(i64, i64)], lag_seconds: f64, has_member: bool) -> LagStatus {
        assess(&looks(offsets, lag_seconds), has_member).status
    }

    #[test]
    fn a_group_is_judged_by_whether_it_goes_on() {
        let statuses = [
            (status_of(&[], 0.0, false), LagStatus::Ok),
            (status_of(&[(5, 5)], 0.0, false), LagStatus::Ok),
            // Once it had nothing to read.
            (status_of(&[(5, 5), (5, 90)], 60.0, true), LagStatus::Ok),
            (
                status_of(&[(5, 9), (9, 9), (9, 20)], 5.0, false),
                LagStatus::Ok,
            ),
            // Nobody has it, and records wait: that it had caught up does not help them.
            (
                status_of(&[(5, 9), (9, 9), (9, 20)], 60.0, false),
                LagStatus::Stop,
            ),
            (status_of(&[(5, 9)], 1.0, false), LagStatus::Stop),
            (status_of(&[(5, 9), (5, 9)], 1.0, true), LagStatus::Ok),
            (status_of(&[(5, 9); 6], 31.0, true), LagStatus::Stall),
            // Of one second nobody knows.
            (status_of(&[(5, 9), (5, 9)], 31.0, true), LagStatus::Warn),
            (status_of(&[(5, 9)], 31.0, true), LagStatus::Warn),
            (status_of(&[(5, 9), (6, 20)], 31.0, true), LagStatus::Warn),
            (status_of(&[(5, 9), (6, 20)], 1.0, true), LagStatus::Ok),
            (status_of(&[(5, 20), (9, 21)], 90.0, true), LagStatus::Ok),
            (
                status_of(&[(5, 9), (3, 9), (9, 9)], 0.0, true),
                LagStatus::Rewind,
            ),
        ];
        for (number, (found, expected)) in statuses.into_iter().enumerate() {
            assert_eq!(found, expected, "{number}");
        }
    }

    #[test]
    fn rate_and_time_left_are_those_of_the_looks() {
        let assessed = assess(&looks(&[(0, 100), (30, 110), (60, 120)], 5.0), true);
        assert_eq!(
            (assessed.rate_per_second, assessed.eta_seconds),
            (30.0, Some(3.0))
        );
        let falls_behind = assess(&looks(&[(0, 100), (10, 120)], 5.0), true);
        assert_eq!(falls_behind.eta_seconds, None);
        let once = assess(&looks(&[(0, 100)], 5.0), true);
        assert_eq!((once.rate_per_second, once.eta_seconds), (0.0, None));
        let done = assess(&looks(&[(0, 100), (100, 100)], 0.0), true);
        assert_eq!(done.eta_seconds, Some(0.0));
    }

    #[test]
    fn the_worst_status_is_the_greatest() {
        assert!(LagStatus::Stop > LagStatus::Stall && LagStatus::Rewind > LagStatus::Warn);
    }
}
