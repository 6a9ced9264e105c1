//! What a recommender needs to know of a document, so that it never reads the document again.
//!
//! - The vector is the mean of the chunks' vectors, normalised again: the direction that the whole
//!   document has most in common with. A document of one chunk keeps that chunk's vector.
//! - Title: the notice's, else the document's own. Language: detected, else declared.
//! - Categories: the notice's metadata, else the document's own, else the folder (the last part of
//!   the key's prefix) that the object lies in. Tags: metadata and the document's own together.
//! - Metadata: the notice's, for the features that its users declare; what is too long for a feature
//!   is left out.
//! - Key phrases and the near-duplicate hash come of the text alone.

mod key_phrases;
mod language;
mod near_duplicate;

use std::collections::BTreeMap;

use millrace_schemas::{DocId, DocumentNotice, Layout, Origin, Signal};

use crate::extract::{ExtractedText, MediaType, one_line};

/// A name and value beyond this are a text and no feature.
const MAX_METADATA_BYTES: usize = 4 << 10;
/// So that a signal, with the largest values in each, stays within its topic's message limit.
const MAX_METADATA_NAMES: usize = 128;

/// What is said of a document as a whole, in the index and in its signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub title: Option<String>,
    pub language: Option<String>,
    pub media_type: String,
    pub categories: Vec<String>,
    pub tags: Vec<String>,
    pub key_phrases: Vec<String>,
    pub near_duplicate_hash: i64,
    pub published_at_ms: Option<i64>,
    pub metadata: BTreeMap<String, String>,
}

impl Features {
    /// Reads the features of a document. Linear in its text.
    pub fn of(
        notice: &DocumentNotice,
        media_type: MediaType,
        extracted: &ExtractedText,
        key_phrases: usize,
    ) -> Self {
        let metadata = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| notice.metadata.get(*name))
                .map(String::as_str)
        };
        let mut categories = labels(metadata(&["categories", "category"]));
        if categories.is_empty() {
            categories.clone_from(&extracted.categories);
        }
        if categories.is_empty() && notice.layout == Layout::Document {
            categories.extend(folder(&notice.uri));
        }
        let mut tags = labels(metadata(&["tags", "keywords"]));
        for tag in &extracted.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        let declared = metadata(&["language", "lang"]).or(extracted.language.as_deref());
        Self {
            title: notice
                .title
                .as_deref()
                .and_then(one_line)
                .or_else(|| extracted.title.clone()),
            language: language::language(&extracted.text, declared),
            media_type: media_type.as_str().to_owned(),
            categories,
            tags,
            key_phrases: key_phrases::key_phrases(&extracted.text, key_phrases),
            near_duplicate_hash: near_duplicate::near_duplicate_hash(&extracted.text).cast_signed(),
            published_at_ms: metadata(&["published_at_ms"])
                .and_then(|ms| ms.trim().parse().ok())
                .or_else(|| {
                    metadata(&["published_at", "date"]).and_then(crate::extract::parse_published)
                })
                .or(extracted.published_at_ms),
            metadata: carried(&notice.metadata),
        }
    }

    /// The signal of a document that is there; its object is the caller's to say.
    pub fn signal(
        self,
        doc_id: &DocId,
        uri: &str,
        version: i64,
        model_version: &str,
        vector: Vec<f32>,
        origin: Origin,
    ) -> Signal {
        Signal {
            item_id: doc_id.to_string(),
            uri: uri.to_owned(),
            document_version: version,
            model_version: model_version.to_owned(),
            vector,
            title: self.title,
            language: self.language,
            media_type: self.media_type,
            categories: self.categories,
            tags: self.tags,
            key_phrases: self.key_phrases,
            near_duplicate_hash: self.near_duplicate_hash,
            published_at_ms: self.published_at_ms,
            deleted: false,
            etag: None,
            size_bytes: None,
            metadata: self.metadata,
            origin,
        }
    }
}

