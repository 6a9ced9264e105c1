//! Starting what serves while the brokers, the index or the shared model store may not answer yet.

use std::time::Duration;

use millrace_index::IndexError;
use millrace_kafka::AdminError;
use millrace_model_server::FetchError;
use millrace_models::ModelError;
use millrace_retry::error_chain;
use millrace_state::StateError;

use super::stop::StopSignals;
use super::{Needs, Stack};
use crate::config::Config;
use crate::shared_store;

/// Between two attempts.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Starts the parts, as soon as what they need answers; `None` where the process was told to stop first.
///
/// # Errors
/// What waiting does not mend: the configuration, the model, an index of another model.
pub async fn start(
    config: &Config,
    needs: Needs,
    stop: &mut StopSignals,
) -> anyhow::Result<Option<Stack>> {
    tokio::select! {
        started = reached(async || Stack::start(config, needs).await) => started.map(Some),
        () = stop.first() => Ok(None),
    }
}

/// Tries again while what `attempt` needs does not answer, and says so each time.
///
/// # Errors
/// What waiting does not mend.
pub async fn reached<T>(attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        match attempt().await {
            Err(error) if is_out_of_reach(&error) => {
                tracing::warn!("waiting, and trying again: {}", error_chain(error.as_ref()));
            }
            ended => return ended,
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Wherever in the chain it is: consumers wrap what their stores said.
pub fn is_out_of_reach(error: &anyhow::Error) -> bool {
    let is_away = |cause: &(dyn std::error::Error + 'static)| {
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
                cause.downcast_ref::<FetchError>(),
                Some(FetchError::Away(_))
            )
            || matches!(
                cause.downcast_ref::<IndexError>(),
                Some(IndexError::Unavailable { .. })
            )
    };
    shared_store::is_away(error) || error.chain().any(is_away)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use millrace_model_server::RegisterError;
    use millrace_objects::ReadError;
    use millrace_vectorizer::StartError;

    use super::*;

    #[test]
    fn a_model_store_that_is_away_is_waited_for_and_one_that_refuses_is_not() {
        let met = |error: ReadError| is_out_of_reach(&anyhow::Error::from(error).context("x"));
        assert!(met(ReadError::Unavailable {
            source: "503".into()
        }));
        assert!(!met(ReadError::Denied {
            source: "403".into()
        }));
        assert!(!met(ReadError::NotFound));
        let registering = |source: FetchError| {
            let model = "m".to_owned();
            is_out_of_reach(&RegisterError::Fetch { model, source }.into())
        };
        assert!(registering(FetchError::Away("503".into())));
        assert!(!registering(FetchError::Failed("403".into())));
    }

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
