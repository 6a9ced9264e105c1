//! One configuration: a TOML file, then environment, then flags.
//!
//! Environment variables name a key by its path with two underscores:
//! `MILLRACE_KAFKA__BOOTSTRAP` is `kafka.bootstrap`. Unknown keys are refused,
//! with the nearest valid one, because a misspelt limit is a limit not set.

mod sections;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use millrace_features::{DeclarationError, FeatureDeclaration, FeatureSet};
use millrace_joiner::JoinerConfig;
use millrace_kafka::KafkaConfig;
use millrace_labeler::LabelerConfig;
use millrace_model_server::{InvalidConfig as InvalidModelServer, ModelServerConfig};
use millrace_objects::ObjectStoresConfig;
use millrace_producers::airec::AirecConfig;
use millrace_producers::behavior::{BehaviorConfig, BehaviorConfigError, RowReader};
use millrace_profiles::ProfilesConfig;
use millrace_recommender::{InvalidConfig, RecommenderConfig};
use millrace_reconciler::ReconcilerConfig;
use millrace_telemetry::{LogFormat, TelemetryConfig};
use millrace_vectorizer::VectorizerConfig;
use serde::Deserialize;

pub use self::sections::{
    ApiConfig, BrokerSection, CanarySection, EncoderKind, IndexSection, LagSection, ModelSection,
    StateSection, UploadsSection,
};

const DEFAULT_FILE: &str = "millrace.toml";

/// What stands behind the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The embedded broker and index, in this process.
    #[default]
    Embedded,
    /// A real Kafka and a real OpenSearch.
    Cluster,
}

/// The whole configuration of a process.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `embedded` (default) or `cluster`.
    pub profile: Profile,
    /// Folder of the embedded topics and index. Default: `millrace-data`.
    pub data_dir: PathBuf,
    /// The HTTP API of `up`.
    pub api: ApiConfig,
    /// Kafka; in the embedded profile `bootstrap` is the embedded broker's.
    pub kafka: KafkaConfig,
    /// The embedded broker.
    pub broker: BrokerSection,
    /// The search index.
    pub index: IndexSection,
    /// The sentence encoder.
    pub model: ModelSection,
    /// The model server.
    pub model_server: ModelServerConfig,
    /// Where objects may be read from.
    pub objects: ObjectStoresConfig,
    /// What `up` and `run uploads` watch.
    pub uploads: UploadsSection,
    /// How behavior is read, and the endpoint that takes it.
    pub behavior: BehaviorConfig,
    /// AIRec's interfaces.
    pub airec: AirecConfig,
    /// The document consumer.
    pub vectorizer: VectorizerConfig,
    /// Where stateful consumers keep their state.
    pub state: StateSection,
    /// The behavior consumer.
    pub joiner: JoinerConfig,
    /// The consumer that joins answers with clicks.
    pub labeler: LabelerConfig,
    /// The consumer that keeps profiles of users.
    pub profiles: ProfilesConfig,
    /// What the ranker reads of users and items. Default: those that come with Millrace.
    pub features: Vec<FeatureDeclaration>,
    /// What is recommended, and how.
    pub recommender: RecommenderConfig,
    /// Comparisons on a schedule, and the sweep of tombstones.
    pub reconciler: ReconcilerConfig,
    /// Metrics of how far consumer groups are behind.
    pub lag: LagSection,
    /// A document uploaded on a schedule, to measure how long it takes until it is found.
    pub canary: CanarySection,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            data_dir: PathBuf::from("millrace-data"),
            api: ApiConfig::default(),
            kafka: KafkaConfig::default(),
            broker: BrokerSection::default(),
            index: IndexSection::default(),
            model: ModelSection::default(),
            model_server: ModelServerConfig::default(),
            objects: ObjectStoresConfig::default(),
            uploads: UploadsSection::default(),
            behavior: BehaviorConfig::default(),
            airec: AirecConfig::default(),
            vectorizer: VectorizerConfig::default(),
            state: StateSection::default(),
            joiner: JoinerConfig::default(),
            labeler: LabelerConfig::default(),
            profiles: ProfilesConfig::default(),
            features: Vec::new(),
            recommender: RecommenderConfig::default(),
            reconciler: ReconcilerConfig::default(),
            lag: LagSection::default(),
            canary: CanarySection::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// What flags say over file and environment.
#[derive(Debug, Default)]
pub struct Overrides {
    /// Log filter where neither file, environment nor flag gives one.
    pub default_log: &'static str,
    /// `--data`.
    pub data_dir: Option<PathBuf>,
    /// `--profile`.
    pub profile: Option<Profile>,
    /// `--log`.
    pub log: Option<String>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
}

