//! A volume is lost: its member is rebuilt as a copy of another, as a new server.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;

use crate::support::history::History;
use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, sql};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_lost_volume_is_rebuilt() -> Result<()> {
    in_namespace("volume", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        let history = History::of(&ring).await?;
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        let status = ring.get().await?.status.context("no status")?;
        let (uuid, id) = (
            status.member_statuses[1].server_uuid.clone(),
            status.member_statuses[1].server_id,
        );
        let pod = ring.pod(1).await?.uid();

        kubectl(&[
            "delete",
            "pvc/data-demo-1",
            "pod/demo-1",
            "-n",
            &ring.namespace,
            "--wait=false",
        ])
        .await?;
        writers.go_on(&[At::Member(0), At::Member(2)]).await?;
        history.went_and_came_back("demo-1", 0).await?;
        ring.wait_ready().await?;
        ensure!(ring.pod(1).await?.uid() != pod, "the pod was not replaced");
        writers.go_on_everywhere().await?;

        let mut root = ring.root(1).await?;
        let cloned: String = sql::value(&mut root, "SELECT state FROM performance_schema.clone_status").await?;
        ensure!(cloned == "Completed", "{cloned}");
        eventually("the new life in status", || async {
            let status = ring.get().await?.status.context("no status")?;
            let member = &status.member_statuses[1];
            ensure!(member.server_uuid.is_some() && member.server_uuid != uuid, "{member:?}");
            ensure!(member.server_id.is_some() && member.server_id != id, "{member:?}");
            ensure!(
                uuid.iter().all(|uuid| member.former_server_uuids.contains(uuid)),
                "{member:?}"
            );
            Ok(())
        })
        .await?;
        writers.settle().await.map(drop)
    })
    .await
}