/// What of a notice's metadata goes into the signal.
fn carried(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let short = |(name, value): &(&String, &String)| name.len() + value.len() <= MAX_METADATA_BYTES;
    let carried = metadata.iter().filter(short).take(MAX_METADATA_NAMES);
    carried
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The signal of a document that is gone.
pub(crate) fn tombstone(
    doc_id: &DocId,
    uri: &str,
    version: i64,
    model_version: &str,
    origin: Origin,
) -> Signal {
    let mut signal =
        Features::default().signal(doc_id, uri, version, model_version, Vec::new(), origin);
    signal.deleted = true;
    signal
}

/// The normalised mean of `vectors`, all of one dimension; empty where there are none.
pub(crate) fn mean_vector(vectors: &[Vec<f32>]) -> Vec<f32> {
    if let [vector] = vectors {
        return vector.clone();
    }
    let mut sum = vec![0.0_f32; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        for (sum, component) in sum.iter_mut().zip(vector) {
            *sum += component;
        }
    }
    let norm = sum
        .iter()
        .map(|component| component * component)
        .sum::<f32>()
        .sqrt();
    // Chunks that cancel each other out have no common direction; the first one's is a choice.
    if norm <= f32::EPSILON {
        return vectors.first().cloned().unwrap_or_default();
    }
    sum.iter().map(|component| component / norm).collect()
}

/// One label a line, as corpora have them, so that a label may hold a comma; else comma-separated.
fn labels(text: Option<&str>) -> Vec<String> {
    let text = text.unwrap_or_default();
    let separator = if text.contains('\n') { '\n' } else { ',' };
    text.split(separator).filter_map(one_line).collect()
}

/// The folder that an object lies in, where its name is a word: `s3://b/reports/a.pdf` is of
/// `reports`, while `2024/05/a.pdf` says nothing but a date.
fn folder(uri: &str) -> Option<String> {
    let (_, path) = uri.split_once("://")?;
    let path = path.split('#').next()?;
    let mut segments = path.rsplit('/').skip(1);
    let folder = segments.next()?;
    // The bucket, or the root of the file system, is not a folder.
    segments.next()?;
    folder
        .chars()
        .any(char::is_alphabetic)
        .then(|| one_line(folder))
        .flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels_keep_their_boundaries() {
        assert_eq!(super::labels(Some("a b, c")), ["a b", "c"]);
        assert_eq!(
            super::labels(Some("science fiction\nx, y")),
            ["science fiction", "x, y"]
        );
        assert!(super::labels(None).is_empty());
    }

    use super::*;

    fn notice(json: &str) -> DocumentNotice {
        millrace_schemas::decode(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_notice_speaks_before_the_document_and_that_before_the_folder() {
        let plain = notice(r#"{"uri":"s3://b/reports/a.md","event":"created","event_time_ms":1}"#);
        let mut extracted = ExtractedText {
            text: "Some words".to_owned(),
            ..ExtractedText::default()
        };
        let features = Features::of(&plain, MediaType::Markdown, &extracted, 3);
        assert_eq!(features.categories, ["reports"]);
        extracted.categories = vec!["own".to_owned()];
        extracted.title = Some("Own title".to_owned());
        extracted.tags = vec!["b".to_owned(), "c".to_owned()];
        let features = Features::of(&plain, MediaType::Markdown, &extracted, 3);
        assert_eq!(
            (features.categories, features.title.as_deref()),
            (vec!["own".to_owned()], Some("Own title"))
        );
        let told = notice(
            r#"{"uri":"s3://b/reports/a.md","event":"created","event_time_ms":1,"title":"Told",
                "metadata":{"categories":"x, y","tags":"a,b","published_at":"2024-05-01"}}"#,
        );
        let features = Features::of(&told, MediaType::Markdown, &extracted, 3);
        assert_eq!(features.categories, ["x", "y"]);
        assert_eq!(features.tags, ["a", "b", "c"]);
        assert_eq!(features.title.as_deref(), Some("Told"));
        assert_eq!(features.published_at_ms, Some(1_714_521_600_000));
        let recorded = notice(
            r#"{"uri":"s3://b/corpus.jsonl#1","event":"created","event_time_ms":1,
                "metadata":{"published_at_ms":"819590400000"}}"#,
        );
        let features = Features::of(&recorded, MediaType::PlainText, &extracted, 3);
        assert_eq!(features.published_at_ms, Some(819_590_400_000));
    }

    #[test]
    fn only_folders_that_are_words_are_categories() {
        assert_eq!(folder("s3://b/a.md"), None);
        assert_eq!(folder("s3://b/2024/05/a.md"), None);
        assert_eq!(folder("file:///home/news/a.md").as_deref(), Some("news"));
        assert_eq!(folder("file:///a.md"), None);
    }

    #[test]
    fn the_mean_is_normalised_and_one_vector_is_its_own_mean() {
        assert_eq!(mean_vector(&[vec![0.6, 0.8]]), [0.6, 0.8]);
        let mean = mean_vector(&[vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!(
            (mean[0] - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6
                && mean[0].total_cmp(&mean[1]).is_eq()
        );
        assert_eq!(mean_vector(&[vec![1.0, 0.0], vec![-1.0, 0.0]]), [1.0, 0.0]);
        assert!(mean_vector(&[]).is_empty());
    }
}
