//! Whether a new generation may serve: pure functions of what was measured.

use millrace_ranker::evaluation::Bootstrap;
use millrace_schemas::{GateVerdict, RolloutGate};

use super::liking::Rankings;

/// What latency may always be lost, in milliseconds: less than that is noise.
const LATENCY_SLACK_MS: f64 = 20.0;
/// Fewer answers that were clicked say nothing of an order.
const MIN_ANSWERS: usize = 50;

/// How the documents of the two generations compare, after what was on its way had its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Documents that the old generation has.
    pub documents: u64,
    /// Of these, what the new one lacks.
    pub missing: u64,
    /// Of these, what the new one has at an older version.
    pub behind: u64,
    /// Documents that the new one has and the old one has not.
    pub extra: u64,
    /// One of those.
    pub example: Option<String>,
}

/// How sampled documents of the two compare: version, title, tag, and the text of each chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// Documents that were compared.
    pub sampled: u64,
    /// Of these, what differs.
    pub different: u64,
    /// Of these, what the new model's tokenizer cuts elsewhere, so that chunks can't be compared.
    pub cut_differently: u64,
    /// One that differs.
    pub example: Option<String>,
}

/// Lengths of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dimensions {
    /// What the new model makes.
    pub model: usize,
    /// What the new generation was made for.
    pub index: usize,
    /// Stored vectors that were looked at.
    pub sampled: u64,
    /// Of these, what has another length, a component that is no number, or no direction.
    pub wrong: u64,
}

/// nDCG@10 of hybrid searches, by judged query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retrieval {
    /// Query, and what it has in the old and in the new generation.
    pub queries: Vec<(String, f64, f64)>,
}

/// Milliseconds of hybrid searches, embedding included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    /// In the old generation.
    pub old_ms: Vec<f64>,
    /// In the new one.
    pub new_ms: Vec<f64>,
}

fn gate(name: &str, passed: bool, figures: String) -> RolloutGate {
    RolloutGate {
        gate: name.to_owned(),
        verdict: match passed {
            true => GateVerdict::Passed,
            false => GateVerdict::Failed,
        },
        figures,
    }
}

fn not_measured(name: &str, why: &str) -> RolloutGate {
    RolloutGate {
        gate: name.to_owned(),
        verdict: GateVerdict::NotMeasured,
        figures: why.to_owned(),
    }
}

fn such_as(example: Option<&String>) -> String {
    example.map_or_else(String::new, |uri| format!(", such as {uri}"))
}

/// Every document is there, at its version, and no other one is.
pub fn coverage(found: &Coverage) -> RolloutGate {
    let Coverage {
        documents,
        missing,
        behind,
        extra,
        example,
    } = found;
    let passed = missing + behind + extra == 0;
    let figures = format!(
        "{} of {documents} documents; {missing} missing, {behind} behind, {extra} too many{}",
        documents.saturating_sub(missing + behind),
        such_as(example.as_ref())
    );
    gate("coverage", passed, figures)
}

/// Sampled documents are the same. Where the text may change (what reads documents is another), how many
/// differ is told and decides nothing.
pub fn checksums(found: &Checksums, text_may_change: bool) -> RolloutGate {
    const NAME: &str = "checksums";
    let Checksums {
        sampled,
        different,
        cut_differently,
        example,
    } = found;
    let figures = format!(
        "{} of {sampled} sampled documents alike; {cut_differently} cut elsewhere by the new model{}",
        sampled.saturating_sub(*different),
        such_as(example.as_ref())
    );
    match text_may_change && *different > 0 {
        true => not_measured(NAME, &format!("{figures}; the text may change")),
        false => gate(NAME, *different == 0, figures),
    }
}

/// All vectors are of the new model's dimension and have a direction.
pub fn dimension(found: &Dimensions) -> RolloutGate {
    let Dimensions {
        model,
        index,
        sampled,
        wrong,
    } = found;
    let figures = format!(
        "the model makes {model}, the index has {index}; {wrong} of {sampled} sampled vectors wrong"
    );
    gate("dimension", model == index && *wrong == 0, figures)
}