/// The configuration can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named does not exist.
    #[error("no configuration file at {0}")]
    Missing(PathBuf),
    /// A key that does not exist.
    #[error("unknown key `{key}` in {origin}{}", nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownKey {
        /// The full path of the key.
        key: String,
        /// The file or environment that holds it.
        origin: String,
        /// The full path of the nearest valid key.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or a file that is no TOML.
    #[error("{message}")]
    Invalid {
        /// What is wrong and where.
        message: String,
    },
    /// A value that does not go with another.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A recommender that can't work.
    #[error("the section recommender can't work")]
    Recommender(#[from] InvalidConfig),
    /// A model server that can't work.
    #[error("the section model_server can't work")]
    ModelServer(#[from] InvalidModelServer),
    /// A feature that can't be computed.
    #[error("the section features can't work")]
    Features(#[from] DeclarationError),
    /// Behavior, or AIRec's rows of it, that can't be read so.
    #[error("the sections behavior and airec can't work")]
    Behavior(#[from] BehaviorConfigError),
}

impl Config {
    /// Reads the file (`millrace.toml` in the current folder if none is named
    /// and it exists), then the environment, then applies the flags.
    ///
    /// # Errors
    /// A missing or malformed file, an unknown key, a value of another type,
    /// values that contradict each other.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let mut figment =
            Figment::new().merge(Serialized::default("telemetry.log", overrides.default_log));
        match file {
            Some(path) if !path.is_file() => {
                return Err(ConfigError::Missing(path.to_owned()));
            }
            Some(path) => figment = figment.merge(Toml::file_exact(path)),
            None if Path::new(DEFAULT_FILE).is_file() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE));
            }
            None => {}
        }
        let mut config = extract(&figment, &environment())?;
        if let Some(data_dir) = overrides.data_dir {
            config.data_dir = data_dir;
        }
        if let Some(profile) = overrides.profile {
            config.profile = profile;
        }
        if let Some(log) = overrides.log {
            config.telemetry.log = log;
        }
        if let Some(log_format) = overrides.log_format {
            config.telemetry.log_format = log_format;
        }
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if !self.api.listen.ip().is_loopback() && self.api.notices_token.is_none() {
            return Err(ConfigError::Contradiction(
                "api.listen is not loopback but api.notices_token is not set: anybody who reaches \
                 the port could publish; set a token or listen on 127.0.0.1",
            ));
        }
        self.reconciler
            .validate()
            .map_err(ConfigError::Contradiction)?;
        if !self.api.listen.ip().is_loopback() && self.api.events_token.is_none() {
            return Err(ConfigError::Contradiction(
                "api.listen is not loopback but api.events_token is not set: anybody who reaches \
                 the port could tell what users did; set a token or listen on 127.0.0.1",
            ));
        }
        let api = &self.api;
        let tokens = [
            &api.notices_token,
            &api.events_token,
            &api.admin_token,
            &api.read_token,
        ];
        // A variable that was left unset elsewhere arrives as an empty text, which anybody could show.
        if tokens
            .into_iter()
            .flatten()
            .any(|token| token.trim().is_empty())
        {
            return Err(ConfigError::Contradiction(
                "a token of the section api is empty: whoever shows none would be let in; give it a text or leave it out",
            ));
        }
        if self.api.read_token.is_some() && self.api.admin_token.is_none() {
            return Err(ConfigError::Contradiction(
                "api.read_token is set but api.admin_token is not: nobody would be kept from acting; set both",
            ));
        }
        if self.api.read_token.is_some() && self.api.read_token == self.api.admin_token {
            return Err(ConfigError::Contradiction(
                "api.read_token and api.admin_token are the same: who may read could act; set two tokens",
            ));
        }
        RowReader::new(&self.behavior)?;
        self.airec.validate()?;
        self.recommender.validate()?;
        self.model_server.validate()?;
        if !self.features.is_empty() {
            FeatureSet::new(self.features.clone(), "")?;
        }
        if self.profile == Profile::Cluster
            && self.canary.every().is_some()
            && self.canary.location.is_none()
        {
            return Err(ConfigError::Contradiction(
                "canary.every_seconds is set and canary.location is not: the vectorizers of a cluster \
                 could not read it from this machine; name a bucket's folder, such as \"s3://uploads/canary\"",
            ));
        }
        if self.profile == Profile::Cluster && self.kafka.bootstrap.is_empty() {
            return Err(ConfigError::Contradiction(
                "the cluster profile needs kafka.bootstrap, such as \"127.0.0.1:9092\"",
            ));
        }
        Ok(())
    }
}

/// Only names with a path or of a top-level value are keys: `MILLRACE_CONFIG`
/// and the variables of tests and of the model store share the prefix.
fn environment() -> Env {
    Env::prefixed("MILLRACE_")
        .filter(|name| {
            let name = name.as_str();
            name.contains("__")
                || ["PROFILE", "DATA_DIR"]
                    .iter()
                    .any(|top| name.eq_ignore_ascii_case(top))
        })
        .split("__")
}

