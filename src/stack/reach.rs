//! Starting what serves while the brokers or the index may not answer yet.

use std::time::Duration;

use millrace_index::IndexError;
use millrace_joiner::StartError;
use millrace_joiner::state::StateError;
use millrace_kafka::AdminError;

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
                tracing::warn!("waiting, and trying again: {error:#}");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_AGAIN) => {}
            () = stop.first() => return Ok(None),
        }
    }
}

fn is_out_of_reach(error: &anyhow::Error) -> bool {
    let admin = error.downcast_ref::<AdminError>();
    let joiner = error.downcast_ref::<StartError>();
    let admin = admin.or(match joiner {
        Some(StartError::Admin(admin)) => Some(admin),
        _ => None,
    });
    let state = error.downcast_ref::<StateError>();
    let state = state.or(match joiner {
        Some(StartError::State(state)) => Some(state),
        _ => None,
    });
    matches!(admin, Some(AdminError::Kafka { .. }))
        || state.is_some_and(StateError::is_retryable)
        || matches!(
            error.downcast_ref::<IndexError>(),
            Some(IndexError::Unavailable { .. })
        )
}
