//! A ring of an earlier operator and its agents is upgraded while clients write and a member is away, and goes back again.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use multimaster::api::status::MemberState;
use multimaster::names::{self, ANNOTATION_FENCE};
use serde_json::{Value, json};

use super::open_conflicts;
use crate::single_writer::{moved, writer};
use crate::support::ring::Ring;
use crate::support::world::{World, alone};
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, operator, sql, uncordon};

/// What the earlier operator was installed with.
const EARLIER_CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upgrade/b2239ad/crds.yaml");
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/multimasterclusters.yaml");

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_ring_is_upgraded_under_writes_and_goes_back() -> Result<()> {
    alone("upgrade", |world| async move {
        let (earlier, today) = (operator::earlier_image()?, operator::image().await?);
        ensure!(earlier != today, "the operator is {today} already");
        let result = there_and_back(&world, &earlier, &today).await;
        // The next test is about this version again, whatever became of this one.
        let restored = async {
            install(CRDS).await?;
            operator::roll(&today).await
        };
        let restored = restored.await;
        result.and(restored)
    })
    .await
}

async fn there_and_back(world: &World, earlier: &str, today: &str) -> Result<()> {
    install(EARLIER_CRDS).await?;
    operator::scale(1).await?;
    operator::roll(earlier).await?;
    let ring = Ring::ready(world, "demo", 3, json!({"failureDetection": {"holdOutSeconds": 0}})).await?;
    ensure!(
        agents(&ring).await?.iter().all(|agent| agent == earlier),
        "other agents"
    );
    let writers = Writers::start(&ring, vec![At::Service]).await?;
    writers.go_on(&[At::Service]).await?;
    let before = show("before", &ring, &writers).await?;

    let epoch = epoch(&ring).await?;
    up(&ring, &writers, earlier, today).await?;
    let between = show("upgraded", &ring, &writers).await?;
    ensure!(between[&1] != before[&1], "member 1 has lost its volume and is no copy");
    ensure!(
        between[&0] == before[&0] && between[&2] == before[&2],
        "a member was rebuilt"
    );

    down(&ring, &writers, earlier, today).await?;
    let after = show("back again", &ring, &writers).await?;
    ensure!(after == between, "a member was rebuilt");
    ensure!(
        agents(&ring).await?.iter().all(|agent| agent == earlier),
        "other agents"
    );
    // Six times a member was away for a while. A status that is not read as it was written has the ring closed anew in every pass.
    let closed = self::epoch(&ring).await? - epoch;
    ensure!(closed < 60, "the ring was closed {closed} times");
    let safe = writers.settle().await?;
    eprintln!("{safe} writes were acknowledged; each is on every member, rows and GTID sets are equal");

    open_conflicts::leave(&ring).await?;
    install(CRDS).await?;
    operator::set(today, 0).await?;
    operator::scale(1).await?;
    operator::lead(today).await?;
    open_conflicts::settled(&ring).await
}

