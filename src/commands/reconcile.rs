//! `millrace reconcile`: compare the store, the index and the signals, and repair what differs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use async_trait::async_trait;
use futures::StreamExt;
use indicatif::ProgressBar;
use millrace_objects::{ObjectStores, ObjectUri};
use millrace_reconciler::{
    Class, Compared, Header, Headers, Reconciler, ReconcilerOptions, RemovalLimit, Report, Step,
    Withheld,
};
use millrace_retry::error_chain;
use serde::Serialize;

use super::ingest::{Ingestion, Summary};
use crate::api::client::ApiClient;
use crate::api::records::{DocumentHeader, HeadersQuery};
use crate::config::Config;
use crate::output::Output;
use crate::session::Session;
use crate::stack::{Needs, vectorizer_group};

/// URIs of each class that a person is shown.
const EXAMPLES: usize = 5;

/// Compare a folder or bucket with the index and the signals; repair what differs.
///
/// Without --repair nothing is changed, and the exit code is 1 where something differs. Repairs are
/// notices: whatever changes meanwhile wins over them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder, a corpus, `oss://bucket/prefix` or `s3://bucket/prefix`.
    #[arg(value_name = "PATH_OR_URI")]
    root: String,
    /// Publish notices for what differs and wait for what becomes of them.
    #[arg(long)]
    repair: bool,
    /// Only compare and tell: the default, said aloud.
    #[arg(long, conflicts_with = "repair")]
    dry_run: bool,
    /// Remove nothing where more than this share of the indexed documents would go.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    max_delete: u8,
    /// Remove however many documents are gone, also where the store is empty.
    #[arg(long, requires = "repair")]
    force: bool,
    /// Try documents again of which this very version is a dead letter.
    #[arg(long)]
    retry_dead_letters: bool,
    /// Write every difference to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    report: Report,
    /// What became of the repairs; none where nothing was to be repaired.
    repaired: Option<Repaired>,
}

#[derive(Serialize)]
struct Repaired {
    #[serde(flatten)]
    summary: Summary,
    withheld: Option<Withheld>,
}

pub async fn run(args: Args, mut config: Config, output: Output) -> anyhow::Result<ExitCode> {
    let root = root_uri(&args.root)?;
    match root.path() {
        Some(path) => config.objects.allowed_roots.push(path.to_owned()),
        None => config.objects.allowed_buckets.push(root.to_string()),
    }
    let needs = if args.repair {
        Needs::INGEST
    } else {
        Needs::STATUS
    };
    let session = Session::attach_or_start(&config, needs).await?;
    let reconciled = reconcile(&session, &config, &root, &args, output).await;
    session.close().await;
    let outcome = reconciled?;
    output.result(&outcome, || text(&outcome))?;
    let done = outcome.report.is_clean() || outcome.is_mended();
    Ok(ExitCode::from(u8::from(!done)))
}

async fn reconcile(
    session: &Session,
    config: &Config,
    root: &ObjectUri,
    args: &Args,
    output: Output,
) -> anyhow::Result<Outcome> {
    let info = session.api.info().await?;
    let model_version = info.index["model_version"].as_str().unwrap_or_default();
    let index = info.index["writes"].as_str().unwrap_or_default();
    let group = vectorizer_group(&session.kafka, index);
    let reconciler = Reconciler {
        stores: ObjectStores::new(&config.objects)?,
        headers: Arc::new(ApiHeaders(session.api.clone())),
        kafka: session.kafka.clone(),
        options: ReconcilerOptions {
            retry_dead_letters: args.retry_dead_letters,
            examples: EXAMPLES,
            ..ReconcilerOptions::new(model_version, group)
        },
    };
    let bar = output.progress(None, "documents");
    let compared = reconciler.compare(root, &|step| show(&bar, step)).await;
    bar.finish_and_clear();
    let compared = compared?;
    if let Some(path) = &args.report {
        write_report(&compared, path)
            .with_context(|| format!("can't write the report {}", path.display()))?;
    }
    let repaired = if args.repair && compared.report.differences > 0 {
        Some(repair(session, root, &compared, args, output).await?)
    } else {
        None
    };
    Ok(Outcome {
        report: compared.report,
        repaired,
    })
}

async fn repair(
    session: &Session,
    root: &ObjectUri,
    compared: &Compared,
    args: &Args,
    output: Output,
) -> anyhow::Result<Repaired> {
    if let Some(path) = root.path() {
        session.api.allow_root(path).await?;
    }
    let limit = RemovalLimit {
        max_percent: args.max_delete,
        force: args.force,
    };
    let repairs = compared.repairs(limit)?;
    let notices = repairs.notices.map(|notice| Ok(notice?)).boxed();
    let (summary, failed) = Ingestion::begin(session, output)
        .await?
        .run(notices)
        .await?;
    if failed > 0 {
        bail!("not all repairs were published; the log says why");
    }
    if let Err(error) = session.api.refresh().await {
        tracing::warn!(
            "all is done, but not made searchable at once: {}",
            error_chain(error.as_ref())
        );
    }
    Ok(Repaired {
        summary,
        withheld: repairs.withheld,
    })
}

