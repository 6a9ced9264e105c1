//! The search pipeline by which `neural` queries to an index find by text.

use opensearch::http::Method;
use serde_json::{Value, json};

use super::definition::{MADE_HERE, pipeline, pipeline_name};
use super::{MlCommons, MlError};
use crate::{Fusion, IndexError};

const DEFAULT_PIPELINE: &str = "index.search.default_pipeline";

impl MlCommons {
    /// Makes `neural` queries to what `alias` reads embed their text by the model, where a query names no
    /// pipeline of its own. Returns the pipeline's name and the index.
    ///
    /// # Errors
    /// [`MlError::OtherModel`]; [`MlError::NotOurs`] where the index has another default pipeline.
    pub async fn answer_neural_queries(
        &self,
        alias: &str,
        model_id: &str,
        fingerprint: &str,
        fusion: Fusion,
    ) -> Result<(String, String), MlError> {
        let mapping = self.get(&format!("/{alias}/_mapping")).await?;
        let mapping = mapping.unwrap_or_default();
        let (index, mapping) = only_index(alias, &mapping)?;
        let stored = mapping["mappings"]["_meta"]["model_fingerprint"].as_str();
        let stored = stored.unwrap_or("none");
        if stored != fingerprint {
            return Err(MlError::OtherModel {
                index,
                stored: stored.to_owned(),
                served: fingerprint.to_owned(),
            });
        }
        let name = pipeline_name(&index);
        if let Some(set) = self.default_pipeline(&index).await?
            && set != name
        {
            return Err(MlError::NotOurs {
                what: format!("the search pipeline {set} of the index {index}"),
                then: "remove the setting index.search.default_pipeline there, or leave searches to it with \
                       --no-pipeline",
            });
        }
        let path = format!("/_search/pipeline/{name}");
        if let Some(stored) = self.get(&path).await?
            && !is_made_here(&stored[&name])
        {
            return Err(MlError::NotOurs {
                what: format!("the search pipeline {name}"),
                then: "remove it, or leave searches alone with --no-pipeline",
            });
        }
        let body = pipeline(model_id, fusion);
        let put = self
            .client
            .json(Method::Put, &path, &[], Some(&body))
            .await?;
        put.success()?;
        self.set_default_pipeline(&index, Some(&name)).await?;
        Ok((name, index))
    }

    /// How many documents a `neural` query by text finds: that it is answered at all is what counts.
    ///
    /// # Errors
    /// The query is refused.
    pub async fn try_neural_query(&self, alias: &str, text: &str) -> Result<u64, MlError> {
        let body = json!({
            "size": 0,
            "query": {"neural": {"vector": {"query_text": text, "k": 10}}},
        });
        let answer = self.post(&format!("/{alias}/_search"), Some(&body)).await?;
        Ok(answer["hits"]["total"]["value"].as_u64().unwrap_or(0))
    }

    /// Removes the pipelines of this model, of all generations of the index.
    pub(super) async fn forget_pipelines(
        &self,
        alias: &str,
        model_id: Option<&str>,
    ) -> Result<(), MlError> {
        let settings = self
            .get(&format!("/{alias}-*/_settings/{DEFAULT_PIPELINE}"))
            .await?;
        let settings = settings.unwrap_or_default();
        for (index, of) in settings.as_object().into_iter().flatten() {
            let name = pipeline_name(index);
            if of["settings"]["index"]["search"]["default_pipeline"] != *name {
                continue;
            }
            let path = format!("/_search/pipeline/{name}");
            let stored = self.get(&path).await?.unwrap_or_default();
            let stored = &stored[&name];
            let enricher = &stored["request_processors"][0]["neural_query_enricher"];
            if is_made_here(stored) && enricher["default_model_id"].as_str() == model_id {
                self.set_default_pipeline(index, None).await?;
                self.delete(&path).await?;
            }
        }
        Ok(())
    }

    async fn default_pipeline(&self, index: &str) -> Result<Option<String>, MlError> {
        let settings = self
            .get(&format!("/{index}/_settings/{DEFAULT_PIPELINE}"))
            .await?;
        let settings = settings.unwrap_or_default();
        let set = &settings[index]["settings"]["index"]["search"]["default_pipeline"];
        Ok(set
            .as_str()
            .filter(|name| *name != "_none")
            .map(str::to_owned))
    }

    async fn set_default_pipeline(&self, index: &str, name: Option<&str>) -> Result<(), MlError> {
        let body = json!({ DEFAULT_PIPELINE: name });
        let path = format!("/{index}/_settings");
        let put = self
            .client
            .json(Method::Put, &path, &[], Some(&body))
            .await?;
        put.success()?;
        Ok(())
    }
}

fn is_made_here(pipeline: &Value) -> bool {
    pipeline["description"] == MADE_HERE
}

/// The one index that an alias reads, and what is said of it.
fn only_index<'a>(alias: &str, answer: &'a Value) -> Result<(String, &'a Value), MlError> {
    let mut indices = answer.as_object().into_iter().flatten();
    match (indices.next(), indices.next()) {
        (Some((index, of)), None) => Ok((index.clone(), of)),
        (None, _) => Err(IndexError::NoSuchGeneration {
            name: alias.to_owned(),
        }
        .into()),
        (Some(_), Some(_)) => Err(MlError::Answer {
            what: "one index behind the alias",
            answer: alias.to_owned(),
        }),
    }
}