/// Member 1 is away, and has lost its volume when it comes back; member 0 is fenced. Agents and operators of both versions are at work.
async fn up(ring: &Ring, writers: &Writers, earlier: &str, today: &str) -> Result<()> {
    let service = [At::Service];
    ring.away(1).await?;
    install(CRDS).await?;
    take_over(writers, earlier, today).await?;

    fence(ring, json!("demo-0")).await?;
    eventually("member 0 is fenced", || async {
        let state = ring.state(0).await?;
        ensure!(state == MemberState::Fenced && !ring.serves(0).await?, "{state:?}");
        Ok(())
    })
    .await?;
    writers.go_on(&service).await?;
    let (claim, pod) = (
        format!("pvc/data-{}", ring.member(1)),
        format!("pod/{}", ring.member(1)),
    );
    kubectl(&["delete", "-n", &ring.namespace, "--wait=false", &claim, &pod]).await?;
    uncordon().await?;
    eventually(
        "member 1 is a copy, and agents of both versions are in the ring",
        || async {
            let state = ring.state(1).await?;
            ensure!(state == MemberState::Serving, "{state:?}");
            let agents = agents(ring).await?;
            ensure!(agents[1] == today && agents[2] == earlier, "{agents:?}");
            Ok(())
        },
    )
    .await?;
    writers.go_on(&service).await?;
    eventually("member 0 has its agent and is fenced", || async {
        let (state, agents) = (ring.state(0).await?, agents(ring).await?);
        ensure!(
            state == MemberState::Fenced && agents[0] == today,
            "{state:?}, {agents:?}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        agents(ring).await?[2] == earlier,
        "two members were restarted at a time"
    );
    fence(ring, json!(null)).await?;
    all_have(ring, today).await?;
    writers.go_on(&service).await
}

/// With one writer, which the agents of both versions are told of, and confirm to each other. Its server dies meanwhile.
async fn down(ring: &Ring, writers: &Writers, earlier: &str, today: &str) -> Result<()> {
    let service = [At::Service];
    // On two cores a writer may not be confirmed for three seconds, the default.
    let one = json!({"spec": {"writes": "SingleWriter", "isolation": {"leaseSeconds": 10}}});
    ring.patch(one).await?;
    ring.wait_ready().await?;
    writers.go_on(&service).await?;
    let first = writer(ring).await?;
    // Whoever is fenced is restarted first; the others wait for it to serve.
    let fenced = (first + 1) % ring.members;
    fence(ring, json!(ring.member(fenced))).await?;
    take_over(writers, today, earlier).await?;
    eventually("the fenced member has its agent, and no other", || async {
        let (state, agents) = (ring.state(fenced).await?, agents(ring).await?);
        let ready = state == MemberState::Fenced && agents[usize::from(fenced)] == earlier;
        ensure!(ready, "{state:?}, {agents:?}");
        let others = agents.iter().filter(|agent| *agent == today);
        ensure!(others.count() == 2, "two members were restarted at a time: {agents:?}");
        Ok(())
    })
    .await?;
    ring.kill_mysqld(first).await?;
    let second = moved(ring, first).await?;
    ensure!(second != fenced, "the writer was to be fenced");
    writers.go_on(&service).await?;
    fence(ring, json!(null)).await?;
    all_have(ring, earlier).await?;
    writers.go_on(&service).await?;
    ring.patch(json!({"spec": {"writes": "AllMembers"}})).await?;
    ring.wait_ready().await?;
    eventually("every member serves", || async {
        for ordinal in ring.ordinals() {
            let state = ring.state(ordinal).await?;
            ensure!(state == MemberState::Serving, "member {ordinal} is {state:?}");
        }
        Ok(())
    })
    .await?;
    writers.go_on(&service).await
}

/// A rollout from one operator to the other, which stops while both are there: first the one leads and the other waits, then the reverse.
async fn take_over(writers: &Writers, from: &str, to: &str) -> Result<()> {
    operator::roll_halfway(to).await?;
    operator::lead(from).await?;
    operator::passes(3.0).await?;
    writers.go_on(&[At::Service]).await?;
    operator::lead(to).await?;
    operator::beside(from).await?;
    operator::passes(3.0).await?;
    writers.go_on(&[At::Service]).await?;
    operator::roll(to).await
}

/// The images that the members' agents are from, by ordinal.
async fn agents(ring: &Ring) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for ordinal in ring.ordinals() {
        images.push(agent(&ring.pod(ordinal).await?).context("a pod without an agent")?);
    }
    Ok(images)
}

fn agent(pod: &Pod) -> Option<String> {
    let mut containers = pod.spec.as_ref()?.init_containers.iter().flatten();
    containers
        .find(|container| container.name == names::AGENT_INIT_CONTAINER)?
        .image
        .clone()
}

/// Waits until the agents have reached every member, one at a time, and all serve.
async fn all_have(ring: &Ring, image: &str) -> Result<()> {
    eventually(&format!("every member has the agent of {image}"), || async {
        let agents = agents(ring).await?;
        ensure!(agents.iter().all(|agent| agent == image), "{agents:?}");
        let progressing = ring.condition("Progressing").await?;
        ensure!(progressing.reason == "Stable", "{progressing:?}");
        Ok(())
    })
    .await?;
    ring.wait_ready().await
}

async fn fence(ring: &Ring, member: Value) -> Result<()> {
    ring.patch(json!({"metadata": {"annotations": {ANNOTATION_FENCE: member}}}))
        .await
}

/// As `helm` does it, so that it finds them as its own afterwards.
async fn install(crds: &str) -> Result<()> {
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=helm",
        "-f",
        crds,
    ];
    kubectl(&arguments).await.map(drop)
}

async fn epoch(ring: &Ring) -> Result<i64> {
    Ok(ring.get().await?.status.context("no status")?.epoch)
}

/// Prints what there is; the server UUIDs by ordinal. Every member serves.
async fn show(when: &str, ring: &Ring, writers: &Writers) -> Result<BTreeMap<u8, String>> {
    let mut uuids = BTreeMap::new();
    let (safe, epoch) = (writers.safe(At::Service), epoch(ring).await?);
    eprintln!("--- {when}: {safe} writes acknowledged, epoch {epoch}");
    for ordinal in ring.ordinals() {
        let mut root = ring.root(ordinal).await?;
        let uuid: String = sql::value(&mut root, "SELECT @@GLOBAL.server_uuid").await?;
        let rows: u64 = sql::value(&mut root, "SELECT COUNT(*) FROM app.writes").await?;
        let (state, agent) = (ring.state(ordinal).await?, agent(&ring.pod(ordinal).await?));
        let agent = agent.unwrap_or_default();
        eprintln!(
            "    {} {state:?} {uuid} {rows} rows, agent of {agent}",
            ring.member(ordinal)
        );
        ensure!(state == MemberState::Serving, "member {ordinal} is {state:?}");
        uuids.insert(ordinal, uuid);
    }
    Ok(uuids)
}
