//! Taking a transaction, cut off in the middle in every way: no setting stays as it was made, and no applier runs by it.
//!
//! The middle is long: a client holds a lock on the row that the applier wants.

use std::time::Duration;

use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Setting, Step};
use multimaster::names::ANNOTATION_FENCE;
use multimaster::operator::act::ActError;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::eventually;
use crate::ring::{Ring, run};

const SETTINGS: &str = "SELECT CONCAT(@@GLOBAL.replica_exec_mode, ' ', @@GLOBAL.read_only, @@GLOBAL.super_read_only)";
const IN_THE_MIDDLE: &str = "SELECT @@GLOBAL.replica_exec_mode = 'IDEMPOTENT' AND (SELECT COUNT(*) FROM performance_schema.data_lock_waits) > 0";
/// Far longer than all deadlines of a step together.
const FOR_EVER: Duration = Duration::from_secs(150);

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_fenced_member_is_as_it_was_whatever_cuts_a_session_off() {
    let Some(mut ring) = Ring::new(22, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(
        0,
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, name VARCHAR(20))",
    )
    .await;
    ring.in_step().await;
    let annotation = (ANNOTATION_FENCE.to_owned(), "demo-1".to_owned());
    ring.cluster.metadata.annotations = Some([annotation].into());

    eprintln!("the operator ends");
    let mut middle = Middle::begin(&mut ring, 1).await;
    middle.reach_and_drop(&ring).await;
    assert_eq!(ring.value(1, SETTINGS).await, "IDEMPOTENT 10");
    restore(&mut ring, Setting::ReplicaExecMode).await;
    assert_eq!(ring.value(1, SETTINGS).await, "STRICT 10");
    // Until then the applier waits in the middle of a statement, and super_read_only would wait for it.
    run(&mut middle.client, "COMMIT").await;
    restore(&mut ring, Setting::SuperReadOnly).await;
    settled(&mut ring, 1).await;

    eprintln!("its connections are killed");
    let mut middle = Middle::begin(&mut ring, 2).await;
    let sessions = format!(
        "SELECT ID FROM performance_schema.processlist WHERE USER = 'root' AND ID NOT IN ({}, CONNECTION_ID())",
        middle.client.id()
    );
    let error = middle
        .reach(&ring, async |client| {
            let mut killer = ring.agents[1].root().await;
            let ids: Vec<u64> = killer.query(&sessions).await.unwrap();
            assert!(ids.len() >= 2, "{ids:?}");
            for id in ids {
                // Those that have just asked the value above may have ended.
                let _ = killer.query_drop(format!("KILL {id}")).await;
            }
            run(client, "COMMIT").await;
        })
        .await
        .unwrap_err();
    eprintln!("{error}");
    assert_eq!(ring.value(1, SETTINGS).await, "STRICT 11");
    settled(&mut ring, 2).await;

    eprintln!("its server is frozen");
    let mut middle = Middle::begin(&mut ring, 3).await;
    let error = middle.reach(&ring, async |_| ring.agents[1].freeze_mysqld()).await;
    eprintln!("{}", error.unwrap_err());
    ring.agents[1].thaw_mysqld();
    run(&mut middle.client, "COMMIT").await;
    ring.until("the member answers, and both are restored", |ring| {
        ring.told().contains("wins") || ring.is_settled()
    })
    .await;
    settled(&mut ring, 3).await;

    eprintln!("its server is killed and started again");
    let mut middle = Middle::begin(&mut ring, 4).await;
    let error = middle.reach(&ring, async |_| ring.agents[1].kill_mysqld()).await;
    eprintln!("{}", error.unwrap_err());
    // The agent's report may still be that of the mysqld that was killed; an answer is the new one's.
    eventually("mysqld runs again", async || ring.agents[1].try_root().await.is_ok()).await;
    ring.agents[1].running().await;
    assert_eq!(ring.value(1, SETTINGS).await, "STRICT 11");
    settled(&mut ring, 4).await;
}

/// A conflict at member 1 about the row with this id, which is about to be settled while a client holds the row.
struct Middle {
    client: Conn,
    observed: Observed,
    step: Step,
}

impl Middle {
    async fn begin(ring: &mut Ring, id: u8) -> Self {
        ring.run(1, "SET GLOBAL read_only = OFF").await;
        let insert = |name| format!("INSERT INTO d.t VALUES ({id}, '{name}')");
        ring.apart(
            &insert("zero"),
            &format!("{}; SET GLOBAL super_read_only = ON", insert("one")),
        )
        .await;
        let mut client = ring.agents[1].root().await;
        run(
            &mut client,
            &format!("BEGIN; SELECT * FROM d.t WHERE id = {id} FOR SHARE"),
        )
        .await;
        let is_it = |step: &Step| matches!(step, Step::Settle { ordinal: 1, .. });
        let (observed, step) = ring.until_due("it is to be settled", is_it).await;
        Self { client, observed, step }
    }