/// The mean of the judged queries' nDCG@10 falls by at most `epsilon`.
pub fn retrieval(found: Option<&Retrieval>, epsilon: f64) -> RolloutGate {
    const NAME: &str = "retrieval";
    let Some(Retrieval { queries }) = found else {
        return not_measured(NAME, "no judged set was given (--judged)");
    };
    if !queries.is_empty() && queries.iter().all(|(_, old, _)| *old <= 0.0) {
        return not_measured(
            NAME,
            "the old generation finds nothing that is judged relevant: are these judgements of its documents?",
        );
    }
    not_worse(NAME, queries, "queries", epsilon)
}

/// The mean nDCG@10 of answers that were clicked, ordered by either model's cosines, falls by at most
/// `epsilon`.
pub fn ranking(found: Option<&Rankings>, epsilon: f64) -> RolloutGate {
    const NAME: &str = "ranking";
    let Some(Rankings { answers, left_out }) = found else {
        return not_measured(NAME, "this process knows no profiles of users");
    };
    if answers.len() < MIN_ANSWERS {
        return not_measured(
            NAME,
            &format!(
                "{} answers that were clicked can be ordered by both models, fewer than {MIN_ANSWERS}; {left_out} \
                 can't be",
                answers.len()
            ),
        );
    }
    not_worse(NAME, answers, "answers by cosines alone", epsilon)
}

/// Where both generations are of one model.
pub fn same_rankings() -> RolloutGate {
    not_measured("ranking", "both generations are of one model")
}

/// The mean of what is paired, by who it is of, in the old and in the new generation, falls by at most
/// `epsilon`. Its interval (95 %, resampled by who, paired) is told and decides nothing: on few it is
/// wider than any `epsilon`.
fn not_worse(
    name: &str,
    paired: &[(String, f64, f64)],
    of_what: &str,
    epsilon: f64,
) -> RolloutGate {
    let differences = paired
        .iter()
        .map(|(who, old, new)| (who.as_str(), new - old));
    let interval = match Bootstrap::default().mean_by_user(differences) {
        Ok(interval) => interval,
        Err(error) => return not_measured(name, &error.to_string()),
    };
    let mean = |of: fn(&(String, f64, f64)) -> f64| {
        paired.iter().map(of).sum::<f64>() / paired.len() as f64
    };
    let figures = format!(
        "nDCG@10 {:.4} to {:.4} on {} {of_what}: {:+.4} [{:+.4}, {:+.4}], at least {:+.4}",
        mean(|(_, old, _)| *old),
        mean(|(_, _, new)| *new),
        paired.len(),
        interval.mean,
        interval.low,
        interval.high,
        -epsilon
    );
    gate(name, interval.mean >= -epsilon, figures)
}

/// The 95th percentile is at most `factor` times the old one's, and some slack.
pub fn latency(found: &Latencies, factor: f64) -> RolloutGate {
    const NAME: &str = "latency";
    let (Some(old), Some(new)) = (p95(&found.old_ms), p95(&found.new_ms)) else {
        return not_measured(NAME, "there is nothing to search for");
    };
    let limit = old * factor + LATENCY_SLACK_MS;
    let figures = format!(
        "p95 {old:.1} ms to {new:.1} ms on {} queries, at most {limit:.1} ms",
        found.new_ms.len()
    );
    gate(NAME, new <= limit, figures)
}

fn p95(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // The nearest rank.
    let at = (sorted.len() as f64 * 0.95).ceil() as usize;
    sorted.get(at.saturating_sub(1).min(last)).copied()
}

