//! A profile is that of its user's feedback, each origin once, in the topic's order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use millrace_features::{FeatureSet, FeedbackPosition, Profile};
use millrace_kafka::{Admin, topics as names};
use millrace_profiles::{ProfileReader, profiles_group};
use millrace_schemas::{Feedback, Origin};
use millrace_state::{EmbeddedState, FIRST_GENERATION, StateStore, ValkeyState};

use super::Findings;
use super::behavior::read_all;
use crate::target::{ProfilesPlace, Target};

const APPLIED_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until all feedback is applied, and gives the topic as it then is.
pub(super) async fn until_applied(
    target: &Target,
    findings: &mut Findings,
) -> anyhow::Result<Vec<(Feedback, Origin)>> {
    let admin = Admin::connect(&target.kafka)?;
    let group = profiles_group(&target.kafka, FIRST_GENERATION);
    let topic = target.kafka.topic(names::FEEDBACK);
    let deadline = Instant::now() + APPLIED_LIMIT;
    loop {
        let partitions = admin.group_lag(&group, std::slice::from_ref(&topic)).await;
        let lag = partitions.map(|partitions| partitions.iter().map(|p| p.lag).sum::<i64>());
        if let Ok(0) = lag {
            break;
        }
        if Instant::now() >= deadline {
            findings.violation("all feedback is applied", group, format!("lag: {lag:?}"));
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    read_all(&target.kafka, names::FEEDBACK).await
}

/// Compares the profiles in `place`, whose processes have left, with those that `feedback` makes.
pub(super) async fn check(
    place: &ProfilesPlace,
    partitions: i32,
    model_version: &str,
    feedback: Vec<(Feedback, Origin)>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let reader = ProfileReader::new(open(place).await?, partitions);
    let settings = FeatureSet::default_for(model_version).profile_settings();
    let mut applied = BTreeSet::new();
    let mut expected = BTreeMap::<String, Profile>::new();
    for (feedback, at) in feedback {
        if !applied.insert(feedback.origin.clone()) {
            continue;
        }
        let user_id = &feedback.event.user_id;
        let profile = expected
            .entry(user_id.clone())
            .or_insert_with(|| Profile::new(user_id, model_version));
        profile.apply(&feedback, &settings);
        profile.stand_at(FeedbackPosition {
            partition: at.partition,
            offset: at.offset + 1,
        });
    }
    for (user_id, expected) in expected {
        let found = reader.get(&user_id).await?;
        if found.as_ref() == Some(&expected) {
            continue;
        }
        let counts = |profile: &Profile| profile.events().to_string();
        let found = found.as_ref().map_or_else(|| "none".to_owned(), counts);
        findings.violation(
            "a profile is that of its feedback, bit for bit",
            user_id,
            format!(
                "a profile of {found} events instead of {}",
                counts(&expected)
            ),
        );
    }
    Ok(())
}

async fn open(place: &ProfilesPlace) -> anyhow::Result<Arc<dyn StateStore>> {
    let context = "the profiles' state can't be opened";
    Ok(match place {
        ProfilesPlace::Folder(folder) => Arc::new(EmbeddedState::open(folder).context(context)?),
        ProfilesPlace::Valkey { config, namespace } => {
            let opened = ValkeyState::connect(config, namespace).await;
            Arc::new(opened.context(context)?)
        }
    })
}
