//! Tables that a foreign key references: no row goes that nobody deleted, and the way out that a person is told is one.

use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::step::{Remedy, Step};
use multimaster::names::ANNOTATION_FENCE;

use crate::ring::{Ring, run};

/// A chain of three, another schema, SET NULL, a table that references itself; and one that nothing references.
const TABLES: &str = "CREATE DATABASE d; CREATE DATABASE e;
    CREATE TABLE d.customer (id INT PRIMARY KEY, name VARCHAR(20), code INT UNIQUE);
    CREATE TABLE d.invoice (id INT PRIMARY KEY, customer INT NOT NULL,
        FOREIGN KEY (customer) REFERENCES d.customer (id) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE d.line (id INT PRIMARY KEY, invoice INT NOT NULL, FOREIGN KEY (invoice) REFERENCES d.invoice (id) ON DELETE CASCADE);
    CREATE TABLE e.note (id INT PRIMARY KEY, customer INT,
        CONSTRAINT note_of FOREIGN KEY (customer) REFERENCES d.customer (id) ON DELETE SET NULL);
    CREATE TABLE e.tree (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES e.tree (id) ON DELETE CASCADE);
    CREATE TABLE d.plain (id INT PRIMARY KEY, name VARCHAR(20))";
/// Rows that reference others, still.
const CHILDREN: &str = "SELECT CONCAT((SELECT COUNT(*) FROM d.invoice), ' ', (SELECT COUNT(*) FROM d.line), ' ', \
     (SELECT COUNT(customer) FROM e.note), ' ', (SELECT COUNT(parent) FROM e.tree))";
const ROWS: &str = "SELECT CONCAT_WS('|', (SELECT GROUP_CONCAT(id, name, code ORDER BY id) FROM d.customer), \
     (SELECT GROUP_CONCAT(id, ' ', customer ORDER BY id) FROM d.invoice), (SELECT GROUP_CONCAT(id, ' ', invoice ORDER BY id) FROM d.line), \
     (SELECT GROUP_CONCAT(id, ' ', COALESCE(customer, '-') ORDER BY id) FROM e.note), \
     (SELECT GROUP_CONCAT(id, ' ', COALESCE(parent, '-') ORDER BY id) FROM e.tree), (SELECT GROUP_CONCAT(id, name ORDER BY id) FROM d.plain))";

/// Two transactions that exclude each other, what is told, and the rows that reference others at the end.
struct Case {
    at_0: &'static str,
    at_1: &'static str,
    told: &'static [&'static str],
    /// What a person then does at members 1 and 2, unlogged.
    last: Option<&'static str>,
    children: &'static str,
}

