//! Members are fenced by an annotation, and opened again when it no longer names them.

use anyhow::{Result, ensure};
use multimaster::api::status::MemberState;
use multimaster::names::ANNOTATION_FENCE;
use serde_json::json;

use crate::support::eventually;
use crate::support::ring::Ring;
use crate::support::writers::{At, Writers};

pub async fn by_annotation(ring: &Ring) -> Result<()> {
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;

    annotate(ring, json!("demo-3")).await?;
    eventually("the wrong name is reported", || async {
        let progressing = ring.condition("Progressing").await?;
        ensure!(progressing.reason == "InvalidAnnotation", "{progressing:?}");
        ensure!(progressing.message.contains("\"demo-3\""), "{progressing:?}");
        Ok(())
    })
    .await?;
    writers.go_on_everywhere().await?;

    annotate(ring, json!("demo-1")).await?;
    eventually("member 1 is fenced", || async {
        ensure!(
            ring.state(1).await? == MemberState::Fenced,
            "{:?}",
            ring.state(1).await?
        );
        ensure!(!ring.serves(1).await?, "it serves");
        Ok(())
    })
    .await?;
    writers.go_on(&[At::Member(0), At::Member(2)]).await?;
    ring.wait_closed("0→1→2→0").await?;

    annotate(ring, json!(null)).await?;
    ring.wait_ready().await?;
    writers.go_on_everywhere().await?;
    writers.settle().await.map(drop)
}

async fn annotate(ring: &Ring, value: serde_json::Value) -> Result<()> {
    ring.patch(json!({"metadata": {"annotations": {ANNOTATION_FENCE: value}}}))
        .await
}
