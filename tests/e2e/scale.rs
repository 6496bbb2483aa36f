//! Members are added and taken away while applications write.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn three_to_five_to_three_without_a_failed_write() -> Result<()> {
    in_namespace("scale", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        writers.go_on(&[At::Service]).await?;
        let mut before = Vec::new();
        for ordinal in ring.ordinals() {
            before.push(pod(&ring, ordinal).await?);
        }

        scale(&ring, 5).await?;
        ring.wait_closed("0→1→2→3→4→0").await?;
        ring.wait_ready().await?;
        writers.go_on(&[At::Service]).await?;
        let larger = Ring {
            members: 5,
            ..ring.clone()
        };
        let mut direct = Writers::at_members(&larger).await?;
        direct.go_on_everywhere().await?;
        direct.stop().await?;

        scale(&ring, 3).await?;
        ring.wait_closed("0→1→2→0").await?;
        ring.wait_ready().await?;
        eventually("two pods have gone", || async {
            let pods = ring.pods().list(&kube::api::ListParams::default()).await?;
            ensure!(pods.items.len() == 3, "{} pods", pods.items.len());
            Ok(())
        })
        .await?;
        writers.go_on(&[At::Service]).await?;
        for ordinal in ring.ordinals() {
            let now = pod(&ring, ordinal).await?;
            ensure!(
                now == before[usize::from(ordinal)],
                "{} was restarted",
                ring.member(ordinal)
            );
        }
        for volume in ["pvc/data-demo-3", "pvc/data-demo-4"] {
            kubectl(&["get", volume, "-n", &ring.namespace])
                .await
                .context("its volume stays")?;
        }
        ensure!(writers.failures() == 0, "{} writes failed", writers.failures());
        writers.settle().await?;
        direct.found_in(&ring).settle().await?;

        // Once more, on the volumes of those that left.
        scale(&ring, 4).await?;
        ring.wait_closed("0→1→2→3→0").await?;
        ring.wait_ready().await?;
        let larger = Ring {
            members: 4,
            ..ring.clone()
        };
        let direct = Writers::at_members(&larger).await?;
        direct.go_on_everywhere().await?;
        direct.settle().await.map(drop)
    })
    .await
}

async fn scale(ring: &Ring, members: u8) -> Result<()> {
    let replicas = format!("--replicas={members}");
    kubectl(&["scale", "mmc", &ring.name, "-n", &ring.namespace, &replicas])
        .await
        .map(drop)
}

/// Which pod it is, and how often its containers were restarted.
async fn pod(ring: &Ring, ordinal: u8) -> Result<(Option<String>, i32)> {
    let pod = ring.pod(ordinal).await?;
    let uid = pod.uid();
    let containers = pod
        .status
        .and_then(|status| status.container_statuses)
        .unwrap_or_default();
    Ok((uid, containers.iter().map(|container| container.restart_count).sum()))
}
