//! Generations in a cluster: what the aliases say, and moving the one that serves.

use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use opensearch::http::Method;
use serde_json::{Value, json};

use super::{OpenSearchIndex, mapping};
use crate::generations::generation_number;
use crate::{
    Generation, Generations, IndexDescription, IndexError, IndexSpec, SearchIndex, generation_name,
};

impl OpenSearchIndex {
    /// The generations of `name` behind an index expression; none where it matches nothing.
    async fn found(&self, name: &str, expression: &str) -> Result<Found, IndexError> {
        // One request tells where an alias points and by which model that was built.
        let mappings = self.get_json(&format!("/{expression}/_mapping")).await?;
        let mut found = Found::default();
        for (index, of) in mappings
            .as_ref()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            match generation_number(name, index) {
                Some(generation) => found.generations.push(read(generation, index, of)),
                None => found.others.push(index.clone()),
            }
        }
        found.generations.sort_by_key(|found| found.generation);
        Ok(found)
    }
}

/// What an index expression matches.
#[derive(Default)]
struct Found {
    generations: Vec<Generation>,
    others: Vec<String>,
}

fn read(generation: u32, index: &str, of: &Value) -> Generation {
    let stored = mapping::stored(&of["mappings"]);
    Generation {
        generation,
        index: index.to_owned(),
        dimension: stored.dimension,
        model_version: stored.model_version,
        model_fingerprint: stored.model_fingerprint,
    }
}

fn moved(name: &str, expected: &str, found: &[String]) -> IndexError {
    IndexError::AliasMoved {
        alias: name.to_owned(),
        expected: expected.to_owned(),
        found: match found {
            [] => "nothing".to_owned(),
            found => found.join(", "),
        },
    }
}

#[async_trait]
impl Generations for OpenSearchIndex {
    async fn resolve(&self, name: &str) -> Result<Option<Generation>, IndexError> {
        let Found {
            mut generations,
            others,
        } = self.found(name, name).await?;
        if others.is_empty() && generations.len() <= 1 {
            return Ok(generations.pop());
        }
        let indices = generations.into_iter().map(|found| found.index);
        let all: Vec<String> = indices.chain(others).collect();
        Err(moved(name, "one generation", &all))
    }

    async fn list(&self, name: &str) -> Result<Vec<Generation>, IndexError> {
        Ok(self.found(name, &format!("{name}-*")).await?.generations)
    }

    async fn open(&self, spec: &IndexSpec) -> Result<Arc<dyn SearchIndex>, IndexError> {
        let handle = Self {
            client: Arc::clone(&self.client),
            config: self.config.clone(),
            ensured: RwLock::default(),
        };
        handle.ensure(spec).await?;
        Ok(Arc::new(handle))
    }

    async fn look(&self, spec: &IndexSpec) -> Result<Option<IndexDescription>, IndexError> {
        spec.validate()?;
        let server_version = self.server_version().await?;
        let path = format!("/{}/_mapping", spec.index_name());
        let Some(mapping) = self.get_json(&path).await? else {
            return Ok(None);
        };
        let stored = mapping::verify(&mapping, spec)?;
        self.description(spec, &stored, server_version)
            .await
            .map(Some)
    }

    async fn swap_alias(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), IndexError> {
        let index = generation_name(name, to);
        if self
            .get_json(&format!("/{index}/_mapping"))
            .await?
            .is_none()
        {
            return Err(IndexError::NoSuchGeneration { name: index });
        }
        let expected = from.map(|from| generation_name(name, from));
        let expected_name = expected.as_deref().unwrap_or("nothing");
        let now = self.resolve(name).await?;
        if now.as_ref().map(|now| now.generation) != from {
            let now: Vec<String> = now.into_iter().map(|now| now.index).collect();
            return Err(moved(name, expected_name, &now));
        }
        let add = json!({"add": {"index": index, "alias": name, "filter": mapping::searchable()}});
        // Looked at a moment ago: `must_exist` has the server refuse the whole step where somebody
        // moved it since.
        let remove = expected.as_ref().filter(|expected| **expected != index);
        let remove = remove
            .map(|from| json!({"remove": {"index": from, "alias": name, "must_exist": true}}));
        let actions: Vec<Value> = remove.into_iter().chain([add]).collect();
        let body = json!({"actions": actions});
        let answer = self
            .client
            .json(Method::Post, "/_aliases", &[], Some(&body))
            .await?;
        let is_gone = answer
            .engine_error()
            .is_some_and(|error| error.error_type == "aliases_not_found_exception");
        if is_gone {
            let now = self.resolve(name).await?;
            let now: Vec<String> = now.into_iter().map(|now| now.index).collect();
            return Err(moved(name, expected_name, &now));
        }
        answer.success().map(|_| ())
    }

    async fn delete(&self, name: &str, generation: u32) -> Result<bool, IndexError> {
        let index = generation_name(name, generation);
        // Whatever else the alias points at, this one it must not.
        let serving = self.found(name, name).await?.generations;
        if serving.iter().any(|found| found.generation == generation) {
            return Err(IndexError::Serves { name: index });
        }
        let path = format!("/{index}");
        let answer = self.client.json(Method::Delete, &path, &[], None).await?;
        if answer.status == 404 {
            return Ok(false);
        }
        answer.success().map(|_| true)
    }
}
