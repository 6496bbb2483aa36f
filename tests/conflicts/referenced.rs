//! Tables that a foreign key references: no row is lost that no client deleted.

use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::step::{Action, Remedy, Step};
use multimaster::names::ANNOTATION_FENCE;

use crate::ring::Ring;

/// A chain of three, another schema, SET NULL, a table that references itself; and one that nothing references.
const TABLES: &str = "CREATE DATABASE d; CREATE DATABASE e;
    CREATE TABLE d.customer (id INT PRIMARY KEY, name VARCHAR(20), code INT UNIQUE);
    CREATE TABLE d.invoice (id INT PRIMARY KEY, customer INT NOT NULL,
        FOREIGN KEY (customer) REFERENCES d.customer (id) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE d.line (id INT PRIMARY KEY, invoice INT NOT NULL, FOREIGN KEY (invoice) REFERENCES d.invoice (id) ON DELETE CASCADE);
    CREATE TABLE e.note (id INT PRIMARY KEY, customer INT,
        CONSTRAINT note_of FOREIGN KEY (customer) REFERENCES d.customer (id) ON DELETE SET NULL ON UPDATE CASCADE);
    CREATE TABLE e.tree (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES e.tree (id) ON DELETE CASCADE);
    CREATE TABLE d.plain (id INT PRIMARY KEY, name VARCHAR(20))";
/// Rows that reference others, still.
const CHILDREN: &str = "SELECT CONCAT((SELECT COUNT(*) FROM d.invoice), ' ', (SELECT COUNT(*) FROM d.line), ' ', \
     (SELECT COUNT(customer) FROM e.note), ' ', (SELECT COUNT(parent) FROM e.tree))";
const ROWS: &str = "SELECT CONCAT_WS('|', (SELECT GROUP_CONCAT(id, name, code ORDER BY id) FROM d.customer), \
     (SELECT GROUP_CONCAT(id, ' ', customer ORDER BY id) FROM d.invoice), (SELECT GROUP_CONCAT(id, ' ', invoice ORDER BY id) FROM d.line), \
     (SELECT GROUP_CONCAT(id, ' ', COALESCE(customer, '-') ORDER BY id) FROM e.note), \
     (SELECT GROUP_CONCAT(id, ' ', COALESCE(parent, '-') ORDER BY id) FROM e.tree), (SELECT GROUP_CONCAT(id, name ORDER BY id) FROM d.plain))";

/// Two transactions that exclude each other, what then is in the row in conflict, and the rows that reference others.
struct Case {
    at_0: &'static str,
    at_1: &'static str,
    row: (&'static str, &'static str),
    children: &'static str,
}

const CASES: [Case; 8] = [
    Case {
        at_0: "INSERT INTO d.customer VALUES (5, 'a', 50)",
        at_1: "BEGIN; INSERT INTO d.customer VALUES (5, 'b', 51); INSERT INTO d.invoice VALUES (50, 5), (51, 5);
            INSERT INTO d.line VALUES (500, 50); INSERT INTO e.note VALUES (60, 5); COMMIT",
        row: ("SELECT CONCAT(name, code) FROM d.customer WHERE id = 5", "a50"),
        children: "2 1 1 0",
    },
    Case {
        at_0: "INSERT INTO e.tree VALUES (1, NULL)",
        at_1: "INSERT INTO e.tree VALUES (1, NULL); INSERT INTO e.tree VALUES (2, 1), (3, 2)",
        row: ("SELECT COUNT(*) FROM e.tree", "3"),
        children: "2 1 1 2",
    },
    Case {
        at_0: "INSERT INTO d.invoice VALUES (70, 5)",
        at_1: "INSERT INTO d.invoice VALUES (70, 5); INSERT INTO d.line VALUES (700, 70)",
        row: ("SELECT customer FROM d.invoice WHERE id = 70", "5"),
        children: "3 2 1 2",
    },
    // The referenced table is not the one in conflict.
    Case {
        at_0: "BEGIN; INSERT INTO d.plain VALUES (1, 'a'); UPDATE d.customer SET name = 'z' WHERE id = 5; COMMIT",
        at_1: "INSERT INTO d.plain VALUES (1, 'b')",
        row: ("SELECT name FROM d.plain WHERE id = 1", "a"),
        children: "3 2 1 2",
    },
    Case {
        at_0: "REPLACE INTO d.customer VALUES (9, 'a', 90)",
        at_1: "INSERT INTO d.customer VALUES (9, 'b', 91); INSERT INTO e.note VALUES (69, 9)",
        row: ("SELECT CONCAT(name, code) FROM d.customer WHERE id = 9", "a90"),
        children: "3 2 2 2",
    },
    // By another unique index: the row that loses goes, the rows that reference it stay.
    Case {
        at_0: "INSERT INTO d.customer VALUES (10, 'a', 100)",
        at_1: "BEGIN; INSERT INTO d.customer VALUES (11, 'b', 100); INSERT INTO d.invoice VALUES (80, 11); COMMIT",
        row: ("SELECT CONCAT(id, name) FROM d.customer WHERE code = 100", "10a"),
        children: "4 2 2 2",
    },
    // The deletion is a client's, and so is what it sets to NULL.
    Case {
        at_0: "UPDATE d.customer SET name = 'changed' WHERE id = 9",
        at_1: "DELETE FROM d.customer WHERE id = 9",
        row: ("SELECT COUNT(*) FROM d.customer WHERE id = 9", "0"),
        children: "4 2 1 2",
    },
    // A client moves a parent to another key, with its children; the other side has that key.
    Case {
        at_0: "UPDATE d.customer SET id = 6 WHERE id = 5",
        at_1: "INSERT INTO d.customer VALUES (6, 'b', 60)",
        row: ("SELECT GROUP_CONCAT(id, name) FROM d.customer WHERE id IN (5, 6)", "6z"),
        children: "4 2 1 2",
    },
];

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn no_row_goes_that_no_client_deleted() {
    let Some(mut ring) = Ring::new(21, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(0, TABLES).await;
    ring.in_step().await;
    for (number, case) in CASES.iter().enumerate() {
        eprintln!("case {number}: {} / {}", case.at_0, case.at_1);
        settled(&mut ring, case).await;
    }
    a_taken_deletion_deletes_what_an_applied_one_does(&mut ring).await;
    a_child_whose_parent_has_lost_waits_for_a_person(&mut ring).await;
    what_an_earlier_operator_left_to_a_person_is_settled(&mut ring).await;
    rows_that_reference_them_are_compared(&mut ring).await;
    a_fenced_member_is_fenced_afterwards(&mut ring).await;
    the_same_definition_passes_by_itself(&mut ring).await;
    re_assertions_cascade_nowhere(&mut ring).await;
}

/// Without a person.
async fn settled(ring: &mut Ring, case: &Case) {
    ring.apart(case.at_0, case.at_1).await;
    ring.until_settled().await;
    let (query, expected) = case.row;
    assert_eq!(ring.everywhere(query).await, [expected; 3]);
    assert_eq!(ring.everywhere(CHILDREN).await, [case.children; 3]);
    let rows = ring.everywhere(ROWS).await;
    assert!(rows.iter().all(|here| *here == rows[0]), "{rows:#?}");
    let asked = "SELECT COUNT(*) FROM multimaster.conflicts WHERE for_a_person IS NOT NULL";
    assert_eq!(ring.everywhere(asked).await, ["0"; 3]);
}

/// A transaction deletes a parent, and the deleting member does not know its new child. Taking it does to the child what applying it does.
async fn a_taken_deletion_deletes_what_an_applied_one_does(ring: &mut Ring) {
    ring.run(0, "INSERT INTO d.customer VALUES (30, 'p', 300), (31, 'p', 310)")
        .await;
    ring.in_step().await;
    ring.apart(
        "DELETE FROM d.customer WHERE id = 31;
         BEGIN; DELETE FROM d.customer WHERE id = 30; INSERT INTO d.plain VALUES (30, 'a'); COMMIT",
        "INSERT INTO d.plain VALUES (30, 'b'); INSERT INTO d.invoice VALUES (95, 30), (96, 31)",
    )
    .await;
    ring.until("a person is asked", |ring| ring.message().contains("ERROR 1452 "))
        .await;
    let parents = "SELECT COUNT(*) FROM d.customer WHERE id IN (30, 31)";
    ring.until_value(2, parents, "0").await;
    for ordinal in [1, 2] {
        let [applied, taken] = [96, 95].map(|id| format!("SELECT COUNT(*) FROM d.invoice WHERE id = {id}"));
        assert_eq!(
            ring.value(ordinal, &applied).await,
            ring.value(ordinal, &taken).await,
            "{ordinal}"
        );
    }
    // The person lets the children in, and deletes them with their parents again.
    ring.run(
        0,
        "INSERT INTO d.customer VALUES (30, 'p', 300), (31, 'p', 310); START REPLICA SQL_THREAD",
    )
    .await;
    ring.until_settled().await;
    ring.run(0, "DELETE FROM d.customer WHERE id IN (30, 31)").await;
    ring.until_settled().await;
    let rows = ring.everywhere(ROWS).await;
    assert!(rows.iter().all(|here| *here == rows[0]), "{rows:#?}");
}

/// Its parent is gone at one member, and the transaction itself says nothing of the parent.
async fn a_child_whose_parent_has_lost_waits_for_a_person(ring: &mut Ring) {
    ring.apart(
        "INSERT INTO d.customer VALUES (12, 'a', 120)",
        "INSERT INTO d.customer VALUES (13, 'b', 120); INSERT INTO d.invoice VALUES (90, 13)",
    )
    .await;
    ring.until("a person is asked", |ring| ring.message().contains("ERROR 1452 "))
        .await;
    // The person gives the child another parent, where the parent is gone.
    ring.run(
        0,
        "INSERT INTO d.customer VALUES (13, 'again', 130); START REPLICA SQL_THREAD",
    )
    .await;
    ring.until_settled().await;
    assert_eq!(
        ring.everywhere("SELECT customer FROM d.invoice WHERE id = 90").await,
        ["13"; 3]
    );
    assert_eq!(
        ring.everywhere("SELECT name FROM d.customer WHERE id = 13").await,
        ["again"; 3]
    );
}

/// It did not take a transaction that changes a referenced table.
async fn what_an_earlier_operator_left_to_a_person_is_settled(ring: &mut Ring) {
    let children = ring.everywhere(CHILDREN).await;
    ring.cluster.spec.conflicts = Conflicts::default();
    ring.apart(
        "INSERT INTO d.customer VALUES (7, 'a', 70)",
        "INSERT INTO d.customer VALUES (7, 'b', 71); INSERT INTO d.line VALUES (800, 80)",
    )
    .await;
    ring.until("both sides are recorded", |ring| {
        ring.message().matches("name the winner:").count() == 2
    })
    .await;
    let earlier = "UPDATE multimaster.conflicts SET for_a_person = 'it changes a table that a foreign key references, and taking it could ...' \
         WHERE observer = @@server_uuid AND stage = 'waiting'";
    ring.run(0, earlier).await;
    ring.run(1, earlier).await;
    ring.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0],
    };
    ring.until_settled().await;
    assert_eq!(
        ring.everywhere("SELECT name FROM d.customer WHERE id = 7").await,
        ["a"; 3]
    );
    assert_ne!(ring.everywhere(CHILDREN).await, children);
    assert_eq!(ring.everywhere(CHILDREN).await, ["5 3 1 2"; 3]);
}

