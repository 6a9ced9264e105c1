//! How fast something may go, as flags say it, and going so fast.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// So many a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: f64 = text
            .strip_suffix("/s")
            .unwrap_or(text)
            .trim()
            .parse()
            .map_err(|_| "expected a number a second, such as 500/s")?;
        if number.is_finite() && number > 0.0 {
            Ok(Self(number))
        } else {
            Err("expected more than 0 a second")
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl Rate {
    /// When the next one after `sent` others is due, from the first one on.
    pub fn due(self, sent: u64) -> Duration {
        Duration::try_from_secs_f64(sent as f64 / self.0).unwrap_or(Duration::MAX)
    }
}

/// Says when each of many things is due.
#[derive(Debug)]
pub struct Pacer {
    rate: Option<Rate>,
    began: Option<Instant>,
    sent: u64,
}

impl Pacer {
    /// At most at this rate; without one nothing ever waits.
    pub fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            began: None,
            sent: 0,
        }
    }

    /// When the next one is due, the first one at once; `None` where nothing is to be waited for.
    pub fn next_due(&mut self) -> Option<Instant> {
        let rate = self.rate?;
        let began = *self.began.get_or_insert_with(Instant::now);
        self.sent += 1;
        let due = began.checked_add(rate.due(self.sent - 1));
        due.filter(|due| *due > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_second() {
        assert_eq!("500/s".parse(), Ok(Rate(500.0)));
        assert_eq!("0.5".parse(), Ok(Rate(0.5)));
        for wrong in ["", "0", "-1/s", "NaN", "inf/s", "5/min"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!(Rate(200.0).due(100), Duration::from_millis(500));
        assert_eq!(Rate(2.5).to_string(), "2.5/s");
    }

    #[test]
    fn the_first_is_due_at_once_and_the_others_behind_it() {
        let mut pacer = Pacer::new(Some(Rate(0.001)));
        assert_eq!(pacer.next_due(), None);
        let second = pacer.next_due().unwrap();
        let third = pacer.next_due().unwrap();
        assert_eq!(third - second, Duration::from_secs(1_000));
        assert_eq!(Pacer::new(None).next_due(), None);
    }
}
