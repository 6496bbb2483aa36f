//! A member that is cut off from everybody fences itself if the policy says so, and serves again when the cut is mended.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::support::network::isolate;
use crate::support::ring::Ring;
use crate::support::world::alone;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_member_that_is_cut_off_fences_itself_and_comes_back() -> Result<()> {
    alone("isolation", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        let pods = pods(&ring).await?;
        ring.patch(json!({"spec": {"isolation": {"policy": "Fence", "afterSeconds": 5}}}))
            .await?;
        ring.wait_ready().await?;
        writers.go_on_everywhere().await?;

        let cut = isolate(&ring, 1).await?;
        let fenced = fences_itself(&ring).await;
        let went_on = writers.go_on(&[At::Member(0), At::Member(2)]).await;
        cut.mend().await?;
        fenced.and(went_on)?;

        eventually("the operator tells of it", || async {
            let events = events(&ring).await?;
            let told = "demo-1 fenced itself: cut off for ";
            ensure!(events.contains(told), "{events}");
            Ok(())
        })
        .await?;
        ring.wait_ready().await?;
        writers.go_on_everywhere().await?;
        ensure!(pods == self::pods(&ring).await?, "a member was restarted");
        let events = events(&ring).await?;
        ensure!(
            !events.contains("demo-0") && !events.contains("demo-2"),
            "more than one has fenced itself: {events}"
        );
        writers.settle().await.map(drop)
    })
    .await
}

/// The member's node still reaches it, and nobody else does.
async fn fences_itself(ring: &Ring) -> Result<()> {
    eventually("member 1 fences itself", || async {
        let member = ring.member(1);
        let log = kubectl(&["logs", "-n", &ring.namespace, &member, "-c", "mysql"]).await?;
        let fenced = "cut off from the operator, the API server and every member for ";
        ensure!(log.contains(fenced), "not yet");
        Ok(())
    })
    .await
}

async fn events(ring: &Ring) -> Result<String> {
    kubectl(&[
        "get",
        "events",
        "-n",
        &ring.namespace,
        "--field-selector=reason=MemberFencedItself",
        "-o",
        "jsonpath={.items[*].message}",
    ])
    .await
}

async fn pods(ring: &Ring) -> Result<Vec<Option<String>>> {
    let mut pods = Vec::new();
    for ordinal in ring.ordinals() {
        pods.push(ring.pod(ordinal).await?.metadata.uid);
    }
    Ok(pods)
}
