//! How fast a run went, over its time.

use std::time::{Duration, Instant};

/// Samples that are kept; beyond them every other one goes.
const MAX_SAMPLES: usize = 600;

/// Samples of how much was done when.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    every: Duration,
    /// Seconds since it began, records until then.
    samples: Vec<(f64, u64)>,
}

impl Pace {
    /// Begins now.
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            every: Duration::from_millis(250),
            samples: vec![(0.0, 0)],
        }
    }

    /// So many records are done now.
    pub fn at(&mut self, records: u64) {
        self.note(self.began.elapsed(), records);
    }

    fn note(&mut self, since: Duration, records: u64) {
        let last = self.samples.last().map_or(0.0, |(seconds, _)| *seconds);
        if since.as_secs_f64() - last < self.every.as_secs_f64() {
            return;
        }
        self.samples.push((since.as_secs_f64(), records));
        if self.samples.len() > MAX_SAMPLES {
            self.every *= 2;
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }

    /// Since it began.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Records a second, at seconds since it began.
    pub fn rates(&self) -> Vec<(f64, f64)> {
        let between = |pair: &[(f64, u64)]| {
            let ((from, before), (to, after)) = (pair[0], pair[1]);
            (to, (after - before) as f64 / (to - from).max(f64::EPSILON))
        };
        self.samples.windows(2).map(between).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_as_few_samples_as_a_short_one() {
        let mut pace = Pace::begin();
        for second in 1..=100_000_u32 {
            pace.note(Duration::from_secs(second.into()), u64::from(second) * 7);
        }
        let rates = pace.rates();
        assert!(
            rates.len() <= MAX_SAMPLES && rates.len() > 100,
            "{}",
            rates.len()
        );
        assert!(rates.iter().all(|(_, rate)| (rate - 7.0).abs() < 1e-9));
        assert!(rates.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
