//! An applier that gives up because of a row lock: no conflict, and replication continues once the lock is gone.

use multimaster::api::status::conditions;
use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::step::{Action, Step};

use crate::harness::eventually;
use crate::ring::{Ring, run};

const TABLE: &str =
    "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v INT); INSERT INTO d.t VALUES (1, 0), (2, 0)";

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn an_applier_that_met_a_lock_is_started_again() {
    let Some(mut ring) = Ring::new(24, "{}").await else {
        return;
    };
    ring.run(0, TABLE).await;
    ring.in_step().await;
    // The applier gives up after two seconds, not after ten times fifty.
    ring.run(
        1,
        "SET GLOBAL innodb_lock_wait_timeout = 1; SET GLOBAL replica_transaction_retries = 1; STOP REPLICA SQL_THREAD; START REPLICA SQL_THREAD",
    )
    .await;
    let mut holder = ring.agents[1].root().await;
    run(&mut holder, "BEGIN; SELECT * FROM d.t WHERE id = 1 FOR UPDATE").await;
    ring.run(
        0,
        "UPDATE d.t SET v = 1 WHERE id = 1; UPDATE d.t SET v = 2 WHERE id = 2",
    )
    .await;

    let attempts = |ring: &Ring| {
        let status = ring.cluster.status.as_ref().unwrap();
        let retry = status.member_statuses[1].links[0].retry.as_ref();
        retry.map_or(0, |retry| retry.attempts)
    };
    ring.until("three attempts", |ring| attempts(ring) == 3).await;
    let (closed, message) = ring.condition(conditions::RING_CLOSED);
    assert_eq!(closed, "False");
    assert!(message.contains("1205: "), "{message}");
    assert_eq!(ring.condition(conditions::CONFLICT_FREE).0, "True");

    run(&mut holder, "ROLLBACK").await;
    ring.until("the ring is closed", Ring::is_settled).await;
    ring.in_step().await;
    assert_eq!(ring.everywhere("SELECT SUM(v) FROM d.t").await, ["3", "3", "3"]);
    let records = ring.everywhere("SELECT COUNT(*) FROM multimaster.conflicts").await;
    assert_eq!(records, ["0", "0", "0"]);
    what_the_winner_writes_meanwhile_is_kept(&mut ring).await;
}

/// A client of the winner changes the row while the session waits for it.
async fn what_the_winner_writes_meanwhile_is_kept(ring: &mut Ring) {
    ring.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0],
    };
    ring.apart("INSERT INTO d.t VALUES (3, 10)", "INSERT INTO d.t VALUES (3, 11)")
        .await;
    let settles = |step: &Step| {
        matches!(
            step,
            Step::Member {
                ordinal: 0,
                action: Action::Settle { .. },
                ..
            }
        )
    };
    let (observed, step) = ring.until_due("the winner takes the other side", settles).await;
    let mut client = ring.agents[0].root().await;
    run(&mut client, "BEGIN; UPDATE d.t SET v = 12 WHERE id = 3").await;
    let commit = async {
        eventually("the session waits for the row", async || {
            ring.value(0, "SELECT COUNT(*) > 0 FROM performance_schema.data_lock_waits")
                .await
                == "1"
        })
        .await;
        run(&mut client, "COMMIT").await;
    };
    let (done, ()) = tokio::join!(ring.act(&observed, &step), commit);
    done.unwrap();
    ring.until_settled().await;
    assert_eq!(ring.everywhere("SELECT v FROM d.t WHERE id = 3").await, ["12"; 3]);
}
