//! A model's text, split into its header and trees and checked.
//!
//! The format has no specification; this follows `GBDT::SaveModelToString` and
//! `LoadModelFromString` of LightGBM 4.7 (`src/boosting/gbdt_model_text.cpp`). Unlike those it
//! refuses what is missing, cut short or contradicts itself.

use std::collections::HashMap;

use crate::forest::Importance;
use crate::forest::error::ForestError;
use crate::forest::tree_text::{MissingValues, Split, TreeText};

/// The versions that LightGBM 3 and 4 write. v2 decided NaN categories differently.
const VERSIONS: [&str; 2] = ["v3", "v4"];

#[derive(Debug)]
pub(super) struct ModelText {
    /// At least one.
    pub feature_names: Vec<String>,
    /// Whether a score is the trees' mean instead of their sum.
    pub average_output: bool,
    pub trees: Vec<TreeText>,
}

/// Where in the text something was found.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub line: usize,
    pub section: &'a str,
}

impl Place<'_> {
    pub fn malformed(self, reason: impl Into<String>) -> ForestError {
        ForestError::Malformed {
            line: self.line,
            section: self.section.to_owned(),
            reason: reason.into(),
        }
    }

    pub fn unsupported(self, what: impl Into<String>) -> ForestError {
        ForestError::Unsupported {
            line: self.line,
            section: self.section.to_owned(),
            what: what.into(),
        }
    }
}

/// The `key=value` lines of one section, with their places.
pub(super) struct Section<'a> {
    name: &'a str,
    /// Line of the section's head, for what is missing.
    line: usize,
    values: HashMap<&'a str, (usize, &'a str)>,
}

impl<'a> Section<'a> {
    fn new(name: &'a str, line: usize) -> Self {
        Self {
            name,
            line,
            values: HashMap::new(),
        }
    }

    fn add(&mut self, line: usize, text: &'a str) -> Result<(), ForestError> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if self.values.insert(key, (line, value)).is_some() {
            let place = Place {
                line,
                section: self.name,
            };
            return Err(place.malformed(format!("`{key}` is there twice")));
        }
        Ok(())
    }

    pub fn place(&self) -> Place<'a> {
        Place {
            line: self.line,
            section: self.name,
        }
    }

    /// A value and its place, where the section has the key.
    pub fn get(&self, key: &str) -> Option<(Place<'a>, &'a str)> {
        let &(line, value) = self.values.get(key)?;
        let section = self.name;
        Some((Place { line, section }, value))
    }

    pub fn require(&self, key: &str) -> Result<(Place<'a>, &'a str), ForestError> {
        self.get(key)
            .ok_or_else(|| self.place().malformed(format!("`{key}` is missing")))
    }

    /// A single number that must be there.
    pub fn number(&self, key: &str) -> Result<(Place<'a>, u32), ForestError> {
        let (place, value) = self.require(key)?;
        match value.trim().parse() {
            Ok(number) => Ok((place, number)),
            Err(_) => Err(place.malformed(format!("`{key}` is {value:?}, not a whole number"))),
        }
    }

    /// A list that must be there with this many numbers.
    pub fn list<T: std::str::FromStr>(
        &self,
        key: &str,
        length: usize,
    ) -> Result<(Place<'a>, Vec<T>), ForestError> {
        let (place, value) = self.require(key)?;
        let mut numbers = Vec::new();
        for word in value.split_ascii_whitespace() {
            let number = word.parse().map_err(|_| {
                let position = numbers.len();
                place.malformed(format!(
                    "`{key}`[{position}] is {word:?}, not a number of its kind"
                ))
            })?;
            numbers.push(number);
        }
        if numbers.len() != length {
            let found = numbers.len();
            return Err(place.malformed(format!("`{key}` has {found} values instead of {length}")));
        }
        Ok((place, numbers))
    }
}