/// Directly, and over rows between them.
async fn rows_that_reference_them_are_compared(ring: &mut Ring) {
    ring.run(0, "INSERT INTO d.customer VALUES (40, 'a', 400), (41, 'a', 410)")
        .await;
    ring.in_step().await;
    // As if the action of a foreign key had not been carried out at one member.
    ring.run(
        2,
        "SET sql_log_bin = 0, foreign_key_checks = 0; INSERT INTO d.line VALUES (4000, 400); INSERT INTO d.invoice VALUES (400, 40)",
    )
    .await;
    ring.run(
        1,
        "SET sql_log_bin = 0, foreign_key_checks = 0; INSERT INTO d.invoice VALUES (400, 40); INSERT INTO e.note VALUES (410, 41)",
    )
    .await;
    ring.run(
        0,
        "SET sql_log_bin = 0, foreign_key_checks = 0; INSERT INTO d.invoice VALUES (400, 40)",
    )
    .await;
    ring.apart(
        "UPDATE d.customer SET name = 'b' WHERE id = 40; UPDATE d.customer SET name = 'b' WHERE id = 41",
        "SET foreign_key_checks = 0; DELETE FROM d.customer WHERE id = 40; DELETE FROM d.customer WHERE id = 41",
    )
    .await;
    ring.until("both are told", |ring| {
        let message = ring.message();
        message.contains("the rows of d.line that reference d.invoice")
            && message.contains("the rows of e.note that reference d.customer")
    })
    .await;
    assert_eq!(
        ring.everywhere("SELECT COUNT(*) FROM d.customer WHERE id IN (40, 41)")
            .await,
        ["0"; 3]
    );
    ring.run(2, "SET sql_log_bin = 0; DELETE FROM d.line WHERE id = 4000")
        .await;
    ring.run(1, "SET sql_log_bin = 0; DELETE FROM e.note WHERE id = 410")
        .await;
    ring.until_settled().await;
    for ordinal in 0..3 {
        ring.run(ordinal, "SET sql_log_bin = 0; DELETE FROM d.invoice WHERE id = 400")
            .await;
    }
}

