//! A member that is cut off fences itself with policy Fence, and only then.

use std::net::TcpListener;
use std::time::Duration;

use multimaster::api::IsolationPolicy;
use multimaster::names::accounts;
use multimaster::wire::agent::{PATH_FOUND, VERSION};
use multimaster::wire::lease::LeaseRenewal;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Agent, Cell, eventually};
use crate::order;

/// Long enough for checks that are late on a busy machine, and for the heartbeat before the last.
const AFTER: u16 = 6;
/// How long the member has contact, or the policy KeepWriting: longer than fencing would take otherwise.
const LONG: Duration = Duration::from_secs(9);

fn fence(members: &[&Agent]) -> LeaseRenewal {
    LeaseRenewal {
        operator: 0,
        number: 0,
        version: VERSION,
        policy: IsolationPolicy::Fence,
        after_seconds: AFTER,
        members: members.iter().map(|member| member.address.parse().unwrap()).collect(),
        reads: false,
        writer: None,
        lease_seconds: 0,
        clock: None,
        ring: Vec::new(),
        voters: Vec::new(),
        knowing: true,
    }
}

async fn is_open(agent: &Agent, client: &mut Conn) {
    client.query_drop("DO 1").await.unwrap();
    assert_eq!(agent.probe("readyz").await.0, 200);
}

async fn fences_itself(agent: &Agent, client: &mut Conn) {
    // Asked at the open port: a request there does not count as contact with the operator.
    eventually("the member is fenced", async || {
        let (status, why) = agent.probe("readyz").await;
        status == 503 && why.contains("fenced")
    })
    .await;
    eventually("the client's session is killed", async || {
        client.query_drop("DO 1").await.is_err()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_member_that_is_cut_off_fences_itself_only_with_policy_fence() {
    let Some(cell) = Cell::new(6) else { return };
    let api = TcpListener::bind((cell.address(200).as_str(), 0)).unwrap();
    let (host, port) = (cell.address(200), api.local_addr().unwrap().port());
    let (host, port) = (format!("--api-host={host}"), format!("--api-port={port}"));
    let (agent, mut peer) = (cell.start(1, &[&host, &port]), cell.start(0, &[]));
    let uuid = agent.running().await.server_uuid.unwrap();
    peer.running().await;
    assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);
    let mut client = agent.open(&cell).await;

    // The API server is there.
    agent.renew(&fence(&[])).await;
    tokio::time::sleep(LONG).await;
    is_open(&agent, &mut client).await;

    // No contact, but with KeepWriting the member takes writes.
    drop(api);
    agent
        .renew(&LeaseRenewal {
            policy: IsolationPolicy::KeepWriting,
            ..fence(&[])
        })
        .await;
    tokio::time::sleep(LONG).await;
    is_open(&agent, &mut client).await;

    // Another member's agent answers; then the operator asks.
    agent.renew(&fence(&[&peer])).await;
    tokio::time::sleep(LONG).await;
    is_open(&agent, &mut client).await;
    for _ in 0..LONG.as_secs() * 2 {
        agent.renew(&fence(&[])).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    is_open(&agent, &mut client).await;

    // No contact: an open transaction does not keep the member from being fenced.
    client.query_drop("CREATE DATABASE shop").await.unwrap();
    client
        .query_drop("CREATE TABLE shop.t (id INT PRIMARY KEY)")
        .await
        .unwrap();
    client.query_drop("BEGIN").await.unwrap();
    client.query_drop("INSERT INTO shop.t VALUES (1)").await.unwrap();
    fences_itself(&agent, &mut client).await;
    let fenced = agent.renew(&fence(&[])).await.fenced_itself.unwrap();
    assert!(fenced.at.0.duration_since(fenced.cut_off_since.0).as_secs() >= i64::from(AFTER));
    assert_eq!(agent.value("SELECT COUNT(*) FROM shop.t").await, "0");

    // The operator is back and opens it.
    let mut client = agent.open(&cell).await;
    eventually("that it fenced itself is past", async || {
        agent.renew(&fence(&[])).await.fenced_itself.is_none()
    })
    .await;

    // The only contact is an upstream's heartbeats, until the upstream ends. A connection without heartbeats does not count.
    let source = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='{}', SOURCE_PASSWORD='{}', SOURCE_SSL=1, \
         SOURCE_AUTO_POSITION=1, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_CONNECT_RETRY=1 FOR CHANNEL 'from-0'",
        peer.address,
        peer.mysql_port,
        accounts::REPLICATION,
        cell.password(accounts::REPLICATION),
    );
    client.query_drop(source).await.unwrap();
    client
        .query_drop("START REPLICA IO_THREAD FOR CHANNEL 'from-0'")
        .await
        .unwrap();
    eventually("a heartbeat", async || {
        agent.renew(&fence(&[])).await;
        let received =
            "SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE COUNT_RECEIVED_HEARTBEATS > 0";
        agent.value(received).await == "1"
    })
    .await;
    tokio::time::sleep(LONG).await;
    is_open(&agent, &mut client).await;
    assert_eq!(peer.stop(), Some(0));
    fences_itself(&agent, &mut client).await;
}