/// Reads file and environment. Figment guesses a variable's type from its text, so that a password
/// of digits would be a number and `0123` be 123: where a key holds a text, the variable's own text
/// is what counts.
fn extract(file: &Figment, environment: &Env) -> Result<Config, ConfigError> {
    let variables: BTreeMap<String, String> = environment
        .iter()
        .map(|(key, text)| (key.to_string(), text))
        .collect();
    let mut texts: BTreeMap<String, &String> = BTreeMap::new();
    loop {
        let guessed = file.clone().merge(environment.clone());
        let figment = texts.iter().fold(guessed, |figment, (key, text)| {
            figment.merge(Serialized::default(key, text))
        });
        let error: figment::Error = match figment.extract() {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        let key = error.path.join(".");
        match variables.get(&key) {
            Some(text) if is_no_text(&error.kind) && !texts.contains_key(&key) => {
                texts.insert(key, text);
            }
            _ => return Err(describe(&error)),
        }
    }
}

/// Whether a text was wanted and something else was found.
fn is_no_text(kind: &figment::error::Kind) -> bool {
    let figment::error::Kind::InvalidType(_, expected) = kind else {
        return false;
    };
    // As serde's visitors of `String` and `PathBuf` say it.
    matches!(
        expected.as_str(),
        "a string" | "a path string" | "path string"
    )
}

fn describe(error: &figment::Error) -> ConfigError {
    let origin = error.metadata.as_ref().map_or_else(
        || "the configuration".to_owned(),
        |metadata| match &metadata.source {
            Some(source) => source.to_string(),
            None => metadata.name.to_string(),
        },
    );
    let path = error.path.join(".");
    match &error.kind {
        figment::error::Kind::UnknownField(field, expected) => {
            let parent = path
                .strip_suffix(field.as_str())
                .unwrap_or(&path)
                .trim_end_matches('.');
            let full = |name: &str| {
                if parent.is_empty() {
                    name.to_owned()
                } else {
                    format!("{parent}.{name}")
                }
            };
            let nearest = expected
                .iter()
                .max_by(|a, b| {
                    strsim::jaro_winkler(field, a).total_cmp(&strsim::jaro_winkler(field, b))
                })
                .map(|name| full(name));
            ConfigError::UnknownKey {
                key: full(field),
                origin,
                nearest,
            }
        }
        kind => ConfigError::Invalid {
            message: if path.is_empty() {
                format!("{origin}: {kind}")
            } else {
                format!("`{path}` in {origin}: {kind}")
            },
        },
    }
}

/// What fuzzing asks of the file. Compiled for fuzzing and for the test that replays the corpus.
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    fuzzing,
    allow(
        dead_code,
        reason = "the binary is linted for fuzzing too, and is no target"
    )
)]
pub mod fuzzing {
    use super::*;

    /// A file's text alone, without environment and flags.
    pub(super) fn load(text: &str) -> Result<Config, ConfigError> {
        Figment::new()
            .merge(Toml::string(text))
            .extract()
            .map_err(|errors| describe(&errors))
    }

    /// Any text as `millrace.toml`: it is a configuration or an error that says which key, and the
    /// key that is proposed for an unknown one exists.
    pub fn configuration(text: &[u8]) {
        let Ok(text) = std::str::from_utf8(text) else {
            return;
        };
        match load(text) {
            Ok(config) => drop(config.validate()),
            Err(ConfigError::UnknownKey {
                nearest: Some(nearest),
                ..
            }) => {
                let known = load(&format!("{nearest} = 1"));
                assert!(
                    !matches!(known, Err(ConfigError::UnknownKey { .. })),
                    "`{nearest}` is no key either"
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    #[cfg(test)]
    #[test]
    fn the_corpus_of_configurations() {
        millrace_fuzz::replay("configuration", configuration);
    }
}

#[cfg(test)]
mod tests {
    use super::fuzzing::load;
    use super::*;

    #[test]
    fn nothing_configured_is_valid() {
        let config = load("").unwrap();
        assert_eq!(config.profile, Profile::Embedded);
        config.validate().unwrap();
    }

    #[test]
    fn an_empty_token_is_refused() {
        for token in ["notices_token", "events_token", "admin_token", "read_token"] {
            let config = load(&format!("[api]\n{token} = \" \"")).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(
                error.contains("token of the section api is empty"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest_valid_one() {
        let error = load("[kafka]\nbootstrp = \"x\"").unwrap_err().to_string();
        assert!(error.contains("unknown key `kafka.bootstrp`"), "{error}");
        assert!(error.contains("did you mean `kafka.bootstrap`?"), "{error}");
    }

    #[test]
    fn a_value_of_another_type_names_its_key() {
        let error = load("[model]\nthreads = \"many\"").unwrap_err().to_string();
        assert!(error.contains("`model.threads`"), "{error}");
    }

    #[test]
    fn what_comes_from_elsewhere_needs_a_token() {
        let mut config = load("[api]\nlisten = \"0.0.0.0:7070\"").unwrap();
        let refused = |config: &Config| config.validate().unwrap_err().to_string();
        assert!(refused(&config).contains("notices_token"));
        config.api.notices_token = Some("secret".to_owned());
        assert!(refused(&config).contains("events_token"));
        config.api.events_token = Some("another".to_owned());
        config.validate().unwrap();
    }

    #[test]
    fn a_template_without_an_item_is_refused() {
        let config = load("[behavior]\nitem_uri = \"file:///films\"").unwrap();
        let error = config.validate().unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("behavior.item_uri"), "{cause}");
        let error = load("[behavior]\nitem_url = \"x\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("did you mean `behavior.item_uri`?"),
            "{error}"
        );
    }
}