/// Why these gates do not let the new generation serve; `None` where they do.
pub fn refusal(gates: &[RolloutGate], without_judgements: bool) -> Option<String> {
    let failed = gates
        .iter()
        .find(|gate| !matches!(gate.verdict, GateVerdict::Passed | GateVerdict::NotMeasured));
    if let Some(gate) = failed {
        return Some(format!(
            "the gate {} did not pass: {}",
            gate.gate, gate.figures
        ));
    }
    let unmeasured = gates
        .iter()
        .any(|gate| gate.gate == "retrieval" && gate.verdict == GateVerdict::NotMeasured);
    (unmeasured && !without_judgements).then(|| {
        "nobody knows whether the new model finds as well as the old one: give a judged set with \
         --judged, or say --without-judgements"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(gate: &RolloutGate) -> bool {
        gate.verdict == GateVerdict::Passed
    }

    #[test]
    fn one_document_too_few_or_too_many_is_not_covered() {
        let whole = Coverage {
            documents: 7,
            ..Coverage::default()
        };
        assert!(passes(&coverage(&whole)));
        for wrong in [
            Coverage {
                missing: 1,
                ..whole.clone()
            },
            Coverage {
                behind: 1,
                ..whole.clone()
            },
            Coverage {
                extra: 1,
                ..whole.clone()
            },
        ] {
            assert!(!passes(&coverage(&wrong)), "{wrong:?}");
        }
        let told = coverage(&Coverage {
            missing: 2,
            example: Some("file:///a".to_owned()),
            ..whole
        });
        assert!(told.figures.starts_with("5 of 7"), "{}", told.figures);
        assert!(told.figures.ends_with("file:///a"), "{}", told.figures);
    }

    #[test]
    fn what_is_cut_elsewhere_is_no_difference() {
        let found = Checksums {
            sampled: 3,
            cut_differently: 3,
            ..Checksums::default()
        };
        assert!(passes(&checksums(&found, false)));
        let found = Checksums {
            different: 1,
            ..found
        };
        assert!(!passes(&checksums(&found, false)));
        // Where the text may change nothing is refused, and nothing is said to have passed.
        let told = checksums(&found, true);
        assert_eq!(told.verdict, GateVerdict::NotMeasured);
        assert!(refusal(&[told], true).is_none());
    }

    #[test]
    fn a_dimension_of_another_model_does_not_pass() {
        let found = Dimensions {
            model: 384,
            index: 384,
            sampled: 9,
            wrong: 0,
        };
        assert!(passes(&dimension(&found)));
        assert!(!passes(&dimension(&Dimensions {
            model: 768,
            ..found
        })));
        assert!(!passes(&dimension(&Dimensions { wrong: 1, ..found })));
    }

    fn judged(differences: &[f64]) -> Retrieval {
        let query =
            |(number, difference): (usize, &f64)| (format!("q{number}"), 0.5, 0.5 + difference);
        Retrieval {
            queries: differences.iter().enumerate().map(query).collect(),
        }
    }

    #[test]
    fn the_mean_may_fall_by_epsilon_and_no_further() {
        let a_little = judged(&[-0.02, 0.0, 0.0, 0.0]);
        assert!(passes(&retrieval(Some(&a_little), 0.006)));
        assert!(!passes(&retrieval(Some(&a_little), 0.004)));
        let told = retrieval(Some(&a_little), 0.006).figures;
        assert!(
            told.contains("0.5000 to 0.4950 on 4 queries: -0.0050 ["),
            "{told}"
        );
    }

    #[test]
    fn the_95th_percentile_is_compared() {
        let old_ms: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(p95(&old_ms), Some(95.0));
        assert_eq!(p95(&[3.0]), Some(3.0));
        let times = |factor: f64| Latencies {
            old_ms: old_ms.clone(),
            new_ms: old_ms.iter().map(|ms| ms * factor).collect(),
        };
        assert!(passes(&latency(&times(1.5), 1.5)));
        assert!(!passes(&latency(&times(1.8), 1.5)));
    }

    #[test]
    fn what_is_not_measured_is_no_pass_unless_one_says_so() {
        let unjudged = retrieval(None, 0.01);
        assert_eq!(unjudged.verdict, GateVerdict::NotMeasured);
        let nothing = latency(&Latencies::default(), 1.5);
        assert_eq!(nothing.verdict, GateVerdict::NotMeasured);
        let whole = coverage(&Coverage::default());
        let gates = [whole.clone(), unjudged.clone(), nothing];
        assert!(refusal(&gates, false).is_some_and(|why| why.contains("--judged")));
        assert_eq!(refusal(&gates, true), None);
        let missing = coverage(&Coverage {
            missing: 1,
            ..Coverage::default()
        });
        let why = refusal(&[missing, unjudged], true);
        assert!(why.is_some_and(|why| why.contains("coverage")));
    }
}
