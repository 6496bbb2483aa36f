//! Two members write the same row: it is recorded, waits or is settled as declared, and all members end equal.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use multimaster::names::{ANNOTATION_SETTLE, keys};
use serde_json::{Value, json};

use crate::support::network::isolate;
use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, sql};

const TABLE: &str = "CREATE TABLE app.orders (id INT PRIMARY KEY, who VARCHAR(20), code INT UNIQUE)";

/// Member 1 is cut off from everybody while clients go on on both sides; the others close the ring around it.
#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn the_preferred_members_row_wins_after_a_cut() -> Result<()> {
    in_namespace("conflicts-cut", |world| async move {
        let prefer = json!({"conflicts": {"policy": "Prefer", "prefer": [0]}});
        let ring = Ring::ready(&world, "demo", 3, prefer).await?;
        run_at(&ring, 0, TABLE).await?;
        everywhere(&ring, "SELECT COUNT(*) FROM app.orders", "0").await?;
        let writers = Writers::start(&ring, vec![At::Member(0), At::Member(2)]).await?;

        let cut = isolate(&ring, 1).await?;
        ring.wait_closed("0→2→0").await?;
        run_at(&ring, 0, "INSERT INTO app.orders VALUES (7, 'zero', 70)").await?;
        run_at(&ring, 0, "UPDATE app.orders SET who = 'zero, later' WHERE id = 7").await?;
        let inside = "BEGIN; INSERT INTO app.orders VALUES (7, 'one', 71), (8, 'only one', 80); COMMIT;
            UPDATE app.orders SET who = 'one, later', code = 72 WHERE id = 7; INSERT INTO app.orders VALUES (9, 'nine', 70);";
        inside_pod(&ring, 1, inside).await?;
        cut.mend().await?;

        settled(&ring).await?;
        ring.wait_ready().await?;
        everywhere(&ring, "SELECT who FROM app.orders WHERE id = 7", "zero, later").await?;
        everywhere(&ring, "SELECT code FROM app.orders WHERE id = 7", "70").await?;
        everywhere(&ring, "SELECT who FROM app.orders WHERE id = 8", "only one").await?;
        everywhere(&ring, "SELECT COUNT(*) FROM app.orders WHERE code = 70", "1").await?;
        // What lost is in the record, on every member.
        let lost = "SELECT COUNT(*) > 0 FROM multimaster.conflicts WHERE member = 'demo-1' AND origin = 'demo-0' \
             AND JSON_SEARCH(changes, 'one', 'one, later') IS NOT NULL AND JSON_SEARCH(changes, 'one', 'zero') IS NOT NULL";
        everywhere(&ring, lost, "1").await?;
        equal(&ring).await?;
        writers.settle().await.map(drop)
    })
    .await
}

/// Nobody is absent: two members simply write at the same time.
#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn halt_waits_for_a_person_and_spreads_nothing() -> Result<()> {
    in_namespace("conflicts-halt", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        run_at(&ring, 0, TABLE).await?;
        run_at(&ring, 0, "INSERT INTO app.orders VALUES (20, 'both', 20)").await?;
        everywhere(&ring, "SELECT COUNT(*) FROM app.orders", "1").await?;

        apart(&ring, async |ring| {
            for ordinal in [0, 1] {
                run_at(
                    ring,
                    ordinal,
                    "CREATE TABLE app.same (id INT AUTO_INCREMENT PRIMARY KEY)",
                )
                .await?;
                let insert = format!("INSERT INTO app.orders VALUES (7, 'at {ordinal}', 7{ordinal})");
                run_at(ring, ordinal, &insert).await?;
                let update = format!("UPDATE app.orders SET who = 'at {ordinal}, later' WHERE id = 7");
                run_at(ring, ordinal, &update).await?;
            }
            run_at(ring, 0, "DELETE FROM app.orders WHERE id = 20").await?;
            run_at(ring, 1, "UPDATE app.orders SET who = 'changed' WHERE id = 20").await
        })
        .await?;

        let told = eventually("both sides have stopped, and it says what to type", || async {
            let free = ring.condition("ConflictFree").await?;
            ensure!(
                free.status == "False" && free.message.contains(ANNOTATION_SETTLE),
                "{free:?}"
            );
            let conflicts = ring.get().await?.status.map_or(0, |status| status.conflicts);
            ensure!(conflicts == 2, "{conflicts}: {free:?}");
            Ok(free.message)
        })
        .await?;
        ensure!(told.contains("app.orders (id=7)"), "{told}");
        // Everybody takes writes; nobody has the other side's row.
        for ordinal in ring.ordinals() {
            run_at(&ring, ordinal, &format!("INSERT INTO app.same VALUES (1{ordinal}00)")).await?;
        }
        for (ordinal, who) in [(0, "at 0, later"), (1, "at 1, later"), (2, "at 1, later")] {
            let mut conn = ring.root(ordinal).await?;
            let row: String = sql::value(&mut conn, "SELECT who FROM app.orders WHERE id = 7").await?;
            ensure!(row == who, "member {ordinal} has {row:?}");
        }

        // A name that is no member's settles nothing and is reported.
        annotate(&ring, "00000000=demo-9".into()).await?;
        eventually("the wrong name is reported", || async {
            let progressing = ring.condition("Progressing").await?;
            ensure!(progressing.reason == "InvalidAnnotation", "{progressing:?}");
            Ok(())
        })
        .await?;

        // The first settled may bring the next to light; a person names the winner of each.
        eventually("all is settled", || async {
            let free = ring.condition("ConflictFree").await?;
            if free.status == "True" {
                return Ok(());
            }
            let orders = orders(&free.message, "demo-1");
            if !orders.is_empty() {
                annotate(&ring, orders.join(",")).await?;
            }
            Err(anyhow::anyhow!("{free:?}"))
        })
        .await?;
        ring.wait_ready().await?;
        everywhere(&ring, "SELECT who FROM app.orders WHERE id = 7", "at 1, later").await?;
        // A row that one side deleted stays deleted; the record has what the other made of it.
        everywhere(&ring, "SELECT COUNT(*) FROM app.orders WHERE id = 20", "0").await?;
        let changed = "SELECT COUNT(*) FROM multimaster.conflicts WHERE error = 1032 AND JSON_SEARCH(changes, 'one', 'changed') IS NOT NULL";
        everywhere(&ring, changed, "1").await?;
        everywhere(&ring, "SELECT COUNT(*) FROM app.same", "3").await?;
        equal(&ring).await
    })
    .await
}

