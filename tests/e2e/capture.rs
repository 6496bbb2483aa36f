//! Keeps what the deployed operator and its agents write, for `tests/upgrade`: run with the operator of a commit whose rings are to go on,
//! `CAPTURE=$PWD/tests/upgrade/<commit> MULTIMASTER_TEST_CONTEXT=kind-multimaster cargo test --test e2e -- --ignored capture::`.
//! What exists for moments only is written by that commit's own code: `cargo test --test upgrade -- --ignored write`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use multimaster::api::status::MemberState;
use multimaster::mysql::gtid::GtidSet;
use multimaster::names::{self, ANNOTATION_COMPARE, ANNOTATION_SETTLE, keys};
use multimaster::wire::agent::PATH_REPORT;
use multimaster::wire::balancer;
use multimaster::wire::history::PATH_HISTORY;
use multimaster::wire::io::client::AgentClient;
use mysql_async::{Row, Value as Sql};
use serde_json::{Map, Value, json};

use crate::conflicts::{apart, run_at};
use crate::support::ring::Ring;
use crate::support::world::{World, alone};
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, sql, uncordon};

const DEADLINE: Duration = Duration::from_secs(10);
const TABLE: &str = "CREATE TABLE app.orders (id INT PRIMARY KEY, who VARCHAR(20), code INT UNIQUE, note VARCHAR(20))";
/// All columns of `multimaster.conflicts` as a client reads them.
const RECORDS: &str = "SELECT * FROM multimaster.conflicts ORDER BY seen_at, observer, gtid";

#[tokio::test]
#[ignore = "writes what tests/upgrade reads: CAPTURE=FOLDER"]
async fn everything_that_a_ring_leaves_behind() -> Result<()> {
    alone("capture", |world| async move {
        changed(&world).await?;
        conflicting(&world).await?;
        one_writer(&world).await?;
        by_position(&world).await
    })
    .await
}

/// A ring with a copy in it; after a comparison; while a member drains; with one that is away and was too often.
async fn changed(world: &World) -> Result<()> {
    let ring = Ring::ready(world, "plain", 3, json!({})).await?;
    written(&ring).await?;
    let life = ring.server_uuid(1).await?;
    let (claim, pod) = (
        format!("pvc/data-{}", ring.member(1)),
        format!("pod/{}", ring.member(1)),
    );
    kubectl(&["delete", "-n", &ring.namespace, "--wait=false", &claim, &pod]).await?;
    eventually("member 1 is a copy", || async {
        ensure!(ring.server_uuid(1).await? != life, "it has its volume");
        let state = ring.state(1).await?;
        ensure!(state == MemberState::Serving, "{state:?}");
        Ok(())
    })
    .await?;
    ring.wait_ready().await?;
    keep(&ring, "serving").await?;

    let mut root = ring.root(1).await?;
    sql::run(&mut root, "SET sql_log_bin = 0").await?;
    sql::run(
        &mut root,
        "UPDATE app.writes SET changes = 77 WHERE writer = 100 AND seq = 1",
    )
    .await?;
    annotate(&ring, ANNOTATION_COMPARE, json!("2026-01-02")).await?;
    eventually("members were compared", || async {
        let comparison = ring.get().await?.status.and_then(|status| status.comparison);
        ensure!(comparison.is_some_and(|found| found.differing > 0), "not yet");
        Ok(())
    })
    .await?;
    keep(&ring, "compared").await?;

    let held = ring.app(&ring.ip(2).await?).await?;
    let config = json!({"mysql": {"config": {"innodb_buffer_pool_size": "32M", "max_connections": "123"}}});
    ring.patch(json!({"spec": config})).await?;
    in_state(&ring, 2, MemberState::Draining).await?;
    keep(&ring, "draining").await?;
    drop(held);
    eventually("all have the new configuration", || async {
        let progressing = ring.condition("Progressing").await?;
        ensure!(progressing.reason == "Stable", "{progressing:?}");
        Ok(())
    })
    .await?;

    ring.away(1).await?;
    uncordon().await?;
    ring.wait_ready().await?;
    ring.away(1).await?;
    keep(&ring, "away").await?;
    uncordon().await?;
    in_state(&ring, 1, MemberState::Returning).await?;
    keep(&ring, "held-out").await?;
    ring.delete().await
}

