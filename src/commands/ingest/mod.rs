//! `millrace ingest`: publish what is there, wait until all of it is done.

mod ingestion;
mod summary;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::StreamExt;
use futures::stream;
use millrace_objects::{ObjectStores, ObjectStoresConfig, ObjectUri};
use millrace_producers::Noticed;
use millrace_producers::listing::{self, Listed};
use millrace_retry::error_chain;
use millrace_schemas::DocId;

pub use self::ingestion::{Ingestion, Source};
pub use self::summary::{Outcomes, Summary};
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::Needs;

/// How many documents are asked for at once when only the missing ones are wanted.
const LOOKUP_PAGE: usize = 500;

/// Publish files, folders, buckets or corpora and wait until each document is done.
///
/// What runs on this data folder may read a path from then on: `granted-roots.json` there lists them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file, a folder, a corpus (`.jsonl`, `.csv`, also `.gz`), `oss://bucket/prefix` or
    /// `s3://bucket/prefix`; several of them in any mixture.
    #[arg(value_name = "PATH_OR_URI", required = true)]
    sources: Vec<String>,
    /// Publish only documents that the index lacks.
    #[arg(long)]
    missing: bool,
}

pub async fn run(args: Args, mut config: Config, output: Output) -> anyhow::Result<ExitCode> {
    // All of them before anything is started or published.
    let uris = args.sources.iter().map(|source| source_uri(source));
    let uris: Vec<ObjectUri> = uris.collect::<anyhow::Result<_>>()?;
    let in_buckets = uris.iter().filter(|uri| uri.path().is_none());
    let buckets = in_buckets.map(ToString::to_string);
    config.objects.allowed_buckets.extend(buckets);
    let session = Session::attach_or_start(&config, Needs::INGEST).await?;
    let ingested = ingest(&session, &config.objects, &uris, args.missing, output).await;
    session.close().await;
    let (summary, unlisted) = ingested?;
    output.result(&summary, || summary.text())?;
    if unlisted > 0 {
        let given = args.sources.join(" ");
        bail!("{unlisted} parts of {given} could not be listed; the log names them");
    }
    Ok(ExitCode::SUCCESS)
}

/// Publishes what is at `uris`, in their order, and waits for it; also tells how much could not be listed.
///
/// # Errors
/// The topics or the index can't be reached.
pub async fn ingest(
    session: &Session,
    objects: &ObjectStoresConfig,
    uris: &[ObjectUri],
    only_missing: bool,
    output: Output,
) -> anyhow::Result<(Summary, u64)> {
    let mut objects = objects.clone();
    for path in uris.iter().filter_map(ObjectUri::path) {
        session.api.allow_root(path).await?;
        objects.allowed_roots.push(path.to_owned());
    }
    let mut source = listed(ObjectStores::new(&objects)?, uris.to_vec());
    if only_missing {
        source = missing(source, session);
    }
    let ingestion = async { Ingestion::begin(session, output).await?.run(source).await };
    let ingested = tokio::select! {
        ingested = ingestion => ingested?,
        gone = session.gone() => return Err(gone),
    };
    // What was ingested is found by the very next search.
    if let Err(error) = session.api.refresh().await {
        tracing::warn!(
            "all is done, but not made searchable at once: {}",
            error_chain(error.as_ref())
        );
    }
    Ok(ingested)
}

/// The URI of what is to be ingested.
///
/// # Errors
/// A path that does not exist, or a URI that is none.
pub fn source_uri(source: &str) -> anyhow::Result<ObjectUri> {
    if !source.contains("://") && !Path::new(source).exists() {
        bail!("no file or folder at {source}");
    }
    ObjectUri::parse(source).with_context(|| format!("can't ingest {source}"))
}

fn listed(stores: ObjectStores, uris: Vec<ObjectUri>) -> Source {
    stream::iter(uris)
        .flat_map(move |uri| listing::list(&stores, &uri))
        .filter_map(|listed| async move {
            match listed {
                Ok(Listed::Noticed(noticed)) => Some(Ok(noticed)),
                Ok(Listed::Corpus(_) | Listed::CorpusEnd(_)) => None,
                Err(error) => Some(Err(error.into())),
            }
        })
        .boxed()
}

/// Leaves out the documents of which the index has a header.
fn missing(source: Source, session: &Session) -> Source {
    let api = session.api.clone();
    source
        .ready_chunks(LOOKUP_PAGE)
        .then(move |page| {
            let api = api.clone();
            async move {
                let id = |noticed: &anyhow::Result<Noticed>| match noticed {
                    Ok(Noticed::Document(notice)) => Some(DocId::from_uri(&notice.uri)),
                    Ok(Noticed::Rejected(_)) | Err(_) => None,
                };
                let ids: Vec<String> = page
                    .iter()
                    .filter_map(id)
                    .map(|id| id.as_str().to_owned())
                    .collect();
                let present: HashSet<String> = match api.headers(&ids).await {
                    Ok(headers) => headers
                        .into_iter()
                        .flatten()
                        .filter(|header| !header.deleted)
                        .map(|header| header.doc_id)
                        .collect(),
                    Err(error) => return vec![Err(error)],
                };
                page.into_iter()
                    .filter(|noticed| id(noticed).is_none_or(|id| !present.contains(id.as_str())))
                    .collect()
            }
        })
        .flat_map(stream::iter)
        .boxed()
}
