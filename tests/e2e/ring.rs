//! The smallest manifest becomes a ring, and kubectl tells the truth about it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::ListParams;
use multimaster::names;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, sql};

const CONDITIONS: [&str; 10] = [
    "Available",
    "ConflictFree",
    "Converged",
    "Degraded",
    "Paused",
    "Progressing",
    "Ready",
    "RingClosed",
    "Stalled",
    "VolumesHaveRoom",
];

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn the_smallest_manifest_becomes_a_ring() -> Result<()> {
    in_namespace("smallest", |world| async move {
        let ring = Ring::apply(&world, "demo", json!({"storage": {"size": "1Gi"}})).await?;
        let namespace = &world.namespace;
        kubectl(&[
            "wait",
            "--for=condition=Ready",
            "mmc/demo",
            "-n",
            namespace,
            "--timeout=300s",
        ])
        .await?;
        conditions_speak_of_this_generation(&ring).await?;
        columns(&ring).await?;
        identities(&ring).await?;
        encrypted(&ring).await?;
        endpoints(&ring).await
    })
    .await
}

pub async fn writes_arrive(ring: &Ring) -> Result<()> {
    // The first database and its user are there, and the user may use that database and no other.
    // kube-proxy learns the Service's endpoints in its own time, so the first connection may not come about.
    let service = ring.service_ip().await?;
    let mut app = eventually("a connection through the Service", || ring.app(&service)).await?;
    sql::run(
        &mut app,
        "CREATE TABLE app.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, m INT)",
    )
    .await?;
    let refused = sql::run(&mut app, "CREATE DATABASE other").await;
    ensure!(refused.is_err(), "the application's user may create databases");
    let grants: Vec<String> = sql::rows(&mut app, "SHOW GRANTS").await?;
    ensure!(
        grants
            .iter()
            .all(|grant| grant.contains("`app`") || grant.contains("USAGE")),
        "{grants:?}"
    );

    let places = [At::Member(0), At::Member(1), At::Member(2), At::Service];
    let writers = Writers::start(ring, places.to_vec()).await?;
    writers.go_on(&places).await?;
    writers.settle().await?;
    automatic_values_do_not_collide(ring).await
}

async fn conditions_speak_of_this_generation(ring: &Ring) -> Result<()> {
    let cluster = ring.get().await?;
    let status = cluster.status.context("no status")?;
    let types: BTreeSet<&str> = status
        .conditions
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect();
    ensure!(types == BTreeSet::from(CONDITIONS), "{types:?}");
    for type_ in CONDITIONS {
        let condition = ring.condition(type_).await?;
        ensure!(!condition.reason.is_empty(), "{condition:?}");
    }
    Ok(())
}

async fn columns(ring: &Ring) -> Result<()> {
    let table = kubectl(&["get", "mmc", "-n", &ring.namespace]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().context("no header")?;
    ensure!(
        header
            == [
                "NAME",
                "READY",
                "MEMBERS",
                "RING",
                "MAX-LAG",
                "CONFLICTS",
                "PHASE",
                "AGE"
            ],
        "{table}"
    );
    let row = lines.next().context("no row")?;
    ensure!(
        row.starts_with(&["demo", "True", "3/3", "0→1→2→0", "0", "0", "Running"]),
        "{table}"
    );
    let all = kubectl(&["get", "all", "-n", &ring.namespace]).await?;
    ensure!(all.contains("multimastercluster.multimaster.dev/demo"), "{all}");
    Ok(())
}

/// Each server has its own id and UUID, as its status says.
async fn identities(ring: &Ring) -> Result<()> {
    let status = ring.get().await?.status.context("no status")?;
    let mut seen = BTreeSet::new();
    for ordinal in ring.ordinals() {
        let mut root = ring.root(ordinal).await?;
        let id: u32 = sql::value(&mut root, "SELECT @@GLOBAL.server_id").await?;
        let uuid: String = sql::value(&mut root, "SELECT @@GLOBAL.server_uuid").await?;
        let said = status
            .member_statuses
            .get(usize::from(ordinal))
            .context("not in status")?;
        ensure!(
            said.server_id == Some(id) && said.server_uuid.as_deref() == Some(&uuid),
            "{id} {uuid} {said:?}"
        );
        ensure!(id & 15 == u32::from(ordinal) + 1, "{id} is not of member {ordinal}");
        ensure!(seen.insert(id), "two members have {id}");
    }
    Ok(())
}

/// Every upstream has a session of its downstream, and it is encrypted.
async fn encrypted(ring: &Ring) -> Result<()> {
    let query = format!(
        "SELECT s.variable_value FROM performance_schema.status_by_thread s \
         JOIN performance_schema.threads t USING (thread_id) \
         WHERE s.variable_name = 'Ssl_cipher' AND t.processlist_user = '{}'",
        names::accounts::LINK
    );
    for ordinal in ring.ordinals() {
        let mut root = ring.root(ordinal).await?;
        let ciphers: Vec<String> = sql::rows(&mut root, &query).await?;
        ensure!(
            ciphers.len() == 1 && !ciphers[0].is_empty(),
            "{} is read with {ciphers:?}",
            ring.member(ordinal)
        );
        let allowed = sql::column(&mut root, "SHOW REPLICA STATUS", "Source_SSL_Allowed").await?;
        let verified = sql::column(&mut root, "SHOW REPLICA STATUS", "Source_SSL_Verify_Server_Cert").await?;
        ensure!(allowed == "Yes" && verified == "Yes", "{allowed} {verified}");
    }
    Ok(())
}

/// The Service has the members as endpoints, all of them and nothing else.
async fn endpoints(ring: &Ring) -> Result<()> {
    eventually("three endpoints", || async {
        let api: Api<EndpointSlice> = Api::namespaced(ring.client.clone(), &ring.namespace);
        let selector = format!("kubernetes.io/service-name={}", ring.name);
        let slices = api.list(&ListParams::default().labels(&selector)).await?;
        let endpoints = slices
            .items
            .into_iter()
            .flat_map(|slice| slice.endpoints.unwrap_or_default());
        let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|it| it.ready) == Some(true));
        let addresses: BTreeSet<String> = ready.flat_map(|endpoint| endpoint.addresses).collect();
        let mut members = BTreeSet::new();
        for ordinal in ring.ordinals() {
            members.insert(ring.ip(ordinal).await?);
            ensure!(ring.serves(ordinal).await?, "{} has no label", ring.member(ordinal));
        }
        ensure!(addresses == members, "{addresses:?}, but {members:?}");
        Ok(())
    })
    .await
}

/// What was inserted at member n has an id that only member n gives.
async fn automatic_values_do_not_collide(ring: &Ring) -> Result<()> {
    let mut root = ring.root(0).await?;
    let query = "SELECT DISTINCT writer, id % 9 FROM app.writes WHERE writer < 9 ORDER BY writer";
    let offsets: Vec<(u64, u64)> = sql::rows(&mut root, query).await?;
    ensure!(offsets == [(0, 1), (1, 2), (2, 3)], "{offsets:?}");
    Ok(())
}
