//! Late writes: what a losing member wrote in ignorance overwrites the winner's row after its clients have changed that.

use crate::harness::eventually;
use crate::ring::{Ring, run};

const TABLE: &str =
    "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT, doc JSON, bin BLOB, twice INT AS (v * 2) STORED)";
const ROWS: &str = "SELECT GROUP_CONCAT(CONCAT_WS('/', id, v, doc, HEX(bin), twice) ORDER BY id) FROM d.t";

/// The table has no trigger, so a copy of each row was made aside as well. It is older than what the clients wrote.
#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn what_clients_of_the_winner_wrote_survives_a_late_write() {
    let Some(mut ring) = Ring::new(41, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(0, TABLE).await;
    ring.in_step().await;
    // Member 1 learns of nothing, because its applier waits for the table.
    let mut loser = ring.agents[1].root().await;
    run(&mut loser, "LOCK TABLES d.t WRITE").await;
    ring.run(
        0,
        "INSERT INTO d.t (id, v) VALUES (1, 10); INSERT INTO d.t (id, v) VALUES (2, 10)",
    )
    .await;
    run(&mut loser, "INSERT INTO d.t (id, v) VALUES (1, 20)").await;
    // The late write is held up at member 2.
    eventually("member 2 has the row", async || {
        ring.value(2, "SELECT v FROM d.t").await == "20"
    })
    .await;
    let mut between = ring.agents[2].root().await;
    run(&mut between, "LOCK TABLES d.t READ").await;
    run(&mut loser, "UPDATE d.t SET v = 21 WHERE id = 1").await;
    let taken = "SELECT COUNT(*) FROM multimaster.conflicts WHERE stage = 'taken'";
    ring.until_value(0, taken, "1").await;
    assert_eq!(ring.value(0, "SELECT v FROM d.t WHERE id = 1").await, "10");

    let update = "UPDATE d.t SET v = 11, doc = '{\"k\": [1, null]}', bin = x'00ff' WHERE id = 1";
    ring.run(0, update).await;
    run(&mut between, "UNLOCK TABLES").await;
    ring.until_value(0, "SELECT v FROM d.t WHERE id = 1", "21").await;
    run(&mut loser, "UNLOCK TABLES").await;
    ring.until_settled().await;
    assert_eq!(
        ring.everywhere(ROWS).await,
        ["1/11/{\"k\": [1, null]}/00FF/22,2/10/20"; 3]
    );
}
