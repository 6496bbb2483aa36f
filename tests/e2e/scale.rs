//! Members are added and taken away while applications write.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use multimaster::names;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, sql};

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

/// HAProxy takes a member in and lets it go while it runs, and who is with the one that goes may finish.
#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn haproxy_follows_three_to_four_to_three_without_a_reload() -> Result<()> {
    in_namespace("haproxy", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({"balancer": {"type": "HAProxy"}})).await?;
        let service = ring.service_ip().await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        writers.go_on(&[At::Service]).await?;
        let before = eventually("HAProxy's processes", || processes(&ring)).await?;

        scale(&ring, 4).await?;
        ring.wait_closed("0→1→2→3→0").await?;
        ring.wait_ready().await?;
        let member = ring.member(3);
        let mut held = eventually("a session with the new member", || async {
            let mut conn = ring.app(&service).await?;
            let reached: String = sql::value(&mut conn, "SELECT @@hostname").await?;
            ensure!(reached == member, "{reached}");
            Ok(conn)
        })
        .await?;

        scale(&ring, 3).await?;
        eventually("the member that leaves has no label", || async {
            ensure!(!ring.serves(3).await?, "it still serves");
            Ok(())
        })
        .await?;
        // The label is first; what HAProxy was told shows in where it sends others.
        eventually("nothing new comes to it", || async {
            let reached = ring.reached(&service).await?;
            ensure!(!reached.contains(&member), "{reached:?}");
            Ok(())
        })
        .await?;
        // Its clients have half a minute, and it takes what they write.
        let farewell = "INSERT INTO app.writes (writer, seq) VALUES (103, 0)";
        sql::run(&mut held, farewell)
            .await
            .context("who was with the member that leaves could not finish")?;
        drop(held);
        ring.wait_closed("0→1→2→0").await?;
        ring.wait_ready().await?;
        writers.go_on(&[At::Service]).await?;
        let after = processes(&ring).await?;
        ensure!(after == before, "HAProxy was reloaded: {before:?}, then {after:?}");
        ensure!(writers.failures() == 0, "{} writes failed", writers.failures());
        writers.settle().await?;
        for mut conn in ring.roots().await? {
            let found: u8 = sql::value(&mut conn, "SELECT COUNT(*) FROM app.writes WHERE writer = 103").await?;
            ensure!(
                found == 1,
                "the last write at the member that left was found {found} times"
            );
        }
        Ok(())
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
type Life = (Option<String>, i32);

async fn pod(ring: &Ring, ordinal: u8) -> Result<Life> {
    Ok(life(ring.pod(ordinal).await?))
}

fn life(pod: Pod) -> Life {
    let uid = pod.uid();
    let containers = pod
        .status
        .and_then(|status| status.container_statuses)
        .unwrap_or_default();
    (uid, containers.iter().map(|container| container.restart_count).sum())
}

/// In each of HAProxy's pods two processes: the master and the worker. A reload makes another worker.
async fn processes(ring: &Ring) -> Result<BTreeMap<String, (Life, Vec<String>)>> {
    let script = r#"for p in /proc/[0-9]*; do
            read -r name <"$p/comm" && [ "$name" = haproxy ] && echo "${p#/proc/}"
        done 2>/dev/null; true"#;
    let mut processes = BTreeMap::new();
    for pod in ring.balancers().await? {
        let (name, container) = (pod.name_any(), names::HAPROXY_CONTAINER);
        let command = [
            "exec",
            "-n",
            &ring.namespace,
            &name,
            "-c",
            container,
            "--",
            "sh",
            "-c",
            script,
        ];
        let ids: Vec<String> = kubectl(&command).await?.lines().map(Into::into).collect();
        ensure!(ids.len() == 2, "{name}: {ids:?}");
        processes.insert(name, (life(pod), ids));
    }
    ensure!(processes.len() == 2, "{processes:?}");
    Ok(processes)
}
