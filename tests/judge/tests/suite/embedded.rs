//! On `millrace up`.

use millrace_judge::schedule::TargetKind;

#[tokio::test(flavor = "multi_thread")]
async fn no_promise_is_broken_on_the_embedded_target() -> anyhow::Result<()> {
    super::judge(TargetKind::Embedded).await
}