/// Runs `body` while no member receives anything; the operator looks on.
pub async fn apart(ring: &Ring, body: impl AsyncFnOnce(&Ring) -> Result<()>) -> Result<()> {
    ring.patch(json!({"spec": {"paused": true}})).await?;
    ring.wait_paused().await?;
    let everywhere = async |statement| {
        let members = ring.ordinals().map(|ordinal| run_at(ring, ordinal, statement));
        try_join_all(members).await.map(drop)
    };
    everywhere("STOP REPLICA IO_THREAD").await?;
    body(ring).await?;
    everywhere("START REPLICA IO_THREAD").await?;
    ring.patch(json!({"spec": {"paused": null}})).await
}

pub async fn run_at(ring: &Ring, ordinal: u8, statement: &str) -> Result<()> {
    Ok(sql::run(&mut ring.root(ordinal).await?, statement).await?)
}

/// Where no packet from here arrives.
async fn inside_pod(ring: &Ring, ordinal: u8, statements: &str) -> Result<()> {
    let password = format!("MYSQL_PWD={}", ring.password(keys::ROOT).await?);
    let pod = ring.member(ordinal);
    let exec = [
        "exec",
        "-n",
        &ring.namespace,
        &pod,
        "-c",
        "mysql",
        "--",
        "env",
        &password,
    ];
    let mysql = ["mysql", "-uroot", "-S/run/multimaster/mysqld.sock", "-e", statements];
    kubectl(&[exec.as_slice(), &mysql].concat()).await.map(drop)
}

async fn settled(ring: &Ring) -> Result<()> {
    eventually("a conflict was seen, and all are settled", || async {
        let mut conn = ring.root(1).await?;
        let seen: u64 = sql::value(&mut conn, "SELECT COUNT(*) FROM multimaster.conflicts").await?;
        let free = ring.condition("ConflictFree").await?;
        ensure!(seen > 0 && free.status == "True", "{seen} recorded, {free:?}");
        Ok(())
    })
    .await
}

/// What a person is to type for each conflict of the message, with this winner.
pub fn orders(message: &str, winner: &str) -> Vec<String> {
    let before = format!("{ANNOTATION_SETTLE}=");
    let ids = message.split(&before).skip(1);
    ids.map(|rest| format!("{}={winner}", &rest[..8])).collect()
}

pub async fn annotate(ring: &Ring, text: String) -> Result<()> {
    let value: Value = text.into();
    ring.patch(json!({"metadata": {"annotations": {ANNOTATION_SETTLE: value}}}))
        .await
}

pub async fn everywhere(ring: &Ring, query: &str, expected: &str) -> Result<()> {
    eventually(&format!("{expected:?} on every member: {query}"), || async {
        for ordinal in ring.ordinals() {
            let mut conn = ring.root(ordinal).await?;
            let text = format!("SELECT CAST(({query}) AS CHAR)");
            let found: Option<String> = sql::value(&mut conn, &text).await?;
            ensure!(found.as_deref() == Some(expected), "member {ordinal} has {found:?}");
        }
        Ok(())
    })
    .await
}

/// Equal GTID sets, and equal rows at them.
async fn equal(ring: &Ring) -> Result<()> {
    let rows = "SELECT CONCAT(@@gtid_executed, ' ', (SELECT COALESCE(GROUP_CONCAT(id, who, code ORDER BY id), '') FROM app.orders), ' ', \
         (SELECT COUNT(*) FROM multimaster.conflicts WHERE stage <> 'settled'))";
    eventually("the members are equal", || async {
        let mut found: Vec<String> = Vec::new();
        for mut conn in ring.roots().await? {
            found.push(sql::value(&mut conn, rows).await?);
        }
        ensure!(found.windows(2).all(|two| two[0] == two[1]), "{found:#?}");
        Ok(())
    })
    .await
}
