//! The commands' side of the API.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use millrace_producers::airec::AirecConfig;
use millrace_recommender::DeploymentStatus;
use millrace_recommender::http::own::{RecommendQuery, Recommendation};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::OPERATOR;
use super::control::AllowRoot;
use super::items::ItemStatsAnswer;
use super::rebuild::{RebuildAnswer, RebuildQuery};
use super::records::{DocumentHeader, HeadersQuery, Info, MAX_IDS, RecordsQuery};
use super::rollout::{FinishOrder, StartOrder, SwitchAnswer};
use super::search::{SearchAnswer, SearchQuery};
use super::sweep::{SweepAnswer, SweepQuery};
use super::users::ProfileAnswer;
use crate::audit;
use crate::stack::address::RunningAddress;
use crate::stack::rebuilding::RebuildStatus;
use crate::stack::rollouts::{Plan, RolloutStatus, SwitchOrder};

/// How long a call may take, of those that take no longer by nature.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The same where a rollout is planned, begun or switched: the model is fetched where it is not there
/// yet, and gates are measured.
const ROLLOUT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The process answered that something it needs is away.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Away(String);

/// Whether a call failed because the process, or what it needs, is away: waiting may mend that.
pub fn is_away(error: &anyhow::Error) -> bool {
    let no_answer = |cause: &reqwest::Error| !cause.is_builder() && !cause.is_decode();
    error.is::<Away>()
        || error
            .chain()
            .any(|cause| cause.downcast_ref().is_some_and(no_answer))
}

/// Speaks to a running `up`, or to this process's own stack.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    base: String,
    control_token: String,
}

