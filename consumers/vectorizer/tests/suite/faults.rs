//! An index that fails in the middle: what was applied and not answered, cut off, refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use anyhow::{Result, ensure};
use millrace_index::SearchIndex;
use millrace_schemas::{DocId, OutcomeKind};

use crate::faulty::{Fault, Faulty};
use crate::stack::{Stack, Target, eventually, on_both_targets, text};

on_both_targets! {
    a_lost_answer_is_sent_again_and_its_signal_is_there,
    what_was_killed_between_bulk_and_signal_has_its_signal_after_a_restart,
    one_oversize_document_is_a_dead_letter_and_its_neighbours_pass,
}

async fn a_lost_answer_is_sent_again_and_its_signal_is_there(target: Target) -> Result<()> {
    let mut stack = Stack::idle_on(target).await?;
    let faulty = Faulty::new(&stack.index, Fault::LostAnswers(AtomicU32::new(2)));
    stack
        .start_with(Arc::clone(&faulty) as Arc<dyn SearchIndex>)
        .await?;
    let outcome = stack.settle(&stack.put("a.txt", text(20))?).await?;
    ensure!(outcome.outcome == OutcomeKind::Indexed, "{outcome:?}");
    ensure!(faulty.applied() >= 3, "{} times", faulty.applied());
    let header = stack.header("a.txt").await?.expect("a header");
    ensure!(
        header.version == outcome.version,
        "the same version was written again"
    );
    ensure!(stack.live_chunks("a.txt", 20).await?.len() == outcome.chunks as usize);
    let signals = stack.signals().await?;
    ensure!(signals.len() == 1 && signals[0].document_version == header.version);
    ensure!(stack.dead_letters().await?.is_empty());
    // Acknowledged: what comes after a restart is only what is new.
    ensure!(stack.stop(crate::stack::DEADLINE).await == 0);
    stack.start().await?;
    stack.settle(&stack.put("b.txt", "Another one.")?).await?;
    ensure!(stack.outcomes().await?.len() == 2);
    Ok(())
}

async fn what_was_killed_between_bulk_and_signal_has_its_signal_after_a_restart(
    target: Target,
) -> Result<()> {
    let mut stack = Stack::idle_on(target).await?;
    let faulty = Faulty::new(&stack.index, Fault::NoAnswers);
    stack
        .start_with(Arc::clone(&faulty) as Arc<dyn SearchIndex>)
        .await?;
    let origin = stack
        .publish(&stack.put("a.txt", "Written, not told.")?)
        .await?;
    eventually("the index has it", async || Ok(faulty.applied() > 0)).await?;
    let written = stack.header("a.txt").await?.expect("a header");
    ensure!(stack.signals().await?.is_empty() && stack.outcomes().await?.is_empty());
    // No time to drain: as good as a kill.
    ensure!(stack.stop(Duration::ZERO).await > 0);
    ensure!(stack.signals().await?.is_empty());

    stack.start().await?;
    let outcome = stack.outcome(&origin).await?;
    ensure!(
        (outcome.outcome, outcome.version) == (OutcomeKind::Indexed, written.version),
        "{outcome:?}"
    );
    let key = format!("{}@{}", written.doc_id, stack.encoder.version());
    let signals = stack.last_signals().await?;
    let signal = signals.get(&key).expect("a signal");
    ensure!(
        signal.document_version == written.version && !signal.deleted,
        "{signal:?}"
    );
    Ok(())
}

async fn one_oversize_document_is_a_dead_letter_and_its_neighbours_pass(
    target: Target,
) -> Result<()> {
    let mut stack = Stack::idle_on(target).await?;
    // Less than two ordinary documents: requests of several are halved down to one.
    let faulty = Faulty::new(&stack.index, Fault::TooLarge { text_bytes: 400 });
    stack.start_with(faulty as Arc<dyn SearchIndex>).await?;
    let mut origins = Vec::new();
    for number in 0..12 {
        let sentences = if number == 7 { 13 } else { 5 };
        let notice = stack.put(&format!("{number}.txt"), text(sentences))?;
        origins.push(stack.publish(&notice).await?);
    }
    for (number, origin) in origins.iter().enumerate() {
        if number == 7 {
            let letter = stack.dead_letter(origin).await?;
            ensure!(
                letter.stage == "index" && letter.http_status == Some(413),
                "{letter:?}"
            );
            continue;
        }
        let outcome = stack.outcome(origin).await?;
        ensure!(
            outcome.outcome == OutcomeKind::Indexed,
            "{number}: {outcome:?}"
        );
    }
    ensure!(stack.dead_letters().await?.len() == 1);
    Ok(())
}

/// The halt is the sink's, above both adapters.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_index_halts_the_pipeline_without_a_flood() -> Result<()> {
    let mut stack = Stack::idle().await?;
    let faulty = Faulty::new(&stack.index, Fault::Poison(AtomicBool::new(true)));
    let mut names = Vec::new();
    let mut origins = Vec::new();
    for number in 0..200 {
        let name = format!("{number}.txt");
        let notice = stack.put(&name, format!("Document number {number}."))?;
        origins.push(stack.publish(&notice).await?);
        names.push(name);
    }
    stack
        .start_with(Arc::clone(&faulty) as Arc<dyn SearchIndex>)
        .await?;
    eventually("the sink is halted", async || Ok(stack.is_halted())).await?;
    let before = stack.dead_letters().await?.len();
    ensure!(before <= 50, "{before} dead letters");
    faulty.repair();
    let mut indexed = 0;
    for origin in &origins {
        match stack.outcome(origin).await?.outcome {
            OutcomeKind::Indexed => indexed += 1,
            OutcomeKind::DeadLettered => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    let letters = stack.dead_letters().await?.len();
    ensure!(
        letters <= 50 && indexed + letters == 200,
        "{indexed} and {letters}"
    );
    let found = names
        .iter()
        .map(|name| DocId::from_uri(&stack.uri(name)).to_string());
    let headers = stack.index.get(&found.collect::<Vec<_>>()).await?;
    ensure!(headers.into_iter().flatten().count() == indexed);
    Ok(())
}
