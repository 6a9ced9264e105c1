//! A declaration as it stands in a file: flat, so that an error can name every parameter.

use std::str::FromStr;

use millrace_schemas::BehaviorKind;
use serde::{Deserialize, Serialize};

use super::words::{Combine, Transform, Word};
use super::{DeclarationError, FeatureDeclaration, FeatureKind, start};
use crate::field::Field;

/// All parameters of all kinds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "feature")]
pub(super) struct Written {
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    half_life: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    combine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transform: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_days: Option<u32>,
}

/// Names of the kinds, with the parameters that each takes.
const KINDS: [(&str, &[&str]); 17] = [
    ("score", &["of"]),
    ("cosine", &["with"]),
    ("residual_vector", &[]),
    ("max_cosine", &["last"]),
    ("count", &["event", "half_life"]),
    ("ctr", &["half_life"]),
    ("coec", &[]),
    ("velocity", &["event"]),
    ("affinity", &["field", "combine"]),
    ("residual_affinity", &["field", "combine"]),
    ("age", &[]),
    ("number", &["field", "transform"]),
    ("user_number", &["user_field", "transform"]),
    ("user_match", &["user_field", "field"]),
    ("user_count", &["event"]),
    ("user_ctr", &[]),
    ("seen", &["of"]),
];

impl From<FeatureDeclaration> for Written {
    fn from(declaration: FeatureDeclaration) -> Self {
        let FeatureDeclaration {
            name,
            kind,
            scope,
            refresh_seconds,
            ttl_days,
        } = declaration;
        let mut written = Self {
            name,
            kind: kind.name().to_owned(),
            scope: Some(scope.word().to_owned()),
            refresh_seconds,
            ttl_days,
            ..Self::default()
        };
        let word = |word: &str| Some(word.to_owned());
        match kind {
            FeatureKind::Score { of } => written.of = word(of.word()),
            FeatureKind::Cosine { with } => written.with = word(with.word()),
            FeatureKind::MaxCosine { last } => written.last = u64::try_from(last).ok(),
            FeatureKind::Count { event, half_life } => {
                written.event = word(event.as_str());
                written.half_life = word(half_life.word());
            }
            FeatureKind::Ctr { half_life } => written.half_life = word(half_life.word()),
            FeatureKind::Velocity { event } | FeatureKind::UserCount { event } => {
                written.event = word(event.as_str());
            }
            FeatureKind::Affinity { field, combine }
            | FeatureKind::ResidualAffinity { field, combine } => {
                written.field = Some(field.to_string());
                written.combine = word(combine.word());
            }
            FeatureKind::Number { field, transform } => {
                written.field = Some(field.to_string());
                written.transform = word(transform.word());
            }
            FeatureKind::UserNumber {
                user_field,
                transform,
            } => {
                written.user_field = Some(user_field);
                written.transform = word(transform.word());
            }
            FeatureKind::UserMatch { user_field, field } => {
                written.user_field = Some(user_field);
                written.field = Some(field.to_string());
            }
            FeatureKind::Seen { of } => written.of = word(of.word()),
            FeatureKind::ResidualVector
            | FeatureKind::Coec
            | FeatureKind::Age
            | FeatureKind::UserCtr => {}
        }
        written
    }
}

impl TryFrom<Written> for FeatureDeclaration {
    type Error = DeclarationError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let known = KINDS.iter().find(|(kind, _)| *kind == written.kind);
        let Some(&(kind, takes)) = known else {
            let kinds = KINDS.map(|(kind, _)| kind);
            return Err(DeclarationError::UnknownKind {
                name: start(&written.name),
                kind: start(&written.kind),
                known: kinds.join(", "),
            });
        };
        let reader = Reader {
            written: &written,
            kind,
        };
        reader.takes_only(takes)?;
        let kind = reader.kind()?;
        let declared = reader.word_or("scope", written.scope.as_ref(), kind.scope())?;
        let declaration = Self {
            name: written.name.clone(),
            scope: declared,
            kind,
            refresh_seconds: written.refresh_seconds,
            ttl_days: written.ttl_days,
        };
        declaration.check()?;
        Ok(declaration)
    }
}

/// Reads the parameters of one kind.
struct Reader<'a> {
    written: &'a Written,
    kind: &'static str,
}

