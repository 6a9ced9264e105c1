//! What `up` does once it is ready: load, replay, ask, recommend.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_joiner::{join_group, rekey_group};
use millrace_kafka::{Admin, topics};
use millrace_profiles::profiles_group;
use millrace_recommender::http::own::RecommendQuery;
use tokio::time::Instant;

use crate::api::search::SearchQuery;
use crate::commands::ingest::{ingest, source_uri};
use crate::commands::publish::behavior;
use crate::commands::{recommend, search};
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// For a recording to be joined and applied, once it is published.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is done once the parts are ready.
#[derive(Debug, clap::Args)]
pub struct Opening {
    /// Once ready, ingest what the index lacks of this file, folder or corpus.
    #[arg(long, value_name = "PATH")]
    load: Vec<String>,
    /// After loading, publish this recording of behavior as if it ended now.
    #[arg(long, value_name = "FILE")]
    replay_behavior: Option<PathBuf>,
    /// The object that an item id of the recording names, such as `films.jsonl.gz#{item}`; instead of
    /// `behavior.item_uri`.
    #[arg(long, value_name = "URI", requires = "replay_behavior")]
    item_uri: Option<String>,
    /// After loading, search for this and print the answer.
    #[arg(long, value_name = "QUERY")]
    ask: Vec<String>,
    /// After loading and replaying, recommend to this user and print the answer.
    #[arg(long, value_name = "USER")]
    recommend_to: Vec<String>,
}

impl Opening {
    /// Does it, through the process's own address, as any other process would: one way in.
    ///
    /// # Errors
    /// The first step that fails.
    pub async fn run(self, config: &Config, output: Output) -> anyhow::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let session = Session::attach_or_start(config, Needs::INGEST).await?;
        for path in &self.load {
            let uri = source_uri(path)?;
            let (summary, _) = ingest(&session, &config.objects, &[uri], true, output).await?;
            if !output.is_json() {
                output.line(&summary.text())?;
            }
        }
        if let Some(recording) = self.replay_behavior {
            let replay = behavior::Args::replay(recording, self.item_uri);
            behavior::run(replay, config.clone(), output).await?;
            settle(&session).await?;
        }
        for question in &self.ask {
            let query = SearchQuery {
                k: 3,
                ..SearchQuery::new(question)
            };
            let answer = session.api.search(&query).await?;
            output.result(&answer, || {
                format!("\n\u{201c}{question}\u{201d}\n{}", search::text(&answer))
            })?;
        }
        for user_id in self.recommend_to {
            let query = RecommendQuery {
                user_id,
                scene: None,
                count: Some(5),
                filter: None,
                explain: false,
            };
            let answer = session.api.recommend(&config.airec, &query).await?;
            output.result(&answer, || format!("\n{}", recommend::text(&answer)))?;
        }
        session.close().await;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.load.is_empty()
            && self.replay_behavior.is_none()
            && self.ask.is_empty()
            && self.recommend_to.is_empty()
    }
}

/// Waits until all behavior that is published is joined and in the profiles.
async fn settle(session: &Session) -> anyhow::Result<()> {
    let kafka = &session.kafka;
    let joiner = session.api.rebuild_status("joiner").await?.extent.new;
    let profiles = session.api.rebuild_status("profiles").await?.extent.new;
    let admin = Admin::connect(kafka)?;
    let deadline = Instant::now() + SETTLE_LIMIT;
    // In the order of the dataflow: what one has finished the next one sees.
    for (group, topic) in [
        (rekey_group(kafka), topics::BEHAVIOR),
        (join_group(kafka, joiner), topics::BEHAVIOR_BY_ITEM),
        (profiles_group(kafka, profiles), topics::FEEDBACK),
    ] {
        let topic = kafka.topic(topic);
        loop {
            let partitions = admin
                .group_lag(&group, std::slice::from_ref(&topic))
                .await
                .with_context(|| format!("can't see how far {group} is"))?;
            let lag: i64 = partitions.iter().map(|partition| partition.lag).sum();
            if lag == 0 {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{group} has not finished {topic} within {} s: {lag} records are left; `millrace lag` \
                 shows how it goes on",
                SETTLE_LIMIT.as_secs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
