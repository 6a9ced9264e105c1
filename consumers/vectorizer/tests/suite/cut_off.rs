//! A vectorizer that is cut off at any of its steps leaves nothing that its successor does not mend.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Result, ensure};
use millrace_index::SearchIndex;
use millrace_schemas::{DocId, DocumentNotice};
use tokio::sync::Notify;

use crate::faulty::{Fault, Faulty};
use crate::stack::{DEADLINE, Stack, now_ms, spec, text};

/// More steps than any of these notices takes.
const MAX_STEPS: usize = 20;

/// For each number of steps: lets a vectorizer begin on the notice, cuts it off after so many, lets
/// another one do it again, and looks at what there is. `make` brings the document `name` into the
/// state before and gives the notice.
async fn cut_off_after_each_step(
    stack: &mut Stack,
    make: impl AsyncFn(&Stack, &str) -> Result<DocumentNotice>,
) -> Result<()> {
    for steps in 0..MAX_STEPS {
        let name = format!("{steps}.txt");
        let notice = make(stack, &name).await?;
        stack.stop(DEADLINE).await;
        let origin = stack.publish(&notice).await?;
        let fault = Fault::CutOff {
            steps: AtomicUsize::new(steps),
            reached: Notify::new(),
        };
        let cut = Faulty::new(&stack.index, fault);
        let index = Arc::clone(&cut) as Arc<dyn SearchIndex>;
        let vectorizer = stack.vectorizer(spec(&stack.encoder), index).await?;
        let was_cut = tokio::select! {
            () = cut.cut_off() => true,
            outcome = stack.outcome(&origin) => {
                outcome?;
                false
            }
        };
        drop(vectorizer);
        stack.start().await?;
        stack.outcome(&origin).await?;
        look(stack, &name, steps).await?;
        if !was_cut {
            ensure!(steps > 3, "it was cut off {steps} times only");
            return Ok(());
        }
    }
    anyhow::bail!("{MAX_STEPS} steps were not enough")
}

/// Header, chunks and last signal are of one version.
async fn look(stack: &Stack, name: &str, steps: usize) -> Result<()> {
    let header = stack.header(name).await?;
    let header = header.ok_or_else(|| anyhow::anyhow!("no header after {steps} steps"))?;
    let wanted: Vec<u32> = match header.deleted {
        true => Vec::new(),
        false => (0..header.chunk_count.unwrap_or(0)).collect(),
    };
    let live = stack.live_chunks(name, 40).await?;
    ensure!(
        live == wanted,
        "cut off after {steps} steps: chunks {live:?} are left, the header tells of {wanted:?}"
    );
    let item = DocId::from_uri(&stack.uri(name)).to_string();
    let last = stack.last_signals().await?;
    let last = last.values().find(|signal| signal.item_id == item);
    let told = last.map(|signal| (signal.document_version, signal.deleted));
    ensure!(
        told == Some((header.version, header.deleted)),
        "cut off after {steps} steps: the last signal tells of {told:?}, the index has {} (deleted: {})",
        header.version,
        header.deleted
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_version_that_is_cut_off_leaves_no_chunk_of_the_longer_one() -> Result<()> {
    let mut stack = Stack::running().await?;
    cut_off_after_each_step(&mut stack, async |stack, name| {
        let long = stack.settle(&stack.put(name, text(60))?).await?;
        ensure!(long.chunks > 2, "{long:?}");
        stack.put(name, text(5))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_above_a_lying_one_that_is_cut_off_has_its_signal() -> Result<()> {
    let mut stack = Stack::running().await?;
    cut_off_after_each_step(&mut stack, async |stack, name| {
        let mut lying = stack.put(name, "Of a clock that is ahead.")?;
        lying.event_time_ms = now_ms() + 60_000;
        stack.settle(&lying).await?;
        stack.put(name, "What is there now.")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_above_a_lying_version_that_is_cut_off_has_its_signal() -> Result<()> {
    let mut stack = Stack::running().await?;
    cut_off_after_each_step(&mut stack, async |stack, name| {
        let mut lying = stack.put(name, text(30))?;
        lying.event_time_ms = now_ms() + 60_000;
        stack.settle(&lying).await?;
        stack.delete(name)
    })
    .await
}
