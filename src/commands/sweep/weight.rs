//! Weights of BM25 that are tried: which, and how they are written.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::commands::search::parse_weight;

/// Parts of a weight: what is finer than this is the same weight.
const PARTS: f64 = 10_000.0;
/// Least distance of two weights that are tried.
const LEAST_STEP: u16 = 100;

/// A weight of BM25 in ten-thousandths, so that equal weights are equal however they were computed; that
/// of the vectors is 1 less it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

impl Weight {
    /// The nearest weight; none where the number is not in 0 to 1.
    pub fn nearest(weight: f64) -> Option<Self> {
        // At most 10,000.
        (0.0..=1.0)
            .contains(&weight)
            .then(|| Self((weight * PARTS).round() as u16))
    }

    /// As a number, 0 to 1.
    pub fn value(self) -> f64 {
        f64::from(self.0) / PARTS
    }

    /// How far another is from it.
    pub fn distance(self, other: Self) -> u16 {
        self.0.abs_diff(other.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())
    }
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_weight(text)?;
        let exact: f64 = text
            .parse()
            .map_err(|_| "a weight is a number".to_owned())?;
        let weight = Self::nearest(exact).ok_or("a weight lies in 0 to 1")?;
        if (weight.value() - exact).abs() > 1e-9 {
            return Err("a weight has four decimals at most".to_owned());
        }
        Ok(weight)
    }
}

/// The first weight and the last one that may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightSpan {
    first: Weight,
    last: Weight,
}

impl WeightSpan {
    /// All weights there are.
    pub const ALL: Self = Self {
        first: Weight(0),
        last: Weight(10_000),
    };
}

impl FromStr for WeightSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text
            .split_once("..")
            .ok_or("expected the first and the last weight, such as 0..1 or 0.2..0.6")?;
        let (first, last) = (first.parse::<Weight>()?, last.parse::<Weight>()?);
        if first > last {
            return Err(format!("{first} is greater than {last}"));
        }
        Ok(Self { first, last })
    }
}

/// How far two weights are apart that are tried one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step(u16);

impl Default for Step {
    fn default() -> Self {
        Self(1_000)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<Weight>() {
            Ok(Weight(step)) if step >= LEAST_STEP => Ok(Self(step)),
            _ => Err("a step lies in 0.01 to 1 and has four decimals at most".to_owned()),
        }
    }
}

/// The weights of a span in steps, rising, and `in_force` among them.
pub fn grid(span: WeightSpan, Step(step): Step, in_force: Weight) -> BTreeSet<Weight> {
    let weights = (span.first.0..=span.last.0).step_by(usize::from(step));
    weights.map(Weight).chain([in_force]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(value: f64) -> Weight {
        Weight::nearest(value).unwrap()
    }

    #[test]
    fn a_grid_has_its_ends_and_what_is_in_force() {
        let values = |span: &str, step: &str, in_force| -> Vec<f64> {
            let grid = grid(
                span.parse().unwrap(),
                step.parse().unwrap(),
                weight(in_force),
            );
            grid.into_iter().map(Weight::value).collect()
        };
        assert_eq!(values("0..1", ".25", 0.3), [0.0, 0.25, 0.3, 0.5, 0.75, 1.0]);
        assert_eq!(values("0.2..0.4", "0.1", 0.3), [0.2, 0.3, 0.4]);
        assert_eq!(values("0.5..0.5", "1", 0.3), [0.3, 0.5]);
        assert_eq!(
            grid(WeightSpan::ALL, Step::default(), weight(0.3)).len(),
            11
        );
        assert_eq!(
            grid(WeightSpan::ALL, Step(LEAST_STEP), weight(0.333)).len(),
            102
        );
        // As it is logged: widened from 32 bits.
        assert_eq!(weight(f64::from(0.1_f32)), weight(0.1));
    }

    #[test]
    fn what_is_no_weight_span_or_step_is_refused() {
        for wrong in [
            "",
            "0.5",
            "0..2",
            "-0.1..1",
            "0.6..0.2",
            "a..b",
            "0..NaN",
            "0...5.",
            "0..0.12345",
        ] {
            assert!(wrong.parse::<WeightSpan>().is_err(), "{wrong}");
        }
        for wrong in ["0", "-1", "0.001", "1.5", "NaN", "x", ""] {
            assert!(wrong.parse::<Step>().is_err(), "{wrong}");
        }
        assert_eq!("0..1".parse::<WeightSpan>(), Ok(WeightSpan::ALL));
        assert_eq!(Weight::nearest(f64::NAN), None);
        assert_eq!(weight(0.3).to_string(), "0.3");
    }
}
