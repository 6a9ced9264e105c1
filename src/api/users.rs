//! What is known of a user.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use millrace_features::{Field, Profile};
use millrace_profiles::ProfileReader;
use millrace_schemas::BehaviorKind;
use serde::{Deserialize, Serialize};

use super::{ApiError, BehaviorState};

/// Items, and values of each field, that an answer shows: those of most weight.
const SHOWN: usize = 20;

/// What to show of a profile.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileQuery {
    /// Also the vectors.
    #[serde(default)]
    pub vectors: bool,
}

/// A user, as their behavior shows them now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileAnswer {
    /// Who.
    pub user_id: String,
    /// Whether anything is known of them; all else is empty if not.
    pub known: bool,
    /// The encoder of the vectors.
    pub model_version: Option<String>,
    /// The latest event, ms since 1970.
    pub updated_at_ms: Option<i64>,
    /// How often the user did what, by kind.
    pub counts: BTreeMap<String, u64>,
    /// Items of interest, the latest first.
    pub recent: Vec<RecentItem>,
    /// Items by the interest in them, the greatest first; at most 20.
    pub heaviest: Vec<HeavyItem>,
    /// Categories, tags and key phrases by the interest in them, the greatest first; at most 20.
    pub affinities: Vec<ValueAffinity>,
    /// `[dimension]`, length 1, by name; where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<Vectors>,
}

/// An item that the user showed interest in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentItem {
    /// The document's id.
    pub item_id: String,
    /// What the user did last.
    pub kind: String,
    /// When, ms since 1970.
    pub time_ms: i64,
}

/// An item and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeavyItem {
    /// The document's id.
    pub item_id: String,
    /// Interest, a click being 1, as of the latest event.
    pub weight: f64,
}

/// What the user makes of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueAffinity {
    /// The field, such as `categories`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// Interest shown, a click being 1, less with age.
    pub interest: f32,
    /// Clicks less those expected of the exposures, less with age.
    pub residual: f32,
}

/// The vectors of a profile; absent where there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vectors {
    /// Of all interest.
    pub long_term: Option<Vec<f32>>,
    /// Of the session that is not over yet.
    pub session: Option<Vec<f32>>,
    /// Of what was clicked more often than expected.
    pub residual: Option<Vec<f32>>,
}

/// `GET /v1/users/{id}/profile`.
pub async fn profile(
    State(state): State<BehaviorState>,
    Path(user_id): Path<String>,
    query: Result<Query<ProfileQuery>, QueryRejection>,
) -> Result<Json<ProfileAnswer>, ApiError> {
    let Query(query) = query?;
    let Some(profiles) = &state.profiles else {
        return Err(ApiError::not_served_here(
            "this process reads no profiles; ask `millrace up` or `millrace run profiles`, which need \
             state.valkey.url in the cluster profile",
        ));
    };
    look_up(profiles, user_id, query).await.map(Json)
}

/// What is known of a user now.
///
/// # Errors
/// The state of profiles does not answer.
pub async fn look_up(
    profiles: &ProfileReader,
    user_id: String,
    query: ProfileQuery,
) -> Result<ProfileAnswer, ApiError> {
    let profile = profiles.get(&user_id).await;
    let profile = profile.map_err(|error| ApiError::unavailable(&error))?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    Ok(match profile {
        Some(profile) => known(user_id, &profile, query, now_ms),
        None => ProfileAnswer::unknown(user_id),
    })
}

impl ProfileAnswer {
    fn unknown(user_id: String) -> Self {
        Self {
            user_id,
            known: false,
            model_version: None,
            updated_at_ms: None,
            counts: BTreeMap::new(),
            recent: Vec::new(),
            heaviest: Vec::new(),
            affinities: Vec::new(),
            vectors: None,
        }
    }
}

fn known(user_id: String, profile: &Profile, query: ProfileQuery, now_ms: i64) -> ProfileAnswer {
    let counts = BehaviorKind::ALL
        .into_iter()
        .map(|kind| (kind.to_string(), profile.count(kind)))
        .filter(|(_, count)| *count > 0);
    let recent = profile.recent().map(|item| RecentItem {
        item_id: item.item_id.clone(),
        kind: item.kind.to_string(),
        time_ms: item.time_ms,
    });
    let heaviest = profile.heaviest().into_iter().take(SHOWN);
    let heaviest = heaviest.map(|(item_id, weight)| HeavyItem {
        item_id: item_id.to_owned(),
        weight,
    });
    let terms = profile.interest_terms(SHOWN).into_iter();
    let affinities = terms.flat_map(|value| affinities(profile, value, now_ms));
    let vectors = query.vectors.then(|| Vectors {
        long_term: profile.long_term().map(<[f32]>::to_vec),
        session: profile.session(now_ms).map(<[f32]>::to_vec),
        residual: profile.residual().map(<[f32]>::to_vec),
    });
    ProfileAnswer {
        known: true,
        model_version: Some(profile.model_version().to_owned()),
        updated_at_ms: profile.updated_at_ms(),
        counts: counts.collect(),
        recent: recent.collect(),
        heaviest: heaviest.collect(),
        affinities: affinities.take(SHOWN).collect(),
        vectors,
        user_id,
    }
}

/// Of one word, in each field that has it.
fn affinities(profile: &Profile, value: &str, now_ms: i64) -> Vec<ValueAffinity> {
    let fields = [Field::Categories, Field::Tags, Field::KeyPhrases];
    let of_field = |field: &Field| {
        let affinity = profile.affinity(field, value, now_ms)?;
        Some(ValueAffinity {
            field: field.to_string(),
            value: value.to_owned(),
            interest: affinity.interest,
            residual: affinity.residual,
        })
    };
    fields.iter().filter_map(of_field).collect()
}
