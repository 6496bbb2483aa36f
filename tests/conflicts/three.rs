//! Conflicts with three sides: the row of the member that is preferred among all of them wins, and no row goes that no client deleted.

use multimaster::api::{ConflictPolicy, Conflicts};

use crate::ring::Ring;

const TABLES: &str =
    "CREATE DATABASE d; CREATE TABLE d.plain (id INT PRIMARY KEY, v INT); CREATE TABLE d.fires LIKE d.plain;
    CREATE TABLE d.seen (id VARCHAR(36) PRIMARY KEY);
    CREATE TRIGGER d.i AFTER INSERT ON d.fires FOR EACH ROW INSERT INTO d.seen VALUES (UUID());
    CREATE TRIGGER d.x AFTER DELETE ON d.fires FOR EACH ROW INSERT INTO d.seen VALUES (UUID())";

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn the_preferred_of_all_sides_wins() {
    let Some(mut ring) = Ring::new(29, "{policy: Prefer, prefer: [0, 1, 2]}").await else {
        return;
    };
    ring.run(0, TABLES).await;
    ring.in_step().await;
    for (key, prefer) in [(1, [0, 1, 2]), (2, [1, 2, 0]), (3, [2, 0, 1])] {
        ring.cluster.spec.conflicts = Conflicts {
            policy: ConflictPolicy::Prefer,
            prefer: prefer.into(),
        };
        for table in ["plain", "fires"] {
            eprintln!("{table}, {prefer:?}");
            let insert = |value: u8| format!("INSERT INTO d.{table} VALUES ({key}, {value})");
            all_apart(&mut ring, [insert(0), insert(1), insert(2)]).await;
            let row = format!("SELECT v FROM d.{table} WHERE id = {key}");
            assert_eq!(
                ring.everywhere(&row).await,
                [prefer[0].to_string(), prefer[0].to_string(), prefer[0].to_string()]
            );
        }
        // Of two rows the winner has written one.
        for table in ["plain", "fires"] {
            let (first, second) = (10 + key, 20 + key);
            let insert = |value: u8| match value == prefer[0] {
                true => format!("INSERT INTO d.{table} VALUES ({first}, {value})"),
                false => format!("INSERT INTO d.{table} VALUES ({first}, {value}), ({second}, {value})"),
            };
            all_apart(&mut ring, [insert(0), insert(1), insert(2)]).await;
            let rows = format!("SELECT GROUP_CONCAT(v ORDER BY id) FROM d.{table} WHERE id IN ({first}, {second})");
            let rows = ring.everywhere(&rows).await;
            assert!(rows.iter().all(|here| *here == rows[0]), "{rows:?}");
            assert_eq!(rows[0].len(), 3, "{rows:?}");
            assert!(rows[0].starts_with(&prefer[0].to_string()), "{rows:?}");
        }
    }
    // Three clients inserted a row, three times; then one inserted one row and two inserted two.
    let seen = "SELECT COUNT(*) FROM d.seen";
    assert_eq!(ring.everywhere(seen).await, ["24"; 3]);
}

async fn all_apart(ring: &mut Ring, statements: [String; 3]) {
    let [at_0, at_1, at_2] = &statements;
    ring.all_apart([at_0, at_1, at_2]).await;
    ring.until_settled().await;
}
