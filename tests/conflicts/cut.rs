//! Taking a transaction is cut off in the middle in every way. Nothing of the transaction stays, and no setting of the step does.
//!
//! The middle is long: a client holds a lock on the row that the session wants.

use std::time::Duration;

use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, Setting, Step};
use multimaster::names::ANNOTATION_FENCE;
use multimaster::operator::act::ActError;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::eventually;
use crate::ring::{Ring, run};

const SETTINGS: &str = "SELECT CONCAT(@@GLOBAL.replica_exec_mode, ' ', @@GLOBAL.read_only, @@GLOBAL.super_read_only)";
const IN_THE_MIDDLE: &str = "SELECT COUNT(*) > 0 FROM performance_schema.data_lock_waits";
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
    assert_eq!(ring.value(1, SETTINGS).await, "STRICT 10");
    run(&mut middle.client, "COMMIT").await;
    restore(&mut ring, Setting::SuperReadOnly).await;
    settled(&mut ring, 1).await;

    eprintln!("its connections are killed");
    let mut middle = Middle::begin(&mut ring, 2).await;
    let sessions = format!(
        "SELECT ID FROM performance_schema.processlist WHERE USER = 'multimaster_settler' AND ID NOT IN ({}, CONNECTION_ID())",
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
        ring.message().contains("wins") || ring.is_settled()
    })
    .await;
    settled(&mut ring, 3).await;

    eprintln!("its server is killed and started again");
    let mut middle = Middle::begin(&mut ring, 4).await;
    let before = ring.agents[1].mysqld_pid();
    let error = middle.reach(&ring, async |_| ring.agents[1].kill_mysqld()).await;
    eprintln!("{}", error.unwrap_err());
    ring.agents[1].another_mysqld(before).await;
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
        let is_it = |step: &Step| {
            matches!(
                step,
                Step::Member {
                    ordinal: 1,
                    action: Action::Settle { .. },
                    ..
                }
            )
        };
        let (observed, step) = ring.until_due("it is to be settled", is_it).await;
        Self { client, observed, step }
    }

    /// Does something in the middle, and returns the result of the step.
    async fn reach(&mut self, ring: &Ring, work: impl AsyncFnOnce(&mut Conn)) -> Result<(), ActError> {
        let act = ring.act(&self.observed, &self.step);
        let cut = async {
            eventually("the session waits for the row", async || {
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
            () = eventually("the session waits for the row", async || ring.value(1, IN_THE_MIDDLE).await == "1") => {}
        }
    }
}

/// The next thing that is done is this.
async fn restore(ring: &mut Ring, expected: Setting) {
    let (observed, step) = ring.decided().await;
    let step = step.unwrap();
    assert!(
        matches!(step, Step::Member { ordinal: 1, action: Action::Restore { setting }, .. } if setting == expected),
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