impl Reader<'_> {
    fn kind(&self) -> Result<FeatureKind, DeclarationError> {
        let written = self.written;
        Ok(match self.kind {
            "score" => FeatureKind::Score {
                of: self.word("of", written.of.as_ref())?,
            },
            "cosine" => FeatureKind::Cosine {
                with: self.word("with", written.with.as_ref())?,
            },
            "residual_vector" => FeatureKind::ResidualVector,
            "max_cosine" => FeatureKind::MaxCosine {
                last: written
                    .last
                    .ok_or_else(|| self.needs("last"))?
                    .try_into()
                    .unwrap_or(usize::MAX),
            },
            "count" => FeatureKind::Count {
                event: self.event()?,
                half_life: self.word("half_life", written.half_life.as_ref())?,
            },
            "ctr" => FeatureKind::Ctr {
                half_life: self.word("half_life", written.half_life.as_ref())?,
            },
            "coec" => FeatureKind::Coec,
            "velocity" => FeatureKind::Velocity {
                event: self.event()?,
            },
            "affinity" => FeatureKind::Affinity {
                field: self.field()?,
                combine: self.word_or("combine", written.combine.as_ref(), Combine::Mean)?,
            },
            "residual_affinity" => FeatureKind::ResidualAffinity {
                field: self.field()?,
                combine: self.word_or("combine", written.combine.as_ref(), Combine::Mean)?,
            },
            "age" => FeatureKind::Age,
            "number" => FeatureKind::Number {
                field: self.field()?,
                transform: self.transform()?,
            },
            "user_number" => FeatureKind::UserNumber {
                user_field: self.user_field()?,
                transform: self.transform()?,
            },
            "user_match" => FeatureKind::UserMatch {
                user_field: self.user_field()?,
                field: self.field()?,
            },
            "user_count" => FeatureKind::UserCount {
                event: self.event()?,
            },
            "user_ctr" => FeatureKind::UserCtr,
            _ => FeatureKind::Seen {
                of: self.word("of", written.of.as_ref())?,
            },
        })
    }

    fn takes_only(&self, takes: &[&str]) -> Result<(), DeclarationError> {
        let written = self.written;
        let given = [
            ("of", written.of.is_some()),
            ("with", written.with.is_some()),
            ("last", written.last.is_some()),
            ("event", written.event.is_some()),
            ("half_life", written.half_life.is_some()),
            ("user_field", written.user_field.is_some()),
            ("field", written.field.is_some()),
            ("combine", written.combine.is_some()),
            ("transform", written.transform.is_some()),
        ];
        for (parameter, given) in given {
            if given && !takes.contains(&parameter) {
                return Err(DeclarationError::TakesNo {
                    name: start(&written.name),
                    kind: self.kind,
                    parameter,
                    takes: match takes {
                        [] => "nothing".to_owned(),
                        takes => takes.join(", "),
                    },
                });
            }
        }
        Ok(())
    }

    fn needs(&self, parameter: &'static str) -> DeclarationError {
        DeclarationError::Needs {
            name: start(&self.written.name),
            kind: self.kind,
            parameter,
        }
    }

    fn value(&self, parameter: &'static str, found: &str, rule: String) -> DeclarationError {
        DeclarationError::Value {
            name: start(&self.written.name),
            parameter,
            found: start(found),
            rule,
        }
    }

    fn word<W: Word>(
        &self,
        parameter: &'static str,
        given: Option<&String>,
    ) -> Result<W, DeclarationError> {
        let given = given.ok_or_else(|| self.needs(parameter))?;
        let named = W::ALL.iter().find(|(_, word)| word == given);
        named.map(|(value, _)| *value).ok_or_else(|| {
            let words: Vec<&str> = W::ALL.iter().map(|(_, word)| *word).collect();
            self.value(parameter, given, format!("one of {}", words.join(", ")))
        })
    }

    fn word_or<W: Word>(
        &self,
        parameter: &'static str,
        given: Option<&String>,
        default: W,
    ) -> Result<W, DeclarationError> {
        match given {
            Some(_) => self.word(parameter, given),
            None => Ok(default),
        }
    }

    fn event(&self) -> Result<BehaviorKind, DeclarationError> {
        let given = self.written.event.as_ref();
        let given = given.ok_or_else(|| self.needs("event"))?;
        BehaviorKind::from_str(given).map_err(|_| {
            let kinds = BehaviorKind::ALL.map(BehaviorKind::as_str);
            self.value("event", given, format!("one of {}", kinds.join(", ")))
        })
    }

    fn transform(&self) -> Result<Transform, DeclarationError> {
        let given = self.written.transform.as_ref();
        self.word_or("transform", given, Transform::Identity)
    }

    fn user_field(&self) -> Result<String, DeclarationError> {
        let given = self.written.user_field.clone();
        given.ok_or_else(|| self.needs("user_field"))
    }

    fn field(&self) -> Result<Field, DeclarationError> {
        let given = self.written.field.as_ref();
        let given = given.ok_or_else(|| self.needs("field"))?;
        given.parse().map_err(|_| {
            let rule = "one of categories, tags, key_phrases, language, metadata.KEY";
            self.value("field", given, rule.to_owned())
        })
    }
}
