//! A changed configuration reaches the members one at a time, and no application notices.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use multimaster::api::status::MemberState;
use serde_json::json;

use crate::support::history::History;
use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, sql};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_configuration_reaches_one_member_at_a_time() -> Result<()> {
    in_namespace("restart", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        let history = History::of(&ring).await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        writers.go_on(&[At::Service]).await?;
        let mut before = Vec::new();
        for ordinal in ring.ordinals() {
            before.push(ring.pod(ordinal).await?.uid());
        }
        let mut held = ring.app(&ring.ip(2).await?).await?;
        ring.patch(json!({"spec": {"mysql": {"config": {"max_connections": "123"}}}}))
            .await?;
        eventually("the first one is out of the Service and still runs", || async {
            let state = ring.state(2).await?;
            ensure!(state == MemberState::Draining && !ring.serves(2).await?, "{state:?}");
            Ok(())
        })
        .await?;
        // Its clients have half a minute, and it takes what they write.
        let farewell = "INSERT INTO app.writes (writer, seq) VALUES (102, 0)";
        sql::run(&mut held, farewell)
            .await
            .context("who was with the member that is restarted could not finish")?;
        drop(held);
        for ordinal in [2, 1, 0] {
            history.went_and_came_back(&ring.member(ordinal), 0).await?;
            writers.go_on(&[At::Service]).await?;
        }
        ring.wait_ready().await?;
        for ordinal in ring.ordinals() {
            let mut root = ring.root(ordinal).await?;
            let connections: u64 = sql::value(&mut root, "SELECT @@GLOBAL.max_connections").await?;
            ensure!(connections == 123, "{}: {connections}", ring.member(ordinal));
            ensure!(
                ring.pod(ordinal).await?.uid() != before[usize::from(ordinal)],
                "the pod was not replaced"
            );
        }
        ensure!(
            history.order() == ["demo-2", "demo-1", "demo-0"],
            "{:?}",
            history.changes()
        );
        ensure!(history.most_absent() == 1, "{:?}", history.changes());
        eventually("nothing is left to restart", || async {
            let progressing = ring.condition("Progressing").await?;
            ensure!(
                progressing.status == "False" && progressing.reason == "Stable",
                "{progressing:?}"
            );
            Ok(())
        })
        .await?;
        ensure!(writers.failures() == 0, "{} writes failed", writers.failures());
        writers.settle().await?;
        for mut conn in ring.roots().await? {
            let found: u8 = sql::value(&mut conn, "SELECT COUNT(*) FROM app.writes WHERE writer = 102").await?;
            ensure!(found == 1, "the last write before the restart was found {found} times");
        }
        Ok(())
    })
    .await
}
