//! Tables with triggers: what settles a conflict fires none.

use crate::ring::Ring;

/// Every statement of a client leaves a row in `d.seen`. So would a statement of the operator.
const TABLES: &str = "CREATE DATABASE d;
    CREATE TABLE d.seen (id VARCHAR(36) PRIMARY KEY, what VARCHAR(40));
    CREATE TABLE d.t (id VARCHAR(20) PRIMARY KEY, v INT, doc JSON, bin VARBINARY(9), at DATETIME(6), amount DECIMAL(9, 2), kind ENUM('x', 'y'),
        twice INT AS (v * 2) VIRTUAL, thrice INT AS (v * 3) STORED);
    CREATE TABLE d.child (id INT PRIMARY KEY, t VARCHAR(20), FOREIGN KEY (t) REFERENCES d.t (id) ON DELETE CASCADE);
    CREATE TRIGGER d.i AFTER INSERT ON d.t FOR EACH ROW INSERT INTO d.seen VALUES (UUID(), CONCAT('insert ', NEW.id));
    CREATE TRIGGER d.u AFTER UPDATE ON d.t FOR EACH ROW INSERT INTO d.seen VALUES (UUID(), CONCAT('update ', NEW.id));
    CREATE TRIGGER d.x AFTER DELETE ON d.t FOR EACH ROW INSERT INTO d.seen VALUES (UUID(), CONCAT('delete ', OLD.id))";
const INSERT: &str = "INSERT INTO d.t (id, v, doc, bin, at, amount, kind) VALUES";
const SEEN: &str = "SELECT GROUP_CONCAT(what ORDER BY what) FROM d.seen";

/// Two transactions that exclude each other, the row that wins, and what clients did to it.
struct Case {
    at_0: &'static str,
    at_1: &'static str,
    row: (&'static str, &'static str),
    seen: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        at_0: "('a', 10, '{\"k\": [1, null]}', x'00ff', '2026-01-02 03:04:05.000006', -1.25, 'y')",
        at_1: "('a', 20, NULL, NULL, NULL, NULL, NULL)",
        row: (
            "SELECT CONCAT_WS(' ', id, v, doc, HEX(bin), at, amount, kind, twice, thrice) FROM d.t WHERE id = 'a'",
            "a 10 {\"k\": [1, null]} 00FF 2026-01-02 03:04:05.000006 -1.25 y 20 30",
        ),
        seen: "insert a,insert a",
    },
    // The collation takes them for one key.
    Case {
        at_0: "('b', 10, NULL, NULL, NULL, NULL, NULL)",
        at_1: "('B', 20, NULL, NULL, NULL, NULL, NULL)",
        row: ("SELECT CONCAT(id, v) FROM d.t WHERE id = 'b'", "b10"),
        seen: "insert a,insert a,insert b,insert B",
    },
    // A late write; a client of the winner changed its own row, too.
    Case {
        at_0: "('c', 10, NULL, NULL, NULL, NULL, NULL); UPDATE d.t SET v = 11 WHERE id = 'c'",
        at_1: "('c', 20, NULL, NULL, NULL, NULL, NULL); INSERT INTO d.child VALUES (1, 'c'); UPDATE d.t SET v = 21 WHERE id = 'c'",
        row: (
            "SELECT CONCAT(id, v, (SELECT COUNT(*) FROM d.child)) FROM d.t WHERE id = 'c'",
            "c111",
        ),
        seen: "insert a,insert a,insert b,insert B,insert c,insert c,update c,update c",
    },
    // Many rows in one transaction, of which one is in conflict.
    Case {
        at_0: "('d', 10, NULL, NULL, NULL, NULL, NULL)",
        at_1: "('d', 20, NULL, NULL, NULL, NULL, NULL), ('e', 21, NULL, NULL, NULL, NULL, NULL)",
        row: (
            "SELECT GROUP_CONCAT(id, v ORDER BY id) FROM d.t WHERE id IN ('d', 'e')",
            "d10,e21",
        ),
        seen: "insert a,insert a,insert b,insert B,insert c,insert c,insert d,insert d,insert e,update c,update c",
    },
];

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn no_trigger_fires() {
    let Some(mut ring) = Ring::new(26, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(0, TABLES).await;
    ring.in_step().await;
    for case in &CASES {
        eprintln!("{} / {}", case.at_0, case.at_1);
        ring.apart(&format!("{INSERT} {}", case.at_0), &format!("{INSERT} {}", case.at_1))
            .await;
        ring.until_settled().await;
        let (query, expected) = case.row;
        assert_eq!(ring.everywhere(query).await, [expected; 3]);
        assert_eq!(ring.everywhere(SEEN).await, [case.seen; 3]);
    }
}
