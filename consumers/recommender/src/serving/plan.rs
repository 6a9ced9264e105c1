//! How one request is answered: its scene, the pipeline that is its user's, what is drawn for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_ranker::Ranker;

use crate::answer::{Bucket, DrawnWeights, Source};
use crate::chance;
use crate::config::{PipelineConfig, RankerChoice, RecommenderConfig, SceneConfig, SourceConfig};
use crate::deployments::Deployments;
use crate::request::RequestError;

/// What a list is made of for a user of whom nothing is known, or where nothing else is left.
pub(super) const FALLBACK_SOURCES: [Source; 2] = [Source::Trending, Source::Fresh];

/// Items near to given ones for each place: few, since what is far from them is not like them, however
/// well it suits the user.
const RELATED_PER_PLACE: usize = 2;

/// How one request is answered.
pub(super) struct Plan {
    pub scene_name: String,
    pub scene: SceneConfig,
    pub pipeline_name: String,
    pub pipeline: PipelineConfig,
    pub bucket: Option<Bucket>,
    pub weights: DrawnWeights,
    pub ranker: Arc<Ranker>,
}

impl Plan {
    /// By the scene, the user's bucket and the instance's configuration.
    pub fn of(
        config: &RecommenderConfig,
        deployments: &Deployments,
        instance: &str,
        scene: Option<&str>,
        user_id: &str,
        request_id: &str,
    ) -> Result<Self, RequestError> {
        let scene_name = scene.unwrap_or(&config.default_scene);
        let Some(scene) = config.scene(scene_name) else {
            return Err(RequestError::UnknownScene {
                scene: scene_name.chars().take(64).collect(),
                known: config.scene_names(),
            });
        };
        let experiment = scene.experiment.as_ref();
        let experiment = experiment.and_then(|name| Some((name, config.experiments.get(name)?)));
        let chosen =
            experiment.and_then(|(name, experiment)| chance::bucket(name, experiment, user_id));
        let (bucket, pipeline_name) = match chosen {
            Some((bucket, pipeline)) => (Some(bucket), pipeline.to_owned()),
            None => (None, scene.pipeline.clone()),
        };
        // Checked when the configuration was read: a scene leads to a pipeline.
        let mut pipeline = config.pipeline(&pipeline_name).unwrap_or_default();
        let instance = deployments.config(instance);
        if !instance.semantic_recall {
            pipeline.sources.remove(&Source::SemanticRecall);
        }
        let ranker = match pipeline.ranker {
            RankerChoice::Deployed => deployments.ranker(),
            RankerChoice::Weighted => deployments.weighted(),
        };
        Ok(Self {
            weights: chance::hybrid_weights(
                request_id,
                instance.hybrid_ranking,
                &config.exploration,
            ),
            scene_name: scene_name.to_owned(),
            scene,
            pipeline_name,
            pipeline,
            bucket,
            ranker,
        })
    }

    /// The source of a list of what is like given items.
    pub fn related_sources(&self, count: usize) -> BTreeMap<Source, SourceConfig> {
        let configured = self.pipeline.sources.get(&Source::ItemToItem).copied();
        let config = configured.unwrap_or_default();
        let limit = RELATED_PER_PLACE * count;
        BTreeMap::from([(Source::ItemToItem, SourceConfig { limit, ..config })])
    }

    /// The sources of a list that is no one's in particular.
    pub fn fallback_sources(&self) -> BTreeMap<Source, SourceConfig> {
        let configured = |source| self.pipeline.sources.get(&source).copied();
        FALLBACK_SOURCES
            .into_iter()
            .map(|source| (source, configured(source).unwrap_or_default()))
            .collect()
    }
}