const CASES: [Case; 7] = [
    Case {
        at_0: "INSERT INTO d.customer VALUES (5, 'a', 50)",
        at_1: "BEGIN; INSERT INTO d.customer VALUES (5, 'b', 51); INSERT INTO d.invoice VALUES (50, 5), (51, 5);
            INSERT INTO d.line VALUES (500, 50); INSERT INTO e.note VALUES (60, 5); COMMIT",
        told: &[
            "d.customer is referenced by d.invoice (foreign key invoice_ibfk_1)",
            "d.customer is referenced by e.note (foreign key note_of)",
            "d.customer (id=5) id ",
        ],
        last: None,
        children: "2 1 1 0",
    },
    Case {
        at_0: "INSERT INTO e.tree VALUES (1, NULL)",
        at_1: "INSERT INTO e.tree VALUES (1, NULL); INSERT INTO e.tree VALUES (2, 1), (3, 2)",
        told: &["e.tree is referenced by e.tree"],
        last: None,
        children: "2 1 1 2",
    },
    Case {
        at_0: "INSERT INTO d.invoice VALUES (70, 5)",
        at_1: "INSERT INTO d.invoice VALUES (70, 5); INSERT INTO d.line VALUES (700, 70)",
        told: &["d.invoice is referenced by d.line"],
        last: None,
        children: "3 2 1 2",
    },
    // The referenced table is not the one in conflict.
    Case {
        at_0: "BEGIN; INSERT INTO d.plain VALUES (1, 'a'); UPDATE d.customer SET name = 'z' WHERE id = 5; COMMIT",
        at_1: "INSERT INTO d.plain VALUES (1, 'b')",
        told: &["d.customer is referenced by d.invoice", "d.plain (id=1) id "],
        last: None,
        children: "3 2 1 2",
    },
    Case {
        at_0: "REPLACE INTO d.customer VALUES (9, 'a', 90)",
        at_1: "INSERT INTO d.customer VALUES (9, 'b', 91); INSERT INTO e.note VALUES (69, 9)",
        told: &["d.customer is referenced by e.note"],
        last: None,
        children: "3 2 2 2",
    },
    // By another unique index.
    Case {
        at_0: "INSERT INTO d.customer VALUES (10, 'a', 100)",
        at_1: "INSERT INTO d.customer VALUES (11, 'b', 100); INSERT INTO d.invoice VALUES (80, 11)",
        told: &["UPDATE the unique value of the row d.customer (id=11)"],
        last: None,
        children: "4 2 2 2",
    },
    // The deletion is a client's, and so is what it cascades to.
    Case {
        at_0: "UPDATE d.customer SET name = 'changed' WHERE id = 9",
        at_1: "DELETE FROM d.customer WHERE id = 9",
        told: &["INSERT the row d.customer (id=9)"],
        last: Some("DELETE FROM d.customer WHERE id = 9"),
        children: "4 2 1 2",
    },
];

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_transaction_that_changes_a_referenced_table_is_not_taken() {
    let Some(mut ring) = Ring::new(21, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(0, TABLES).await;
    ring.in_step().await;
    for (number, case) in CASES.iter().enumerate() {
        eprintln!("case {number}: {} / {}", case.at_0, case.at_1);
        ring.apart(case.at_0, case.at_1).await;
        for words in case.told {
            ring.until(words, |ring| {
                ring.told().contains("for a person to mend") && ring.told().contains(words)
            })
            .await;
        }
        if number == 0 {
            what_an_earlier_operator_has_recorded_is_not_taken(&mut ring).await;
        }
        mend(&mut ring, case.last).await;
        assert_eq!(ring.everywhere(CHILDREN).await, [case.children; 3], "case {number}");
        let rows = ring.everywhere(ROWS).await;
        assert!(rows.iter().all(|here| *here == rows[0]), "case {number}: {rows:#?}");
    }
    a_fenced_member_is_mended_while_the_operator_is_paused(&mut ring).await;
    a_foreign_key_that_came_later_is_seen(&mut ring).await;
    the_same_definition_passes_by_itself(&mut ring).await;
    re_assertions_cascade_nowhere(&mut ring).await;
}

/// It knew nothing of foreign keys.
async fn what_an_earlier_operator_has_recorded_is_not_taken(ring: &mut Ring) {
    let children = ring.everywhere(CHILDREN).await;
    for stage in ["stage = 'waiting'", "stage = 'settling', winner = 0"] {
        let own = "observer = @@server_uuid AND stage = 'waiting'";
        let earlier = format!("UPDATE multimaster.conflicts SET for_a_person = NULL, {stage} WHERE {own}");
        ring.run(1, &earlier).await;
        let is_it = |step: &Step| matches!(step, Step::Settle { ordinal: 1, .. });
        let (observed, step) = ring.until_due("it is to be settled", is_it).await;
        let error = ring.act(&observed, &step).await.unwrap_err().to_string();
        assert!(error.contains("is referenced by d.invoice"), "{error}");
        ring.until("a person is asked again", |ring| {
            ring.told().contains("demo-1 and demo-0 both wrote")
        })
        .await;
        assert_eq!(ring.value(1, "SELECT @@replica_exec_mode").await, "STRICT");
        assert_eq!(ring.everywhere(CHILDREN).await, children);
    }
}

async fn a_fenced_member_is_mended_while_the_operator_is_paused(ring: &mut Ring) {
    let children = ring.everywhere(CHILDREN).await;
    let annotation = (ANNOTATION_FENCE.to_owned(), "demo-1".to_owned());
    ring.cluster.metadata.annotations = Some([annotation].into());
    ring.apart(
        "INSERT INTO d.customer VALUES (20, 'a', 200)",
        "INSERT INTO d.customer VALUES (20, 'b', 201); SET GLOBAL super_read_only = ON",
    )
    .await;
    mend(ring, None).await;
    let settings = "SELECT CONCAT(@@GLOBAL.replica_exec_mode, ' ', @@GLOBAL.read_only, @@GLOBAL.super_read_only)";
    assert_eq!(ring.value(1, settings).await, "STRICT 11");
    assert_eq!(ring.everywhere(CHILDREN).await, children);
    ring.cluster.metadata.annotations = None;
    ring.until_due("it is to be opened", |step| {
        matches!(step, Step::Open { ordinal: 1, .. })
    })
    .await;
    ring.run(1, "SET GLOBAL read_only = OFF").await;
}

async fn a_foreign_key_that_came_later_is_seen(ring: &mut Ring) {
    ring.cluster.spec.conflicts = Conflicts::default();
    ring.apart(
        "INSERT INTO d.plain VALUES (3, 'a')",
        "INSERT INTO d.plain VALUES (3, 'b')",
    )
    .await;
    ring.until("both sides are recorded", |ring| {
        ring.told().matches("who wins?").count() == 2
    })
    .await;
    for ordinal in 0..3 {
        let late = "CREATE TABLE d.late (id INT PRIMARY KEY, plain INT, FOREIGN KEY (plain) REFERENCES d.plain (id) ON DELETE CASCADE)";
        ring.run(ordinal, &format!("SET sql_log_bin = 0; {late}")).await;
    }
    ring.run(1, "INSERT INTO d.late VALUES (1, 3)").await;
    ring.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0],
    };
    ring.until("a person is asked", |ring| {
        ring.told().matches("d.plain is referenced by d.late").count() == 2
    })
    .await;
    mend(ring, None).await;
    assert_eq!(ring.everywhere("SELECT COUNT(*) FROM d.late").await, ["1"; 3]);
}

