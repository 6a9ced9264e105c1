//! On a real Kafka and OpenSearch.

use millrace_judge::schedule::TargetKind;

#[tokio::test(flavor = "multi_thread")]
async fn no_promise_is_broken_on_the_real_target() -> anyhow::Result<()> {
    super::judge(TargetKind::Real).await
}
