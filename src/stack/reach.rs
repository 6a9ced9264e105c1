//! Starting what serves while the brokers or the index may not answer yet.

use std::time::Duration;

use millrace_index::IndexError;
use millrace_kafka::AdminError;
use millrace_models::ModelError;
use millrace_retry::error_chain;
use millrace_state::StateError;

use super::stop::StopSignals;
use super::{Needs, Stack};
use crate::config::Config;

/// Between two attempts.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Starts the parts. Where brokers or index do not answer, it says so and tries again until they
/// do; `None` where the process was told to stop first.
///
/// # Errors
/// What waiting does not mend: the configuration, the model, an index of another model.
pub async fn start(
    config: &Config,
    needs: Needs,
    stop: &mut StopSignals,
) -> anyhow::Result<Option<Stack>> {
    loop {
        let attempt = tokio::select! {
            attempt = Stack::start(config, needs) => attempt,
            () = stop.first() => return Ok(None),
        };
        match attempt {
            Ok(stack) => return Ok(Some(stack)),
            Err(error) if is_out_of_reach(&error) => {
                tracing::warn!("waiting, and trying again: {}", error_chain(error.as_ref()));
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN) => {}
            () = stop.first() => return Ok(None),
        }
    }
}

/// Wherever in the chain it is: consumers wrap what their stores said.
fn is_out_of_reach(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let stateful = cause.downcast_ref::<millrace_stateful::StartError>();
        let recommender = cause.downcast_ref::<millrace_recommender::StartError>();
        let admin = match (stateful, recommender) {
            (Some(millrace_stateful::StartError::Admin(admin)), _)
            | (_, Some(millrace_recommender::StartError::Admin(admin))) => Some(admin),
            _ => cause.downcast_ref::<AdminError>(),
        };
        let state = match stateful {
            Some(millrace_stateful::StartError::State(state)) => Some(state),
            _ => cause.downcast_ref::<StateError>(),
        };
        matches!(admin, Some(AdminError::Kafka { .. }))
            || state.is_some_and(StateError::is_retryable)
            // One that answers with another model will not become the right one by itself.
            || matches!(
                cause.downcast_ref::<ModelError>(),
                Some(ModelError::Unavailable { .. })
            )
            || matches!(
                cause.downcast_ref::<IndexError>(),
                Some(IndexError::Unavailable { .. })
            )
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use millrace_vectorizer::StartError;

    use super::*;

    #[test]
    fn an_index_that_is_away_is_waited_for_whoever_met_it() {
        let away = || IndexError::Unavailable {
            what: "503".to_owned(),
            source: None,
        };
        for error in [
            anyhow::Error::from(away()).context("the index can't be used"),
            anyhow::Error::from(StartError::Index(away())),
        ] {
            assert!(is_out_of_reach(&error), "{error:?}");
        }
        let other = Err::<(), _>(IndexError::NotEnsured).context("x");
        assert!(!is_out_of_reach(&other.unwrap_err()));
    }
}