/// A conflict that is settled, and one that waits for a person. What the records say on the way is kept too.
async fn conflicting(world: &World) -> Result<()> {
    let ring = Ring::ready(world, "halt", 3, json!({})).await?;
    run_at(&ring, 0, TABLE).await?;
    eventually("the table is everywhere", || async {
        for ordinal in ring.ordinals() {
            run_at(&ring, ordinal, "DO (SELECT COUNT(*) FROM app.orders)").await?;
        }
        Ok(())
    })
    .await?;
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let watches: Vec<_> = ring
        .ordinals()
        .map(|n| tokio::spawn(watch(ring.clone(), n, seen.clone())))
        .collect();
    disagree(&ring, 7).await?;
    settle(&ring).await?;
    disagree(&ring, 8).await?;
    eventually("the second one waits", || async {
        let free = ring.condition("ConflictFree").await?;
        ensure!(free.message.contains(ANNOTATION_SETTLE), "{free:?}");
        Ok(())
    })
    .await?;
    keep(&ring, "conflicts").await?;
    settle(&ring).await?;
    watches.iter().for_each(|watch| watch.abort());
    let seen = seen.lock().map_err(|_| anyhow::anyhow!("a watch has failed"))?.clone();
    let all: Vec<Value> = seen
        .iter()
        .map(|row| serde_json::from_str(row))
        .collect::<Result<_, _>>()?;
    let stages: BTreeSet<&str> = all.iter().filter_map(|record| record["stage"].as_str()).collect();
    eprintln!("{} states of records, stages: {stages:?}", all.len());
    write("rings/conflicts/on-the-way.json", &json!(all))?;
    ring.delete().await
}

/// The same table is created on both sides, and the same rows are written.
async fn disagree(ring: &Ring, id: u32) -> Result<()> {
    apart(ring, async |ring| {
        for ordinal in [0, 1] {
            let create = format!("CREATE TABLE app.same_{id} (id INT PRIMARY KEY)");
            run_at(ring, ordinal, &create).await?;
            let insert =
                format!("INSERT INTO app.orders VALUES ({id}, 'at {ordinal}', {id}{ordinal}, 'O''Neil; \"x\"')");
            run_at(ring, ordinal, &insert).await?;
        }
        Ok(())
    })
    .await
}

/// A person names the winner of each conflict that the ring has.
async fn settle(ring: &Ring) -> Result<()> {
    eventually("all is settled", || async {
        let free = ring.condition("ConflictFree").await?;
        let mut root = ring.root(0).await?;
        let seen: u64 = sql::value(&mut root, "SELECT COUNT(*) FROM multimaster.conflicts").await?;
        if free.status == "True" && seen > 0 {
            return Ok(());
        }
        let before = format!("{ANNOTATION_SETTLE}=");
        let ids = free.message.split(&before).skip(1);
        let orders: Vec<String> = ids.map(|rest| format!("{}={}", &rest[..8], ring.member(1))).collect();
        if !orders.is_empty() {
            annotate(ring, ANNOTATION_SETTLE, json!(orders.join(","))).await?;
        }
        Err(anyhow::anyhow!("{free:?}"))
    })
    .await?;
    annotate(ring, ANNOTATION_SETTLE, Value::Null).await?;
    ring.wait_ready().await
}