impl Outcome {
    /// Whether the repair left nothing to do.
    fn is_mended(&self) -> bool {
        let whole = self.report.incomplete.is_none() && self.report.unverified == 0;
        let repaired = self.repaired.as_ref();
        whole
            && repaired
                .is_some_and(|r| r.withheld.is_none() && r.summary.outcomes.dead_lettered == 0)
    }
}

fn root_uri(text: &str) -> anyhow::Result<ObjectUri> {
    if !text.contains("://") && !Path::new(text).exists() {
        bail!(
            "no file or folder at {text}: a removed one looks like one that is not mounted; compare \
             the folder above it"
        );
    }
    let uri = ObjectUri::parse(text).with_context(|| format!("can't compare {text}"))?;
    if uri.fragment().is_some() {
        bail!("{text} is one line of a corpus; compare the whole corpus");
    }
    Ok(uri)
}

fn show(bar: &ProgressBar, step: Step) {
    let (what, count) = match step {
        Step::Objects(count) => ("listing the store", count),
        Step::Headers(count) => ("reading the index", count),
        Step::Signals(count) => ("reading the signals", count),
        Step::Comparing(count) => ("comparing", count),
    };
    bar.set_message(what);
    bar.set_position(count);
}

fn write_report(compared: &Compared, path: &Path) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for difference in compared.differences()? {
        serde_json::to_writer(&mut out, &difference?)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn text(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let mut lines = vec![format!(
        "{}: {} differences · {} objects, {} documents in the index, {} signals · {:.1} s",
        report.uri,
        report.differences,
        report.objects,
        report.documents,
        report.signals,
        report.seconds
    )];
    for class in Class::ALL {
        let count = report.count(class);
        if count == 0 {
            continue;
        }
        lines.push(format!("  {count} {class}"));
        let shown = report.examples.get(class.as_str());
        let shown = shown.map(Vec::as_slice).unwrap_or_default();
        lines.extend(shown.iter().map(|uri| format!("    {uri}")));
        if count > shown.len() as u64 {
            lines.push("    … (--report FILE has all of them)".to_owned());
        }
    }
    for (count, what) in [
        (report.on_their_way, "are on their way (`millrace lag`)"),
        (
            report.dead_lettered,
            "are dead letters (`millrace dlq list`; --retry-dead-letters tries them again)",
        ),
        (report.changed_meanwhile, "changed while they were compared"),
        (report.left_out, "names or lines can't be documents"),
        (
            report.unverified,
            "may be gone, but the store doesn't say so; the log names them",
        ),
    ] {
        if count > 0 {
            lines.push(format!("  {count} {what}"));
        }
    }
    if let Some(reason) = &report.incomplete {
        lines.push(format!(
            "  the listing is incomplete, so nothing was called an orphan: {reason}"
        ));
    }
    if let Some(repaired) = &outcome.repaired {
        lines.push(format!("  repaired: {}", repaired.summary.text()));
        if let Some(withheld) = &repaired.withheld {
            lines.push(format!("  {}", withheld.reason));
        }
    } else if report.differences > 0 {
        lines.push("  nothing was changed; --repair publishes notices for these".to_owned());
    }
    lines.join("\n")
}

/// The index of the process that has it.
struct ApiHeaders(ApiClient);

#[async_trait]
impl Headers for ApiHeaders {
    async fn refresh(&self) -> Result<(), millrace_index::BoxError> {
        Ok(self.0.refresh().await?)
    }

    async fn page(
        &self,
        uri_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Header>, millrace_index::BoxError> {
        let query = HeadersQuery {
            uri_prefix: uri_prefix.to_owned(),
            after: after.map(str::to_owned),
            limit,
        };
        let page = self.0.headers_page(&query).await?;
        Ok(page.into_iter().map(header).collect())
    }

    async fn get(
        &self,
        doc_ids: &[String],
    ) -> Result<Vec<Option<Header>>, millrace_index::BoxError> {
        let headers = self.0.headers(doc_ids).await?;
        Ok(headers.into_iter().map(|h| h.map(header)).collect())
    }
}

fn header(header: DocumentHeader) -> Header {
    Header {
        uri: header.uri,
        version: header.version,
        etag: header.etag,
        deleted: header.deleted,
    }
}