impl ApiClient {
    /// A client for the process at this address.
    ///
    /// # Errors
    /// The HTTP client can't be made.
    pub fn new(address: &RunningAddress) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        if let Ok(operator) = HeaderValue::from_bytes(audit::operator().as_bytes()) {
            headers.insert(OPERATOR, operator);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            // The address is this machine's: a system proxy could only get in the way.
            .no_proxy()
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            base: address.api.clone(),
            control_token: address.control_token.clone(),
        })
    }

    /// Searches.
    pub async fn search(&self, query: &SearchQuery) -> anyhow::Result<SearchAnswer> {
        self.post("/v1/search", query).await
    }

    /// Searches with several rankings.
    pub async fn sweep(&self, query: &SweepQuery) -> anyhow::Result<SweepAnswer> {
        self.post("/v1/search/sweep", query).await
    }

    /// Looks up the header records of documents, in the order of their ids.
    pub async fn headers(&self, doc_ids: &[String]) -> anyhow::Result<Vec<Option<DocumentHeader>>> {
        let mut headers = Vec::with_capacity(doc_ids.len());
        for page in doc_ids.chunks(MAX_IDS) {
            let query = RecordsQuery {
                doc_ids: page.to_vec(),
            };
            let found: Vec<Option<DocumentHeader>> = self.post("/v1/records", &query).await?;
            headers.extend(found);
        }
        Ok(headers)
    }

    /// One page of all documents by URI, removed ones included.
    pub async fn headers_page(&self, query: &HeadersQuery) -> anyhow::Result<Vec<DocumentHeader>> {
        self.post("/v1/headers", query).await
    }

    /// Counters of an item and what they mean now.
    pub async fn item_stats(&self, item_id: &str) -> anyhow::Result<ItemStatsAnswer> {
        let url = format!("{}/v1/items/{item_id}/stats", self.base);
        self.answer(self.http.get(url)).await
    }

    /// What is known of a user.
    pub async fn profile(&self, user_id: &str, vectors: bool) -> anyhow::Result<ProfileAnswer> {
        // A user's id is anybody's text: as a segment of its own, whatever it holds.
        let mut url = reqwest::Url::parse(&self.base)?;
        url.path_segments_mut()
            .map_err(|()| anyhow!("{} is no address of an API", self.base))?
            .extend(["v1", "users", user_id, "profile"]);
        if vectors {
            url.set_query(Some("vectors=true"));
        }
        let request = self.http.get(url).bearer_auth(&self.control_token);
        self.answer(request).await
    }

    /// Items for a user.
    pub async fn recommend(
        &self,
        airec: &AirecConfig,
        query: &RecommendQuery,
    ) -> anyhow::Result<Recommendation> {
        let url = self.instance(airec, "recommend");
        self.answer(self.http.get(url).query(query)).await
    }

    /// What a rebuild of this state would read, and how the last one is.
    pub async fn rebuild_status(&self, consumer: &str) -> anyhow::Result<RebuildAnswer> {
        let request = self
            .http
            .get(format!("{}/v1/rebuild/{consumer}", self.base));
        self.answer(request.bearer_auth(&self.control_token)).await
    }

    /// Begins to build this state anew.
    pub async fn rebuild(
        &self,
        consumer: &str,
        query: RebuildQuery,
    ) -> anyhow::Result<RebuildStatus> {
        let request = self
            .http
            .post(format!("{}/v1/rebuild/{consumer}", self.base));
        let request = request.query(&query).bearer_auth(&self.control_token);
        self.answer(request).await
    }

    /// Which index generation serves, and how far another one is.
    pub async fn rollout(&self) -> anyhow::Result<RolloutStatus> {
        let request = self.http.get(format!("{}/v1/rollout", self.base));
        self.answer(request.bearer_auth(&self.control_token)).await
    }

    /// What a rollout would do.
    pub async fn plan_rollout(&self, order: &StartOrder) -> anyhow::Result<Plan> {
        self.post_within(ROLLOUT_TIMEOUT, "/v1/rollout/plan", order)
            .await
    }

    /// Begins a rollout.
    pub async fn start_rollout(&self, order: &StartOrder) -> anyhow::Result<RolloutStatus> {
        self.post_within(ROLLOUT_TIMEOUT, "/v1/rollout/start", order)
            .await
    }

    /// Has the new generation serve, or measures whether it may.
    pub async fn switch(&self, order: &SwitchOrder) -> anyhow::Result<SwitchAnswer> {
        self.post_within(ROLLOUT_TIMEOUT, "/v1/rollout/switch", order)
            .await
    }

    /// Has the old generation serve again.
    pub async fn roll_back(&self) -> anyhow::Result<RolloutStatus> {
        self.post("/v1/rollout/rollback", &serde_json::json!({}))
            .await
    }

    /// Has the new generation be the only one.
    pub async fn finish_rollout(&self, order: FinishOrder) -> anyhow::Result<RolloutStatus> {
        self.post("/v1/rollout/finish", &order).await
    }

    /// Has the old generation be the only one.
    pub async fn abort_rollout(&self) -> anyhow::Result<RolloutStatus> {
        self.post("/v1/rollout/abort", &serde_json::json!({})).await
    }

    /// Which ranker serves.
    pub async fn deployment(&self, airec: &AirecConfig) -> anyhow::Result<DeploymentStatus> {
        self.answer(self.http.get(self.instance(airec, "deploy")))
            .await
    }

    /// Deploys a ranker model.
    pub async fn deploy(
        &self,
        airec: &AirecConfig,
        version: &str,
    ) -> anyhow::Result<DeploymentStatus> {
        let body = serde_json::json!({
            "service_type": "recommendation",
            "model_version": version,
        });
        let request = self.http.post(self.instance(airec, "deploy")).json(&body);
        self.answer(request.bearer_auth(&self.control_token)).await
    }

    /// Goes back to the ranker before.
    pub async fn rollback(&self, airec: &AirecConfig) -> anyhow::Result<DeploymentStatus> {
        let request = self.http.post(self.instance(airec, "rollback"));
        self.answer(request.bearer_auth(&self.control_token)).await
    }

    /// A route of the instance; any name does where none is configured.
    fn instance(&self, airec: &AirecConfig, route: &str) -> String {
        let instance = airec.instance.as_deref().unwrap_or("default");
        format!("{}/v1/instances/{instance}/{route}", self.base)
    }

    /// What the index is and holds.
    pub async fn info(&self) -> anyhow::Result<Info> {
        self.answer(self.http.get(format!("{}/v1/info", self.base)))
            .await
    }

    /// Makes all writes so far searchable.
    pub async fn refresh(&self) -> anyhow::Result<()> {
        self.post::<_, serde_json::Value>("/v1/refresh", &serde_json::json!({}))
            .await
            .map(drop)
    }

    /// Lets the process read documents from this path.
    pub async fn allow_root(&self, path: &Path) -> anyhow::Result<()> {
        let root = AllowRoot {
            path: path.to_owned(),
        };
        self.post::<_, serde_json::Value>("/v1/roots", &root)
            .await
            .map(drop)
    }

    async fn post<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<A> {
        self.post_within(TIMEOUT, path, body).await
    }

    async fn post_within<B: Serialize, A: DeserializeOwned>(
        &self,
        timeout: Duration,
        path: &str,
        body: &B,
    ) -> anyhow::Result<A> {
        let url = format!("{}{path}", self.base);
        let request = self.http.post(url).json(body).timeout(timeout);
        self.answer(request.bearer_auth(&self.control_token)).await
    }

    async fn answer<A: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<A> {
        let response = request
            .send()
            .await
            .with_context(|| format!("no answer from {}", self.base))?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            // The token is the process's own.
            bail!(
                "the `up` at {} was started anew meanwhile; run the command again",
                self.base
            );
        }
        let body = response.bytes().await?;
        if !status.is_success() {
            let message = serde_json::from_slice::<serde_json::Value>(&body)
                .ok()
                .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
                .unwrap_or_else(|| {
                    let body = String::from_utf8_lossy(&body);
                    format!("{} answered {status}: {}", self.base, body.trim())
                });
            if status.is_server_error() {
                return Err(Away(message).into());
            }
            bail!(message);
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("unexpected answer from {}", self.base))
    }
}