    /// Does something in the middle, and answers with what became of the step.
    async fn reach(&mut self, ring: &Ring, work: impl AsyncFnOnce(&mut Conn)) -> Result<(), ActError> {
        let act = ring.act(&self.observed, &self.step);
        let cut = async {
            eventually("the applier waits for the row", async || {
                ring.value(1, IN_THE_MIDDLE).await == "1"
            })
            .await;
            work(&mut self.client).await;
        };
        let (done, ()) = tokio::join!(tokio::time::timeout(FOR_EVER, act), cut);
        done.expect("the step ends")
    }

    async fn reach_and_drop(&mut self, ring: &Ring) {
        tokio::select! {
            done = ring.act(&self.observed, &self.step) => panic!("{done:?}"),
            () = eventually("the applier waits for the row", async || ring.value(1, IN_THE_MIDDLE).await == "1") => {}
        }
    }
}

/// The next thing that is done is this.
async fn restore(ring: &mut Ring, expected: Setting) {
    let (observed, step) = ring.decided().await;
    let step = step.unwrap();
    assert!(
        matches!(step, Step::Restore { ordinal: 1, setting, .. } if setting == expected),
        "{step:?}"
    );
    ring.act(&observed, &step).await.unwrap();
}

async fn settled(ring: &mut Ring, id: u8) {
    ring.until_settled().await;
    assert_eq!(ring.value(1, SETTINGS).await, "STRICT 11");
    let name = format!("SELECT name FROM d.t WHERE id = {id}");
    assert_eq!(ring.everywhere(&name).await, ["zero"; 3]);
    let recorded = format!(
        "SELECT COUNT(*) > 0 FROM multimaster.conflicts WHERE changes LIKE '%(id={id})%' OR changes LIKE '%\"{id}\"%'"
    );
    assert_eq!(ring.everywhere(&recorded).await, ["1"; 3]);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn while_one_applier_overwrites_no_other_one_of_the_member_runs() {
    let Some(mut ring) = Ring::new(23, "{}").await else {
        return;
    };
    ring.run(
        0,
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, name VARCHAR(20))",
    )
    .await;
    ring.in_step().await;
    ring.run(1, "SET sql_log_bin = 0; INSERT INTO d.t VALUES (8, 'mine')")
        .await;
    ring.apart(
        "INSERT INTO d.t VALUES (7, 'zero')",
        "INSERT INTO d.t VALUES (7, 'one')",
    )
    .await;
    ring.until("both sides are recorded", |ring| {
        ring.told().matches("who wins?").count() == 2
    })
    .await;
    // Like one that is left over from another ring.
    ring.attach(1, 2).await;
    ring.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0],
    };
    let mut client = ring.agents[1].root().await;
    run(&mut client, "BEGIN; SELECT * FROM d.t WHERE id = 7 FOR UPDATE").await;
    let is_it = |step: &Step| {
        matches!(
            step,
            Step::Settle {
                ordinal: 1,
                upstream: 0,
                ..
            }
        )
    };
    let (observed, step) = ring.until_due("it is to be settled", is_it).await;
    let mut middle = Middle { client, observed, step };
    let applier =
        "SELECT SERVICE_STATE FROM performance_schema.replication_applier_status WHERE CHANNEL_NAME = 'from-2'";
    assert_eq!(ring.value(1, applier).await, "ON");
    let done = middle
        .reach(&ring, async |client| {
            assert_eq!(ring.value(1, applier).await, "OFF");
            ring.run(2, "INSERT INTO d.t VALUES (8, 'theirs')").await;
            let written = ring.value(2, "SELECT @@GLOBAL.gtid_executed").await;
            let received = format!(
                "SELECT GTID_SUBSET('{written}', CONCAT(RECEIVED_TRANSACTION_SET, ',', @@GLOBAL.gtid_executed)) \
                 FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = 'from-2'"
            );
            eventually("the other channel has it", async || {
                ring.value(1, &received).await == "1"
            })
            .await;
            run(client, "COMMIT").await;
        })
        .await;
    done.unwrap();
    assert_eq!(ring.value(1, "SELECT @@GLOBAL.replica_exec_mode").await, "STRICT");
    ring.until_settled().await;
    let recorded =
        "SELECT COUNT(*) FROM multimaster.conflicts WHERE member = 'demo-1' AND origin = 'demo-2' AND error = 1062";
    assert_eq!(ring.everywhere(recorded).await, ["1"; 3]);
    assert_eq!(ring.everywhere("SELECT name FROM d.t WHERE id = 8").await, ["mine"; 3]);
    assert_eq!(ring.everywhere("SELECT name FROM d.t WHERE id = 7").await, ["zero"; 3]);
}