async fn a_fenced_member_is_fenced_afterwards(ring: &mut Ring) {
    let children = ring.everywhere(CHILDREN).await;
    let annotation = (ANNOTATION_FENCE.to_owned(), "demo-1".to_owned());
    ring.cluster.metadata.annotations = Some([annotation].into());
    // As an agent of an earlier version leaves it.
    ring.run(1, "SET sql_log_bin = 0; DROP USER multimaster_settler@'%'")
        .await;
    ring.apart(
        "INSERT INTO d.customer VALUES (20, 'a', 200)",
        "INSERT INTO d.customer VALUES (20, 'b', 201); SET GLOBAL super_read_only = ON",
    )
    .await;
    ring.until_settled().await;
    let settings = "SELECT CONCAT(@@GLOBAL.replica_exec_mode, ' ', @@GLOBAL.read_only, @@GLOBAL.super_read_only)";
    assert_eq!(ring.value(1, settings).await, "STRICT 11");
    assert_eq!(ring.everywhere(CHILDREN).await, children);
    ring.cluster.metadata.annotations = None;
    let opens = |step: &Step| {
        matches!(
            step,
            Step::Member {
                ordinal: 1,
                action: Action::Open,
                ..
            }
        )
    };
    ring.until_due("it is to be opened", opens).await;
    ring.run(1, "SET GLOBAL read_only = OFF").await;
}

async fn the_same_definition_passes_by_itself(ring: &mut Ring) {
    let create =
        "CREATE TABLE d.same (id INT PRIMARY KEY, customer INT, FOREIGN KEY (customer) REFERENCES d.customer (id))";
    ring.apart(create, create).await;
    let skips = |step: &Step| {
        matches!(
            step.on_member(),
            Some(Action::Settle {
                remedy: Remedy::Skip,
                ..
            })
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
        let takes = |step: &Step| matches!(step, Step::Member { ordinal: at, action: Action::Settle { remedy: Remedy::Take, winner: Some(0), .. }, .. } if *at == ordinal);
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