/// Everything that the records of a member ever say.
async fn watch(ring: Ring, ordinal: u8, seen: Arc<Mutex<BTreeSet<String>>>) -> Result<()> {
    let mut root = ring.root(ordinal).await?;
    loop {
        let rows: Vec<Row> = sql::rows(&mut root, RECORDS).await?;
        if let Ok(mut seen) = seen.lock() {
            seen.extend(rows.iter().map(|row| columns(row).to_string()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn one_writer(world: &World) -> Result<()> {
    let balancer =
        json!({"type": "HAProxy", "sticky": true, "maxConnections": 100, "members": [{"ordinal": 1, "weight": 50}]});
    let spec =
        json!({"writes": "SingleWriter", "maxLagSeconds": 60, "balancer": balancer, "isolation": {"leaseSeconds": 10}});
    let ring = Ring::ready(world, "writer", 3, spec).await?;
    written(&ring).await?;
    keep(&ring, "single-writer").await?;
    ring.delete().await
}

async fn by_position(world: &World) -> Result<()> {
    let spec = json!({"replication": {"positioning": "FilePosition"}, "storage": {"size": "1Gi", "reclaim": "Delete"}});
    let ring = Ring::ready(world, "position", 3, spec).await?;
    written(&ring).await?;
    eventually("positions are in status", || async {
        let status = ring.get().await?.status.context("no status")?;
        let positions = status.member_statuses.iter().flat_map(|member| &member.links);
        ensure!(
            positions.filter(|link| link.position.is_some()).count() == 3,
            "{status:?}"
        );
        Ok(())
    })
    .await?;
    keep(&ring, "file-position").await?;
    ring.delete().await
}

/// Clients have written, and have stopped: what is kept of members one after another is one state.
async fn written(ring: &Ring) -> Result<()> {
    let mut writers = Writers::start(ring, vec![At::Service]).await?;
    writers.go_on(&[At::Service; 3]).await?;
    writers.stop().await
}

async fn in_state(ring: &Ring, ordinal: u8, wanted: MemberState) -> Result<()> {
    eventually(&format!("member {ordinal} is {wanted:?}"), || async {
        let state = ring.state(ordinal).await?;
        ensure!(state == wanted, "{state:?}");
        Ok(())
    })
    .await
}

async fn annotate(ring: &Ring, name: &str, value: Value) -> Result<()> {
    ring.patch(json!({"metadata": {"annotations": {name: value}}})).await
}

/// Status has what the servers have.
async fn recorded(ring: &Ring) -> Result<()> {
    eventually("all that the servers have executed is recorded", || async {
        let status = ring.get().await?.status.context("no status")?;
        for (ordinal, member) in ring.ordinals().zip(status.member_statuses) {
            let Ok(mut root) = ring.root(ordinal).await else {
                continue;
            };
            let executed: String = sql::value(&mut root, "SELECT @@gtid_executed").await?;
            let (executed, known): (GtidSet, GtidSet) = (executed.parse()?, member.gtid_executed.parse()?);
            ensure!(executed == known, "{}: {executed}, recorded {known}", member.name);
        }
        Ok(())
    })
    .await
}

/// Writes all that there is of a ring.
async fn keep(ring: &Ring, case: &str) -> Result<()> {
    recorded(ring).await?;
    let resource = object(ring, "mmc", &ring.name).await?;
    let folder = format!("rings/{case}");
    write(&format!("{folder}/resource.json"), &resource)?;
    write(
        &format!("{folder}/statefulset.json"),
        &object(ring, "statefulset", &ring.name).await?,
    )?;
    let mut claim = object(ring, "pvc", &format!("data-{}", ring.member(0))).await?;
    // Names of nodes are in there.
    claim["metadata"]["annotations"].take();
    write(&format!("{folder}/claim.json"), &claim)?;
    for (file, name) in [
        ("credentials", names::credentials_secret(&ring.name)),
        ("tls", names::tls_secret(&ring.name)),
    ] {
        let mut secret = object(ring, "secret", &name).await?;
        // Of a secret nothing is kept but the names of its keys. bWFkZSB1cA==: made up.
        for value in secret["data"].as_object_mut().context("no data")?.values_mut() {
            *value = json!("bWFkZSB1cA==");
        }
        write(&format!("{folder}/{file}.json"), &secret)?;
    }
    let (authority, token) = (authority(ring).await?, ring.password(keys::AGENT_TOKEN).await?);
    let agent = |ip: &str, host: &str| {
        let ip: IpAddr = ip.parse()?;
        anyhow::Ok(AgentClient::new(
            ip,
            host,
            names::AGENT_PORT,
            &authority,
            token.clone(),
        )?)
    };
    for ordinal in ring.ordinals() {
        let folder = format!("{folder}/member-{ordinal}");
        write(&format!("{folder}/pod.json"), &pod(&ring.pod(ordinal).await?))?;
        let Ok(ip) = ring.ip(ordinal).await else { continue };
        let agent = agent(&ip, &names::member_host(&ring.name, &ring.namespace, ordinal))?;
        write(
            &format!("{folder}/report.json"),
            &agent.get::<Value>(PATH_REPORT, DEADLINE).await?,
        )?;
        let cat = [
            "exec",
            "-n",
            &ring.namespace,
            &ring.member(ordinal),
            "-c",
            "mysql",
            "--",
            "cat",
            names::paths::LIFE,
        ];
        write(
            &format!("{folder}/life.json"),
            &serde_json::from_str(&kubectl(&cat).await?)?,
        )?;
        write(&format!("{folder}/server.json"), &server(ring, ordinal).await?)?;
        let mut root = ring.root(ordinal).await?;
        let records: Vec<Row> = sql::rows(&mut root, RECORDS).await?;
        write(
            &format!("{folder}/conflicts.json"),
            &records.iter().map(columns).collect(),
        )?;
    }
    let create = sql::column(
        &mut ring.root(0).await?,
        "SHOW CREATE TABLE multimaster.conflicts",
        "Create Table",
    )
    .await?;
    write(&format!("{folder}/conflicts-table.json"), &json!({"create": create}))?;
    let balancers = ring.balancers().await?;
    if !balancers.is_empty() {
        let deployment = object(ring, "deployment", &names::balancer(&ring.name)).await?;
        write(&format!("{folder}/deployment.json"), &deployment)?;
    }
    for (n, found) in balancers.iter().enumerate() {
        let ip = found
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.clone())
            .context("no address")?;
        let agent = agent(&ip, &names::service_host(&ring.name, &ring.namespace))?;
        let folder = format!("{folder}/balancer-{n}");
        write(&format!("{folder}/pod.json"), &pod(found))?;
        write(
            &format!("{folder}/report.json"),
            &agent.get::<Value>(balancer::PATH_REPORT, DEADLINE).await?,
        )?;
        let mut history: Value = agent.get(PATH_HISTORY, DEADLINE).await?;
        for list in history.as_object_mut().context("no history")?.values_mut() {
            // Some of each are as good as all.
            if let Value::Array(list) = list {
                list.truncate(20);
            }
        }
        write(&format!("{folder}/history.json"), &history)?;
    }
    Ok(())
}

/// What the operator looks at, of a pod.
fn pod(pod: &Pod) -> Value {
    let (metadata, status) = (&pod.metadata, pod.status.as_ref());
    json!({
        "metadata": {"name": metadata.name, "uid": metadata.uid, "labels": metadata.labels, "annotations": metadata.annotations},
        "status": {
            "phase": status.and_then(|status| status.phase.as_ref()),
            "podIP": status.and_then(|status| status.pod_ip.as_ref()),
            "conditions": status.and_then(|status| status.conditions.as_ref()),
        },
    })
}

/// What a member's server says to the operator's questions.
async fn server(ring: &Ring, ordinal: u8) -> Result<Value> {
    let mut root = ring.root(ordinal).await?;
    let globals = "SELECT @@server_uuid AS uuid, @@server_id AS server_id, @@read_only AS fenced, @@gtid_executed AS executed, \
         @@gtid_purged AS purged";
    let globals: Vec<Row> = sql::rows(&mut root, globals).await?;
    let channels: Vec<Row> = sql::rows(&mut root, "SHOW REPLICA STATUS").await?;
    let stopped = "SELECT CHANNEL_NAME AS channel, APPLYING_TRANSACTION AS gtid, LAST_ERROR_NUMBER AS number, LAST_ERROR_MESSAGE AS text \
         FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER NOT IN (0, 3030)";
    let stopped: Vec<Row> = sql::rows(&mut root, stopped).await?;
    let logs: Vec<Row> = sql::rows(&mut root, "SHOW BINARY LOGS").await?;
    let all = |rows: &[Row]| rows.iter().map(columns).collect::<Value>();
    Ok(json!({
        "globals": all(&globals)[0], "channels": all(&channels), "stopped": all(&stopped), "binaryLogs": all(&logs),
    }))
}

/// Columns by name, as text.
fn columns(row: &Row) -> Value {
    let cells = row.columns_ref().iter().enumerate().map(|(n, column)| {
        let value = match row.as_ref(n) {
            None | Some(Sql::NULL) => Value::Null,
            Some(Sql::Bytes(bytes)) => String::from_utf8_lossy(bytes).into(),
            Some(other) => other.as_sql(true).trim_matches('\'').into(),
        };
        (column.name_str().into_owned(), value)
    });
    cells.collect::<Map<_, _>>().into()
}

async fn object(ring: &Ring, kind: &str, name: &str) -> Result<Value> {
    let text = kubectl(&["get", kind, name, "-n", &ring.namespace, "-o", "json"]).await?;
    Ok(serde_json::from_str(&text)?)
}

async fn authority(ring: &Ring) -> Result<Vec<u8>> {
    let secret = names::tls_secret(&ring.name);
    let template = r#"go-template={{index .data "ca.crt" | base64decode}}"#;
    let pem = kubectl(&["get", "secret", &secret, "-n", &ring.namespace, "-o", template]).await?;
    Ok(pem.into_bytes())
}

fn write(path: &str, value: &Value) -> Result<()> {
    let folder = std::env::var_os("CAPTURE").context("CAPTURE names no folder")?;
    let path = PathBuf::from(folder).join(path);
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    std::fs::write(&path, format!("{value:#}\n")).with_context(|| path.display().to_string())
}
