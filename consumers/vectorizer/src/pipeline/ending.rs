//! How a notice ends: its dead letter where it has one, its outcome, its acknowledgement.

use std::time::Duration;

use millrace_kafka::Delivery;
use millrace_schemas::{DocId, DocumentOutcome, OutcomeKind, TraceParent};

use super::{Pipeline, Slot, Work};
use crate::decode::now_ms;
use crate::document::{Finished, Interrupted, Took};
use crate::failure::Refusal;
use crate::publish::PublishError;

impl Pipeline {
    pub(super) async fn refuse(&self, work: Work, refusal: &Refusal) -> Result<(), Interrupted> {
        tracing::warn!(
            stage = refusal.stage.as_str(),
            error_type = refusal.reason.error_type,
            message = refusal.reason.message,
            "dead letter"
        );
        self.stages
            .publisher
            .dead_letter(&work.delivery, refusal)
            .await?;
        let finished = Finished {
            outcome: OutcomeKind::DeadLettered,
            version: work.version.get(),
            chunks: 0,
            tokens: 0,
            took: Took::default(),
        };
        self.outcome(&work, &finished, Some(refusal)).await?;
        work.delivery.ack();
        Ok(())
    }

    /// A record that is no notice has no URI but its key, so its outcome goes under that.
    pub(super) async fn refuse_unread(
        &self,
        delivery: Delivery,
        _slot: Slot,
        refusal: Refusal,
    ) -> Result<(), Interrupted> {
        tracing::warn!(
            origin = %delivery.origin(),
            uri = delivery.key_text(),
            error_type = refusal.reason.error_type,
            message = refusal.reason.message,
            "dead letter"
        );
        self.stages
            .publisher
            .dead_letter(&delivery, &refusal)
            .await?;
        if let Some(uri) = delivery.key_text().filter(|key| !key.is_empty()) {
            let traceparent = delivery.event().and_then(|event| event.traceparent);
            let outcome = DocumentOutcome {
                doc_id: DocId::from_uri(&uri).into(),
                uri,
                outcome: OutcomeKind::DeadLettered,
                version: 0,
                chunks: 0,
                tokens: 0,
                fetch_ms: 0,
                extract_ms: 0,
                embed_ms: 0,
                index_ms: 0,
                total_ms: 0,
                error_type: Some(refusal.reason.error_type),
                message: Some(refusal.reason.message),
                traceparent: traceparent.map(|trace| trace.to_string()),
                origin: delivery.origin(),
                finished_at_ms: now_ms(),
            };
            if let Some(trace) =
                traceparent.or_else(|| TraceParent::new([1; 16], [1; 8], false).ok())
            {
                self.publish_outcome(&outcome, trace).await?;
            }
        }
        delivery.ack();
        Ok(())
    }

    pub(super) async fn supersede(&self, work: Work) -> Result<(), Interrupted> {
        let finished = Finished {
            outcome: OutcomeKind::Superseded,
            version: work.version.get(),
            chunks: 0,
            tokens: 0,
            took: Took::default(),
        };
        self.outcome(&work, &finished, None).await?;
        self.counters.finished(OutcomeKind::Superseded);
        work.delivery.ack();
        Ok(())
    }

    pub(super) async fn outcome(
        &self,
        work: &Work,
        finished: &Finished,
        refusal: Option<&Refusal>,
    ) -> Result<(), Interrupted> {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let outcome = DocumentOutcome {
            uri: work.notice.uri.clone(),
            doc_id: DocId::from_uri(&work.notice.uri).into(),
            outcome: finished.outcome,
            version: finished.version,
            chunks: i32::try_from(finished.chunks).unwrap_or(i32::MAX),
            tokens: i64::try_from(finished.tokens).unwrap_or(i64::MAX),
            fetch_ms: ms(finished.took.fetch),
            extract_ms: ms(finished.took.extract),
            embed_ms: ms(finished.took.embed),
            index_ms: ms(finished.took.index),
            total_ms: ms(work.received.elapsed()),
            error_type: refusal.map(|refusal| refusal.reason.error_type.clone()),
            message: refusal.map(|refusal| refusal.reason.message.clone()),
            traceparent: Some(work.trace.to_string()),
            origin: work.delivery.origin(),
            finished_at_ms: now_ms(),
        };
        self.publish_outcome(&outcome, work.trace).await
    }

    async fn publish_outcome(
        &self,
        outcome: &DocumentOutcome,
        trace: TraceParent,
    ) -> Result<(), Interrupted> {
        match self.stages.publisher.outcome(outcome, trace).await {
            // The document is done; that nobody can be told of it is no reason to do it again.
            Err(PublishError::Refused(refusal)) => {
                tracing::error!(message = refusal.reason.message, "an outcome was refused");
                Ok(())
            }
            done => done.map_err(Interrupted::from),
        }
    }
}
