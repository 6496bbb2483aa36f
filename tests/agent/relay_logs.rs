//! A new life continues with the relay logs of the life before, also if the last transaction in them was not received whole.

use std::fs;
use std::path::PathBuf;

use multimaster::names::accounts;
use multimaster::wire::agent::PATH_FOUND;
use mysql_async::prelude::Queryable;

use crate::harness::{Agent, Cell, MYSQL_PORT, eventually};
use crate::order;

/// `GTID_LOG_EVENT`, with and without a tag.
const GTID: [u8; 2] = [33, 42];
/// `STOP_EVENT`, with its checksum.
const STOP: (u8, usize) = (3, 23);

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_new_life_applies_what_the_one_before_it_received_in_part() {
    let Some(cell) = Cell::new(7) else { return };
    // The relay log is changed below, and its checksums with it are not.
    cell.configure("replica_sql_verify_checksum=OFF\n");
    let (source, mut replica) = (cell.start(0, &[]), cell.start(1, &[]));
    for member in [&source, &replica] {
        let uuid = member.running().await.server_uuid.unwrap();
        assert_eq!(member.post(PATH_FOUND, &order(&uuid)).await.0, 200);
        member.mark().await;
    }
    let mut at_source = source.root().await;
    for statement in [
        "SET GLOBAL super_read_only=OFF",
        "SET GLOBAL read_only=OFF",
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY)",
    ] {
        at_source.query_drop(statement).await.unwrap();
    }
    let attach = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={MYSQL_PORT}, SOURCE_USER='{}', SOURCE_PASSWORD='{}', \
         SOURCE_SSL=1, SOURCE_AUTO_POSITION=1 FOR CHANNEL 'from-0'",
        source.address,
        accounts::REPLICATION,
        cell.password(accounts::REPLICATION)
    );
    let mut at_replica = replica.root().await;
    at_replica.query_drop(attach).await.unwrap();
    at_replica
        .query_drop("START REPLICA FOR CHANNEL 'from-0'")
        .await
        .unwrap();
    eventually("the table", async || holds(&replica, &source).await).await;
    at_replica
        .query_drop("STOP REPLICA SQL_THREAD FOR CHANNEL 'from-0'")
        .await
        .unwrap();
    for id in 1..=5 {
        at_source
            .query_drop(format!("INSERT INTO shop.t VALUES ({id})"))
            .await
            .unwrap();
    }
    let executed = source.value("SELECT @@GLOBAL.gtid_executed").await;
    eventually("everything is received", async || {
        let received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status";
        let received = replica.value(received).await;
        replica
            .value(&format!(
                "SELECT GTID_SUBSET('{executed}', CONCAT('{received},', @@GLOBAL.gtid_executed))"
            ))
            .await
            == "1"
    })
    .await;
    drop(at_replica);
    let life = replica.running().await.server_uuid;
    assert_eq!(replica.stop(), Some(0));

    leave_only_the_gtid_of_the_last_transaction(&replica);
    fs::remove_file(replica.data().join("auto.cnf")).unwrap();
    replica.start_again();
    assert_ne!(replica.running().await.server_uuid, life);
    eventually("everything is applied", async || holds(&replica, &source).await).await;
    assert_eq!(replica.value("SELECT COUNT(*) FROM shop.t").await, "5");
}

async fn holds(replica: &Agent, source: &Agent) -> bool {
    let executed = source.value("SELECT @@GLOBAL.gtid_executed").await;
    let query = format!("SELECT GTID_SUBSET('{executed}', @@GLOBAL.gtid_executed)");
    replica.value(&query).await == "1"
}

/// As if the receiver had been stopped in between: the GTID, then the Stop event with which mysqld ended.
fn leave_only_the_gtid_of_the_last_transaction(replica: &Agent) {
    let path = last_relay_log(replica);
    let log = fs::read(&path).unwrap();
    let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut gtid) = (4, None);
    while at < log.len() {
        if GTID.contains(&log[at + 4]) {
            gtid = Some(at + number(at + 9));
        }
        at += number(at + 9);
    }
    let mut stop = log[log.len() - STOP.1..].to_vec();
    assert_eq!((stop[4], number(log.len() - STOP.1 + 9)), STOP);
    let gtid = gtid.unwrap();
    let end = u32::try_from(gtid + STOP.1).unwrap();
    stop[13..17].copy_from_slice(&end.to_le_bytes());
    fs::write(path, [&log[..gtid], &stop].concat()).unwrap();
}

fn last_relay_log(replica: &Agent) -> PathBuf {
    let files = fs::read_dir(replica.data()).unwrap().map(|entry| entry.unwrap().path());
    let numbered = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("relay") && !name.ends_with("index")
    };
    files.filter(numbered).max().unwrap()
}
