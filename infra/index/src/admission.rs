//! What no index takes, found before anything is sent: the same in both adapters.

use crate::query::vector_problem;
use crate::{Record, Rejection};

/// Longest id in bytes; the engine's own limit.
const MAX_ID_BYTES: usize = 512;

/// Why `record` can never be written to an index of `dimension`, if so.
///
/// The engine would answer some of these by refusing the whole request, which would make its
/// neighbours suffer; types and wording are the engine's where it has them.
pub(crate) fn refuse(record: &Record, dimension: usize) -> Option<Rejection> {
    let reject = |error_type: &str, cause: Option<&str>, reason: String| {
        Some(Rejection {
            error_type: error_type.to_owned(),
            cause_type: cause.map(str::to_owned),
            reason,
            status: 400,
        })
    };
    if record.id.is_empty() || record.id.len() > MAX_ID_BYTES {
        let reason = format!(
            "the id has {} bytes, allowed are 1 to {MAX_ID_BYTES}",
            record.id.len()
        );
        return reject("illegal_argument_exception", None, reason);
    }
    if record.version < 0 {
        let reason = format!("the version is {}, it must not be negative", record.version);
        return reject("illegal_argument_exception", None, reason);
    }
    if record.deleted {
        return None;
    }
    let vector = record.vector.as_deref()?;
    let reason = if vector.len() != dimension {
        format!(
            "Vector dimension mismatch. Expected: {dimension}, Given: {}",
            vector.len()
        )
    } else {
        format!("the vector {}", vector_problem(vector)?)
    };
    reject(
        "mapper_parsing_exception",
        Some("illegal_argument_exception"),
        reason,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "d#0".into(),
            vector: Some(vec![0.6, 0.8]),
            ..Record::default()
        }
    }

    #[test]
    fn a_dimension_mismatch_names_both_numbers() {
        let rejection = refuse(&record(), 384).expect("refused");
        assert_eq!(rejection.error_type, "mapper_parsing_exception");
        assert_eq!(
            rejection.cause_type.as_deref(),
            Some("illegal_argument_exception")
        );
        assert_eq!(
            rejection.reason,
            "Vector dimension mismatch. Expected: 384, Given: 2"
        );
        assert_eq!(refuse(&record(), 2), None);
    }

    #[test]
    fn unusable_ids_versions_and_vectors_are_refused() {
        let refused = |change: fn(&mut Record)| {
            let mut record = record();
            change(&mut record);
            refuse(&record, 2).expect("refused").reason
        };
        assert!(refused(|r| r.id = "x".repeat(513)).contains("513 bytes"));
        assert!(refused(|r| r.id.clear()).contains("0 bytes"));
        assert!(refused(|r| r.version = -1).contains("-1"));
        assert!(refused(|r| r.vector = Some(vec![0.0, 0.0])).contains("length zero"));
        assert!(refused(|r| r.vector = Some(vec![f32::INFINITY, 0.0])).contains("not finite"));
    }
}
