//! What the last sweep over judged queries measured: beside what is deployed, so that a change of the
//! weights is answered with what it costs on this index.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::deployments::{DeployError, state_failed, write_whole};

const FILE: &str = "sweep.json";

/// Weights that are this close are the same.
const SAME_WEIGHT: f64 = 1e-4;
/// A measurement of other weights than those asked about speaks for them up to this distance.
const FURTHEST: f64 = 0.1;

/// A sweep over judged queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastSweep {
    /// When it ended, ms since 1970.
    pub swept_at_ms: i64,
    /// URI of the corpus that was searched.
    pub corpus: String,
    /// Judged queries.
    pub queries: usize,
    /// The encoder of the index: measurements say nothing of another's vectors.
    pub embedding_version: String,
    /// Weight of BM25 that was in force, and that the others are compared with.
    pub in_force: f64,
    /// What was measured, by rising weight.
    pub weights: Vec<SweptWeight>,
}

/// A weight of BM25 and how good rankings with it are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptWeight {
    /// Weight of BM25; that of the vectors is 1 less it.
    pub bm25_weight: f64,
    /// Mean over the queries.
    pub ndcg_at_10: f64,
    /// Mean difference from the weights in force, query by query.
    pub difference: f64,
    /// Bounds of its 95 % interval.
    pub ci95: [f64; 2],
}

impl LastSweep {
    /// Keeps it in the folder of deployments, in the place of the one before.
    ///
    /// # Errors
    /// The folder can't be made, or the file can't be written.
    pub fn write(&self, folder: &Path) -> Result<(), DeployError> {
        std::fs::create_dir_all(folder).map_err(|source| state_failed("create", folder, source))?;
        write_whole(&folder.join(FILE), self)
    }

    /// The one that was kept last, if any.
    ///
    /// # Errors
    /// The file can't be read, or is none that this program writes.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, DeployError> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| DeployError::BrokenSweep { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(state_failed("read", &path, source)),
        }
    }

    /// What it says of this weight of BM25, for people; nothing where no weight near it was measured.
    pub(crate) fn told_of(&self, bm25_weight: f64) -> Option<String> {
        let distance = |swept: &SweptWeight| (swept.bm25_weight - bm25_weight).abs();
        let nearest = self
            .weights
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        if distance(nearest) > FURTHEST + SAME_WEIGHT {
            return None;
        }
        let SweptWeight {
            bm25_weight: at,
            ndcg_at_10,
            difference,
            ci95: [low, high],
        } = *nearest;
        let nearest = if distance(nearest) > SAME_WEIGHT {
            ", the nearest weight that was measured"
        } else {
            ""
        };
        let verdict = if low > 0.0 {
            "a gain"
        } else if high < 0.0 {
            "a loss"
        } else {
            "which can't be told from no difference"
        };
        let day = day(self.swept_at_ms);
        Some(format!(
            "The last sweep of this index ({} judged queries of {}{day}) has nDCG@10 {ndcg_at_10:.4} at \
             {at}{nearest}: {difference:+.4} [{low:+.4}, {high:+.4}] against {}, the weight then in \
             force, {verdict}",
            self.queries, self.corpus, self.in_force
        ))
    }
}

/// `, 3 days ago`; nothing for today.
fn day(swept_at_ms: i64) -> String {
    const DAY_MS: i64 = 24 * 3_600_000;
    match crate::recommender::now_ms().saturating_sub(swept_at_ms) / DAY_MS {
        ..=0 => String::new(),
        1 => ", 1 day ago".to_owned(),
        days => format!(", {days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> LastSweep {
        let weight = |bm25_weight, difference, ci95| SweptWeight {
            bm25_weight,
            ndcg_at_10: 0.7 + difference,
            difference,
            ci95,
        };
        LastSweep {
            swept_at_ms: crate::recommender::now_ms(),
            corpus: "file:///c.jsonl".to_owned(),
            queries: 300,
            embedding_version: "m".to_owned(),
            in_force: 0.3,
            weights: vec![
                weight(0.3, 0.0, [0.0, 0.0]),
                weight(0.6, -0.02, [-0.03, -0.01]),
                weight(0.7, 0.02, [0.01, 0.03]),
                weight(0.8, -0.01, [-0.03, 0.01]),
            ],
        }
    }

    #[test]
    fn loss_gain_and_neither_are_told_with_the_measurement() {
        assert_eq!(
            sweep().told_of(0.6).unwrap(),
            "The last sweep of this index (300 judged queries of file:///c.jsonl) has nDCG@10 0.6800 at \
             0.6: -0.0200 [-0.0300, -0.0100] against 0.3, the weight then in force, a loss"
        );
        assert!(sweep().told_of(0.7).unwrap().ends_with("a gain"));
        let neither = sweep().told_of(0.84).unwrap();
        assert!(
            neither.contains("0.8, the nearest weight") && neither.ends_with("no difference"),
            "{neither}"
        );
        assert_eq!(sweep().told_of(1.0), None);
        let older = LastSweep {
            swept_at_ms: crate::recommender::now_ms() - 3 * 24 * 3_600_000,
            ..sweep()
        };
        assert!(older.told_of(0.6).unwrap().contains("3 days ago"));
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("rankers");
        assert!(LastSweep::read(&inside).unwrap().is_none());
        let kept = sweep();
        kept.write(&inside).unwrap();
        assert_eq!(LastSweep::read(&inside).unwrap(), Some(kept));
        std::fs::write(inside.join(FILE), "{").unwrap();
        assert!(matches!(
            LastSweep::read(&inside),
            Err(DeployError::BrokenSweep { .. })
        ));
    }
}