impl ModelText {
    pub fn parse(text: &str) -> Result<Self, ForestError> {
        let mut lines = (1..).zip(text.lines().map(str::trim_end));
        let mut header = Section::new("header", 1);
        match lines.next() {
            Some((_, "tree")) => {}
            _ => {
                let reason = "a LightGBM model begins with the line `tree`";
                return Err(header.place().malformed(reason));
            }
        }
        // The line after which a section ended; at the end of the text it stays the last one.
        let mut last = 1;
        let mut trees: Vec<TreeText> = Vec::new();
        let mut current: Option<Section<'_>> = None;
        let mut names = None;
        let mut complete = false;
        for (line, text) in &mut lines {
            last = line;
            let ends = text == "end of trees";
            if ends || text.starts_with("Tree=") {
                if let Some(section) = current.take() {
                    trees.push(TreeText::read(&section, feature_count(&names))?);
                }
                if names.is_none() {
                    names = Some(feature_names(&header)?);
                }
                if ends {
                    complete = true;
                    break;
                }
                if text[5..] != trees.len().to_string() {
                    let place = Place {
                        line,
                        section: text,
                    };
                    return Err(place.malformed(format!("Tree={} was expected", trees.len())));
                }
                current = Some(Section::new(text, line));
            } else if !text.is_empty() {
                current.as_mut().unwrap_or(&mut header).add(line, text)?;
            }
        }
        let end = Place {
            line: last,
            section: current.as_ref().map_or("header", |section| section.name),
        };
        let Some(feature_names) = names.filter(|_| complete) else {
            return Err(end.malformed("the text ends before `end of trees`: it was cut short"));
        };
        if let Some((place, sizes)) = header.get("tree_sizes") {
            let announced = sizes.split_ascii_whitespace().count();
            if announced != trees.len() {
                let found = trees.len();
                let reason = format!("`tree_sizes` announces {announced} trees, {found} are there");
                return Err(place.malformed(reason));
            }
        }
        if trees.is_empty() {
            return Err(end.malformed("the model has no tree"));
        }
        Ok(Self {
            feature_names,
            average_output: header.get("average_output").is_some(),
            trees,
        })
    }

    /// Features that are split on, and never with a missing value in mind.
    pub fn features_without_missing(&self) -> Vec<String> {
        let mut used = vec![false; self.feature_names.len()];
        let mut missing = vec![false; self.feature_names.len()];
        for split in self.trees.iter().flat_map(|tree| &tree.splits) {
            match split {
                Split::Numerical {
                    feature,
                    missing: MissingValues::None,
                    ..
                } => used[*feature] = true,
                Split::Numerical { feature, .. } | Split::Categorical { feature, .. } => {
                    missing[*feature] = true;
                }
            }
        }
        let names = self.feature_names.iter().zip(used.iter().zip(&missing));
        names
            .filter(|(_, (used, missing))| **used && !**missing)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub fn importance(&self) -> Vec<Importance> {
        let mut importance: Vec<Importance> = self
            .feature_names
            .iter()
            .map(|name| Importance {
                feature: name.clone(),
                splits: 0,
                gain: 0.0,
            })
            .collect();
        for tree in &self.trees {
            for (split, gain) in tree.splits.iter().zip(&tree.gains) {
                if *gain > 0.0 {
                    importance[split.feature()].splits += 1;
                    importance[split.feature()].gain += f64::from(*gain);
                }
            }
        }
        importance
    }
}

fn feature_count(names: &Option<Vec<String>>) -> usize {
    names.as_ref().map_or(0, Vec::len)
}

/// Checks the header and takes the features' names out of it.
fn feature_names(header: &Section<'_>) -> Result<Vec<String>, ForestError> {
    let (place, version) = header.require("version")?;
    if !VERSIONS.contains(&version) {
        return Err(place.unsupported(format!(
            "version {version:?} is not read, only v3 and v4: save the model with LightGBM 3 or 4"
        )));
    }
    for key in ["num_class", "num_tree_per_iteration"] {
        if let (place, number @ (0 | 2..)) = header.number(key)? {
            return Err(place.unsupported(format!(
                "`{key}` is {number}: only models with one score a row are evaluated, such as those \
                 of the objectives lambdarank, binary and regression"
            )));
        }
    }
    let (place, names) = header.require("feature_names")?;
    let names: Vec<String> = names.split_ascii_whitespace().map(str::to_owned).collect();
    let (_, greatest) = header.number("max_feature_idx")?;
    let expected = u64::from(greatest) + 1;
    if names.len() as u64 != expected {
        let found = names.len();
        let reason = format!("{found} feature names, but `max_feature_idx` says {expected}");
        return Err(place.malformed(reason));
    }
    Ok(names)
}