async fn the_same_definition_passes_by_itself(ring: &mut Ring) {
    let create =
        "CREATE TABLE d.same (id INT PRIMARY KEY, customer INT, FOREIGN KEY (customer) REFERENCES d.customer (id))";
    ring.apart(create, create).await;
    let skips = |step: &Step| {
        matches!(
            step,
            Step::Settle {
                remedy: Remedy::Skip,
                ..
            }
        )
    };
    let (observed, step) = ring.until_due("it is skipped", skips).await;
    ring.act(&observed, &step).await.unwrap();
    ring.until_settled().await;
}

/// As the operator writes them: without foreign key checks, which their row events say too.
async fn re_assertions_cascade_nowhere(ring: &mut Ring) {
    let children = ring.everywhere(CHILDREN).await;
    let ours = "SET foreign_key_checks = 0, gtid_next = 'AUTOMATIC:multimaster'; BEGIN;
        DELETE FROM d.customer WHERE id = 5; INSERT INTO d.customer VALUES (5, 'again', 500); COMMIT";
    ring.run(0, ours).await;
    ring.in_step().await;
    assert_eq!(ring.everywhere(CHILDREN).await, children);
    // The row is not there: it is taken, and logged without its DELETE, so that it is taken at the next member as well.
    ring.run(
        1,
        "SET sql_log_bin = 0, foreign_key_checks = 0; DELETE FROM d.customer WHERE id = 5",
    )
    .await;
    ring.run(0, ours).await;
    for ordinal in [1, 2] {
        let takes = |step: &Step| matches!(step, Step::Settle { ordinal: at, remedy: Remedy::Take, winner: None, .. } if *at == ordinal);
        let (observed, step) = ring.until_due("it is taken", takes).await;
        ring.act(&observed, &step).await.unwrap();
    }
    ring.until_settled().await;
    assert_eq!(ring.everywhere(CHILDREN).await, children);
    assert_eq!(
        ring.everywhere("SELECT name FROM d.customer WHERE id = 5").await,
        ["again"; 3]
    );
}

/// A person does what the condition says, wherever it says so, until nothing is left.
async fn mend(ring: &mut Ring, last: Option<&str>) {
    ring.cluster.status.as_mut().unwrap().conditions.clear();
    let mut mended: Vec<(usize, String)> = Vec::new();
    loop {
        ring.until("all is settled, or a person is asked", |ring| {
            ring.is_settled()
                || ring.told().contains("a row is not there at")
                || asked(ring).any(|(at, gtid, _)| !mended.contains(&(at, gtid)))
        })
        .await;
        let next = asked(ring).find(|(at, gtid, _)| !mended.contains(&(*at, gtid.clone())));
        let Some((at, gtid, statements)) = next else { break };
        let is_fenced = statements.starts_with("set spec.paused to true; ");
        ring.cluster.spec.paused = Some(is_fenced);
        follow(ring, at, statements.trim_start_matches("set spec.paused to true; ")).await;
        ring.cluster.spec.paused = None;
        mended.push((at, gtid));
    }
    assert!(!mended.is_empty(), "nobody was asked");
    if let Some(last) = last {
        for ordinal in [1, 2] {
            let unlogged = format!("SET sql_log_bin = 0, foreign_key_checks = 0; {last}");
            ring.run(ordinal, &unlogged).await;
        }
    }
    ring.until_settled().await;
}

/// Member, transaction and statements, as the condition has them.
fn asked(ring: &Ring) -> impl Iterator<Item = (usize, String, String)> {
    let told = ring.told();
    let mut parts = told.split("), and it is for a person to mend: ");
    let mut before = parts.next().unwrap_or_default().to_owned();
    let mut asked = Vec::new();
    for part in parts {
        let gtid = before.rsplit('(').next().unwrap().to_owned();
        before = part.to_owned();
        let Some((_, way)) = part.split_once("Get past it at demo-") else {
            continue;
        };
        let (_, statements) = way.split_once("as root: ").unwrap();
        let (statements, _) = statements.split_once(" (docs/ring.md").unwrap();
        asked.push((way[..1].parse().unwrap(), gtid, statements.to_owned()));
    }
    asked.into_iter()
}

async fn follow(ring: &Ring, ordinal: usize, statements: &str) {
    eprintln!("at {ordinal}: {statements}");
    let mut root = ring.agents[ordinal].root().await;
    for statement in statements.split("; ") {
        match statement {
            "INSERT the row d.customer (id=9)" => run(&mut root, "INSERT INTO d.customer VALUES (9, '?', 99)").await,
            change if change.starts_with("UPDATE the unique value of the row") => {
                let (_, id) = change.split_once("id=").unwrap();
                let id = id.trim_end_matches(')');
                run(
                    &mut root,
                    &format!("UPDATE d.customer SET code = 1{id} WHERE id = {id}"),
                )
                .await;
            }
            statement => run(&mut root, statement).await,
        }
    }
}
