//! Conflicts about tables and transactions as nobody wishes for: nothing is lost, and a person is told what to do.

use std::ops::ControlFlow;
use std::time::Duration;

use multimaster::decide::step::{Action, Step};
use multimaster::mysql::gtid::GtidSet;
use multimaster::mysql::io::binlog::{self, Kept};
use multimaster::mysql::io::connection::{ANSWER, SqlError};
use multimaster::mysql::transaction::BinlogPosition;
use multimaster::names::ANNOTATION_SETTLE;
use mysql_async::{Conn, OptsBuilder};

use crate::ring::Ring;

const TABLES: &str = "CREATE DATABASE d;
    CREATE TABLE d.big (id INT PRIMARY KEY, v VARCHAR(20));
    CREATE TABLE d.wide (id INT PRIMARY KEY, b LONGBLOB);
    CREATE TABLE d.l (id INT PRIMARY KEY, r INT); CREATE TABLE d.r (id INT PRIMARY KEY, l INT, FOREIGN KEY (l) REFERENCES d.l (id) ON DELETE CASCADE);
    ALTER TABLE d.l ADD FOREIGN KEY (r) REFERENCES d.r (id) ON DELETE CASCADE;
    CREATE TABLE d.refused (id INT PRIMARY KEY, v INT);
    CREATE TRIGGER d.no BEFORE DELETE ON d.refused FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'never';
    CREATE TABLE d.gone (id INT PRIMARY KEY, v INT); CREATE TABLE d.moved LIKE d.gone; CREATE TABLE d.late LIKE d.gone";

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn nothing_is_lost_and_a_person_is_told() {
    let Some(mut ring) = Ring::new(28, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(0, TABLES).await;
    ring.in_step().await;
    a_cycle_of_foreign_keys(&mut ring).await;
    a_trigger_that_refuses_every_deletion(&mut ring).await;
    ten_thousand_rows(&mut ring).await;
    a_row_of_twenty_megabytes(&mut ring).await;
    a_row_that_is_too_long_to_be_read(&mut ring).await;
    a_log_is_read_past_it(&ring).await;
    a_small_row_behind_a_large_one(&mut ring).await;
    a_table_that_goes_before_its_rows_are_compared(&mut ring).await;
    a_table_that_changes_meanwhile(&mut ring).await;
    a_record_that_somebody_edited(&mut ring).await;
}

async fn a_cycle_of_foreign_keys(ring: &mut Ring) {
    let both = "SET foreign_key_checks = 0; INSERT INTO d.l VALUES (1, 1); INSERT INTO d.r VALUES (1, 1)";
    ring.apart(both, &format!("{both}; INSERT INTO d.r VALUES (2, 1)"))
        .await;
    ring.until_settled().await;
    let rows = "SELECT CONCAT((SELECT COUNT(*) FROM d.l), (SELECT COUNT(*) FROM d.r))";
    assert_eq!(ring.everywhere(rows).await, ["12"; 3]);
}

async fn a_trigger_that_refuses_every_deletion(ring: &mut Ring) {
    ring.apart(
        "INSERT INTO d.refused VALUES (1, 10)",
        "INSERT INTO d.refused VALUES (1, 20)",
    )
    .await;
    ring.until_settled().await;
    assert_eq!(ring.everywhere("SELECT v FROM d.refused").await, ["10"; 3]);
}

/// A person gives the row that is in the way another key, unlogged.
async fn ten_thousand_rows(ring: &mut Ring) {
    let many = "SET SESSION cte_max_recursion_depth = 10000; INSERT INTO d.big WITH RECURSIVE n (id) AS \
         (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 10000) SELECT id, 'one' FROM n";
    ring.apart("INSERT INTO d.big VALUES (5000, 'zero')", many).await;
    for told in [
        "it changes more than 1000 rows, or 16 MiB: 5000 changes from d.big (id=1) to d.big (id=5000) and more",
        "Duplicate entry '5000' for key 'big.PRIMARY'",
    ] {
        ring.until("it is told", |ring| ring.message().contains(told)).await;
    }
    // Nobody has overwritten anything.
    assert_eq!(ring.value(0, "SELECT GROUP_CONCAT(v) FROM d.big").await, "zero");
    ring.run(
        0,
        "SET sql_log_bin = 0; UPDATE d.big SET id = -5000 WHERE id = 5000; START REPLICA SQL_THREAD FOR CHANNEL 'from-2'",
    )
    .await;
    ring.until_settled().await;
    ring.run(
        0,
        "UPDATE d.big SET v = 'zero' WHERE id = 5000; SET sql_log_bin = 0; DELETE FROM d.big WHERE id = -5000",
    )
    .await;
    ring.in_step().await;
    let rows = "SELECT CONCAT(COUNT(*), MAX(v)) FROM d.big";
    assert_eq!(ring.everywhere(rows).await, ["10000zero"; 3]);
}

async fn a_row_of_twenty_megabytes(ring: &mut Ring) {
    ring.apart(
        "INSERT INTO d.wide VALUES (1, REPEAT('x', 20 << 20))",
        "INSERT INTO d.wide VALUES (1, 'y')",
    )
    .await;
    let told = "it changes more than 1000 rows, or 16 MiB: 1 changes from d.wide (id=1)";
    ring.until("it is told", |ring| ring.message().contains(told)).await;
    let length = "SELECT LENGTH(b) FROM d.wide";
    ring.until_value(0, length, "20971520").await;
    assert_eq!(ring.value(1, length).await, "1");
    // The next member stops at it, too.
    for (ordinal, upstream) in [(1, 0), (2, 1)] {
        let told = format!("demo-{ordinal} cannot apply");
        ring.until("it is told", |ring| ring.message().contains(&told)).await;
        let mend =
            format!("SET sql_log_bin = 0; DELETE FROM d.wide; START REPLICA SQL_THREAD FOR CHANNEL 'from-{upstream}'");
        ring.run(ordinal, &mend).await;
    }
    ring.until_settled().await;
    assert_eq!(ring.everywhere(length).await, ["20971520"; 3]);
    // The row of member 0 is in no record that a pass reads, and nothing of it is cut.
    let records = "SELECT IF(MAX(LENGTH(changes)) < 10000, 'short', 'long') FROM multimaster.conflicts";
    assert_eq!(ring.everywhere(records).await, ["short"; 3]);
    let images =
        "SELECT CONCAT(MAX(LENGTH(image)) <= 1 << 18, SUM(LENGTH(image)) > 20 << 20) FROM multimaster.conflict_rows";
    assert_eq!(ring.everywhere(images).await, ["11"; 3]);
}

async fn a_row_that_is_too_long_to_be_read(ring: &mut Ring) {
    ring.apart(
        "INSERT INTO d.wide VALUES (2, REPEAT('x', 50 << 20)); INSERT INTO d.late VALUES (2, 0)",
        "SET sql_log_bin = 0; INSERT INTO d.wide VALUES (2, 'y')",
    )
    .await;
    let told = "it has a row of more than 32 MiB; MySQL says: ";
    ring.until("it is told", |ring| ring.message().contains(told)).await;
    let mend = "SET sql_log_bin = 0; DELETE FROM d.wide WHERE id = 2; START REPLICA SQL_THREAD FOR CHANNEL 'from-0'";
    ring.run(1, mend).await;
    ring.until_settled().await;
    let length = "SELECT LENGTH(b) FROM d.wide WHERE id = 2";
    assert_eq!(ring.everywhere(length).await, ["52428800"; 3]);
    ring.run(0, "DELETE FROM d.late").await;
    ring.in_step().await;
}

async fn a_log_is_read_past_it(ring: &Ring) {
    let log = ring.value(0, "SELECT @@log_bin_basename").await + ".000001";
    let log = BinlogPosition {
        file: log.rsplit('/').next().unwrap_or_default().to_owned(),
        offset: 4,
    };
    let executed = ring.value(0, "SELECT @@GLOBAL.gtid_executed").await;
    let are = |schema: &str, table: &str| schema == "d" && table == "late";
    // As the operator connects.
    let conn = async || {
        let options = OptsBuilder::from_opts(ring.agents[0].root().await.opts().clone());
        Conn::new(options.max_allowed_packet(Some(ANSWER))).await.unwrap()
    };
    // Where rows are kept, none may be missed.
    let kept = Kept::Tables(&are, 1 << 20);
    let read = binlog::read(conn().await, &log, Duration::from_secs(60), kept, |_| {
        ControlFlow::Continue(())
    })
    .await;
    assert!(matches!(read, Err(SqlError::TooLong)), "{read:?}");
    for kept in [Kept::Nothing, Kept::Transaction("none", 16 << 20)] {
        let (mut read, mut larger, mut changes) = (GtidSet::default(), 0, 0);
        binlog::read(conn().await, &log, Duration::from_secs(60), kept, |transaction| {
            read.add(&transaction.gtid.parse().unwrap());
            larger += u8::from(transaction.is_larger);
            changes += transaction.changes.len();
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
        assert_eq!(read.to_string(), executed.replace('\n', ""));
        assert_eq!((larger, changes), (1, 0));
    }
}

/// The log of the winner has both large rows as one change, and the small one after it.
async fn a_small_row_behind_a_large_one(ring: &mut Ring) {
    let both = |fill: char, v: u8| {
        format!(
            "BEGIN; INSERT INTO d.wide VALUES (5, REPEAT('{fill}', 9 << 20)); INSERT INTO d.late VALUES (5, {v}); COMMIT"
        )
    };
    ring.apart(&both('a', 0), &both('b', 1)).await;
    ring.until_settled().await;
    let rows = "SELECT CONCAT(LEFT(b, 1), v) FROM d.wide JOIN d.late USING (id) WHERE id = 5";
    assert_eq!(ring.everywhere(rows).await, ["a0"; 3]);
}

/// Dropped or renamed at all members, while an insert is on its way.
async fn a_table_that_changes_meanwhile(ring: &mut Ring) {
    let both = |value: u8| format!("INSERT INTO d.gone VALUES (1, {value}); DROP TABLE d.gone");
    ring.apart(&both(0), &both(1)).await;
    for (ordinal, upstream) in [(1, 0), (0, 2)] {
        let told = format!("demo-{ordinal} cannot apply ");
        ring.until("it is told", |ring| ring.message().contains(&told)).await;
        let message = ring.message();
        assert!(message.contains("there is no table d.gone"), "{message}");
        let (_, rest) = message.split_once(&told).unwrap();
        let (gtid, _) = rest.split_once(',').unwrap();
        let skip = format!(
            "SET gtid_next = '{gtid}'; BEGIN; COMMIT; SET gtid_next = 'AUTOMATIC'; START REPLICA SQL_THREAD FOR CHANNEL 'from-{upstream}'"
        );
        ring.run(ordinal, &skip).await;
    }
    ring.until_settled().await;
    let both = |value: u8| format!("INSERT INTO d.moved VALUES (1, {value}); RENAME TABLE d.moved TO d.elsewhere");
    ring.apart(&both(0), &both(1)).await;
    ring.until("it is told", |ring| {
        ring.message().contains("there is no table d.moved")
    })
    .await;
    assert_eq!(ring.value(1, "SELECT v FROM d.elsewhere").await, "1");
}

/// The transactions are executed by then. Only a person knows what became of the rows.
async fn a_table_that_goes_before_its_rows_are_compared(ring: &mut Ring) {
    ring.apart("INSERT INTO d.late VALUES (1, 0)", "INSERT INTO d.late VALUES (1, 1)")
        .await;
    let compares = |step: &Step| matches!(step.on_member(), Some(Action::CompareRows { .. }));
    ring.until_due("rows are compared", compares).await;
    ring.run(0, "RENAME TABLE d.late TO d.later").await;
    ring.in_step().await;
    ring.until("it is told", |ring| ring.message().contains("there is no table d.late"))
        .await;
    let message = ring.message();
    let (_, order) = message.split_once("--overwrite ").unwrap();
    let (_, order) = order.split_once(", or ").unwrap();
    let (order, _) = order.split_once(' ').unwrap();
    let (id, word) = order.split_once('=').unwrap();
    assert_eq!((id.len(), word), (8, "settled"), "{message}");
    let annotations = ring.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_SETTLE.into(), order.into());
    ring.until_settled().await;
    ring.cluster.metadata.annotations = None;
    assert_eq!(ring.everywhere("SELECT v FROM d.later").await, ["0"; 3]);
}

/// Somebody has deleted what the record needs.
async fn a_record_that_somebody_edited(ring: &mut Ring) {
    ring.run(
        1,
        "UPDATE multimaster.conflicts SET changes = '[{\"id\": 7}]' WHERE stage <> 'settled'",
    )
    .await;
    ring.until("it is told", |ring| ring.message().contains("changes"))
        .await;
}
