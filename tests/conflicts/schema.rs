//! Two members carry out the same schema changes, each before it knows of the other. Nobody is asked, except where the two differ.

use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::names::ANNOTATION_SETTLE;

use crate::ring::Ring;

/// What every member has before.
const BEFORE: &str = "CREATE DATABASE d; CREATE DATABASE z;
    CREATE TABLE d.t (id INT PRIMARY KEY, name VARCHAR(20), gone INT, going INT, KEY k (name), KEY l (name, id), CONSTRAINT old CHECK (id > -1));
    CREATE TABLE d.o (id INT PRIMARY KEY, t INT, CONSTRAINT was FOREIGN KEY (t) REFERENCES d.t (id));
    CREATE TABLE d.part (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20));
    CREATE TABLE d.x2 (id INT PRIMARY KEY, CONSTRAINT twice CHECK (id > 0));
    CREATE TABLE d.x (id INT PRIMARY KEY); CREATE TABLE d.y (id INT PRIMARY KEY); CREATE VIEW d.w AS SELECT id FROM d.t;
    CREATE PROCEDURE d.q() SELECT 1; CREATE FUNCTION d.g() RETURNS INT DETERMINISTIC RETURN 1;
    CREATE TRIGGER d.ts BEFORE INSERT ON d.x FOR EACH ROW SET @x = 1; CREATE EVENT d.ew ON SCHEDULE EVERY 1 DAY DO SELECT 1;
    SET sql_require_primary_key = 0; CREATE TABLE d.plain (id INT NOT NULL, n INT);
    INSERT INTO d.t VALUES (1, 'a', 1, 1), (2, 'b', 2, 2)";

/// Statements whose second arrival fails, with the error that says so.
const SAME: [(&str, u32); 34] = [
    ("CREATE DATABASE e", 1007),
    ("DROP DATABASE z", 1008),
    ("CREATE TABLE d.a (id INT PRIMARY KEY, x INT, y INT)", 1050),
    ("CREATE TABLE d.b LIKE d.t", 1050),
    ("CREATE VIEW d.v AS SELECT id FROM d.t", 1050),
    ("DROP VIEW d.w", 1051),
    ("DROP TABLE d.x, d.y", 1051),
    ("ALTER TABLE d.t ADD COLUMN c1 INT NOT NULL DEFAULT 5 AFTER id", 1060),
    (
        "ALTER TABLE d.t ADD (c2 DECIMAL(5,2), c3 JSON DEFAULT (JSON_OBJECT())), ALGORITHM=COPY",
        1060,
    ),
    ("ALTER TABLE d.t ADD COLUMN c4 INT UNIQUE, ADD INDEX i4 (c4)", 1060),
    (
        "SET sql_mode = 'ANSI_QUOTES'; ALTER TABLE d.t ADD COLUMN \"c5 \"\" x\" INT; SET sql_mode = DEFAULT",
        1060,
    ),
    ("USE d; ALTER TABLE t ADD UNIQUE u1 (name, c1), DROP COLUMN gone", 1091),
    ("CREATE INDEX i1 ON d.t (c1, name)", 1061),
    ("ALTER TABLE d.t ADD FULLTEXT KEY f1 (name)", 1061),
    (
        "SET sql_require_primary_key = 0; ALTER TABLE d.plain ADD PRIMARY KEY (id)",
        1068,
    ),
    ("ALTER TABLE d.t DROP going", 1091),
    ("DROP INDEX k ON d.t", 1091),
    ("ALTER TABLE d.t DROP KEY l", 1091),
    ("ALTER TABLE d.o DROP FOREIGN KEY was", 1091),
    (
        "ALTER TABLE d.o ADD CONSTRAINT fk FOREIGN KEY (t) REFERENCES d.t (id) ON DELETE CASCADE",
        1826,
    ),
    ("ALTER TABLE d.o ADD CONSTRAINT positive CHECK (t > 0)", 3822),
    ("ALTER TABLE d.x2 DROP CONSTRAINT twice", 3940),
    ("ALTER TABLE d.t DROP CHECK old", 3821),
    (
        "ALTER TABLE d.part ADD PARTITION (PARTITION p2 VALUES LESS THAN (30))",
        1517,
    ),
    ("ALTER TABLE d.part DROP PARTITION p0", 1507),
    ("CREATE PROCEDURE d.p() SELECT 1", 1304),
    ("CREATE FUNCTION d.f() RETURNS INT DETERMINISTIC RETURN 1", 1304),
    ("DROP PROCEDURE d.q", 1305),
    ("DROP FUNCTION d.g", 1305),
    (
        "CREATE TRIGGER d.tr BEFORE INSERT ON d.t FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
        1359,
    ),
    (
        "CREATE EVENT d.ev ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01' DO SELECT 1",
        1537,
    ),
    ("DROP EVENT d.ew", 1539),
    ("CREATE ROLE reader, writer", 1396),
    (
        "CREATE USER app2@'%' IDENTIFIED WITH caching_sha2_password AS '$A$005$aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'",
        1396,
    ),
];

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn the_same_schema_change_at_two_members_passes_by_itself() {
    let Some(mut ring) = Ring::new(25, "{policy: Halt}").await else {
        return;
    };
    ring.run(0, BEFORE).await;
    ring.in_step().await;
    let statements: Vec<&str> = SAME.iter().map(|(statement, _)| *statement).collect();
    let statements = statements.join("; ");
    ring.apart(&statements, &statements).await;
    ring.until_settled().await;
    // Each of the two members could not carry out what the other one had.
    let mut errors: Vec<String> = SAME.iter().map(|(_, error)| format!("{error}")).collect();
    errors.sort();
    let recorded = "SELECT GROUP_CONCAT(error ORDER BY CAST(error AS CHAR)) FROM multimaster.conflicts WHERE stage = 'settled' AND member = 'demo-";
    for member in 0..2 {
        let found = ring.everywhere(&format!("{recorded}{member}'")).await;
        for found in &found {
            assert_eq!(found.split(',').collect::<Vec<_>>(), errors, "of demo-{member}");
        }
    }
    for shown in [
        "SHOW CREATE TABLE d.t",
        "SHOW CREATE TABLE d.o",
        "SHOW CREATE TABLE d.part",
    ] {
        let definitions = definitions(&ring, shown).await;
        assert!(definitions.iter().all(|it| *it == definitions[0]), "{definitions:?}");
    }
    eprintln!("rows are still replicated");
    rows_are_still_replicated(&mut ring).await;
    eprintln!("two definitions wait and are shown");
    two_definitions_wait_and_are_shown(&mut ring).await;
    eprintln!("a member that is further is no other definition");
    a_member_that_is_further_is_no_other_definition(&mut ring).await;
    eprintln!("values of its own wait for a person");
    values_of_its_own_wait_for_a_person(&mut ring).await;
    eprintln!("an account that is missing waits for a person");
    an_account_that_is_missing_waits_for_a_person(&mut ring).await;
    eprintln!("two passwords are decided like a row");
    two_passwords_are_decided_like_a_row(&mut ring).await;
    eprintln!("what no error tells");
    what_no_error_tells(&mut ring).await;
}

async fn definitions(ring: &Ring, show: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for agent in &ring.agents {
        let row: (String, String) = mysql_async::prelude::Queryable::query_first(&mut agent.root().await, show)
            .await
            .unwrap()
            .unwrap();
        shown.push(row.1);
    }
    shown
}

async fn rows_are_still_replicated(ring: &mut Ring) {
    for ordinal in 0..3 {
        let insert = format!("INSERT INTO d.t (id, name, c2) VALUES (1{ordinal}, 'n{ordinal}', 1.5)");
        ring.run(ordinal, &insert).await;
    }
    ring.in_step().await;
    let rows = "SELECT GROUP_CONCAT(CONCAT_WS(' ', id, name, c1, c2) ORDER BY id) FROM d.t";
    assert_eq!(
        ring.everywhere(rows).await,
        ["1 a 5,2 b 5,10 N0 5 1.50,11 N1 5 1.50,12 N2 5 1.50"; 3]
    );
}

async fn two_definitions_wait_and_are_shown(ring: &mut Ring) {
    let add = |type_: &str| format!("ALTER TABLE d.a ADD COLUMN z {type_}");
    ring.apart(&add("INT"), &add("BIGINT")).await;
    ring.until("both definitions are shown at both", |ring| {
        let message = ring.message();
        message.matches("the column `z` of `d`.`a` is not the same").count() == 2
            && message.matches("`z` bigint DEFAULT NULL").count() == 2
            && message.matches("`z` int DEFAULT NULL").count() == 2
    })
    .await;
    // A person makes them equal, and that is enough.
    ring.run(1, "SET sql_log_bin = 0; ALTER TABLE d.a MODIFY z INT").await;
    ring.run(2, "SET sql_log_bin = 0; ALTER TABLE d.a MODIFY z INT").await;
    ring.until_settled().await;
}

async fn a_member_that_is_further_is_no_other_definition(ring: &mut Ring) {
    let add = "ALTER TABLE d.a ADD COLUMN m INT";
    ring.apart(
        &format!("{add}; ALTER TABLE d.a ADD COLUMN n INT, ADD INDEX mn (m, n)"),
        add,
    )
    .await;
    ring.until_settled().await;
    let columns = "SELECT GROUP_CONCAT(COLUMN_NAME ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME = 'a'";
    assert_eq!(ring.everywhere(columns).await, ["id,x,y,z,m,n"; 3]);
}

async fn values_of_its_own_wait_for_a_person(ring: &mut Ring) {
    let add = "ALTER TABLE d.t ADD COLUMN made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, ADD INDEX made (made)";
    ring.apart(add, add).await;
    ring.until("both are told", |ring| {
        ring.message().matches("values of its own").count() == 2
    })
    .await;
    // The values of member 0 for all: docs/schema-changes.md.
    ring.run(
        1,
        "SET sql_log_bin = 0; ALTER TABLE d.t DROP COLUMN made; SET sql_log_bin = 1; START REPLICA SQL_THREAD",
    )
    .await;
    let gtid = ring
        .value(
            0,
            "SELECT gtid FROM multimaster.conflicts WHERE stage = 'waiting' AND member = 'demo-0'",
        )
        .await;
    let skip =
        format!("SET gtid_next = '{gtid}'; BEGIN; COMMIT; SET gtid_next = 'AUTOMATIC'; START REPLICA SQL_THREAD");
    ring.run(0, &skip).await;
    ring.run(2, "SET sql_log_bin = 0; ALTER TABLE d.t DROP COLUMN made; DO 1")
        .await;
    ring.until_settled().await;
}

async fn an_account_that_is_missing_waits_for_a_person(ring: &mut Ring) {
    ring.run(
        0,
        "SET sql_log_bin = 0; CREATE USER lonely; SET sql_log_bin = 1; GRANT SELECT ON d.* TO lonely",
    )
    .await;
    ring.until("both sides are shown", |ring| {
        let message = ring.message();
        message.contains("the account 'lonely'@'%': demo-1 does not have it, demo-0 has it")
            && message.contains("GRANT SELECT")
    })
    .await;
    for ordinal in [1, 2] {
        ring.run(
            ordinal,
            "SET sql_log_bin = 0; CREATE USER lonely; START REPLICA SQL_THREAD",
        )
        .await;
    }
    ring.until_settled().await;
}

const HASHES: &str = "SELECT HEX(authentication_string) FROM mysql.user WHERE User = 'twice'";

async fn two_passwords_are_decided_like_a_row(ring: &mut Ring) {
    // Whoever has SYSTEM_USER is altered by one who has it only.
    let create = |password: &str| {
        format!(
            "CREATE USER twice IDENTIFIED BY '{password}'; GRANT SELECT ON d.* TO twice; GRANT SYSTEM_USER ON *.* TO twice"
        )
    };
    ring.apart(&create("zero"), &create("one")).await;
    ring.until("a person is asked at both", |ring| {
        let message = ring.message();
        message.matches("both wrote mysql.user (Host=%, User=twice)").count() == 2
            && message.contains("name the winner")
    })
    .await;
    let secrets =
        "SELECT COUNT(*) FROM multimaster.conflicts WHERE CONCAT_WS(' ', changes, for_a_person, message) LIKE '%$A$%'";
    assert_eq!(ring.everywhere(secrets).await, ["0"; 3]);
    let status = serde_json::to_string(ring.cluster.status.as_ref().unwrap()).unwrap();
    assert!(!status.contains("$A$") && !status.contains("AS 0x"), "{status}");
    let id = "SELECT JSON_UNQUOTE(changes->'$[0].id') FROM multimaster.conflicts WHERE stage = 'waiting' AND member = 'demo-0'";
    let (id, one) = (ring.value(0, id).await, ring.value(1, HASHES).await);
    let annotation = (ANNOTATION_SETTLE.to_owned(), format!("{id}=demo-1"));
    ring.cluster.metadata.annotations = Some([annotation].into());
    ring.until_settled().await;
    assert_eq!(ring.everywhere(HASHES).await, [one.as_str(); 3]);

    // By policy, nobody is asked: the same init job at two members.
    ring.cluster.metadata.annotations = None;
    ring.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0, 1, 2],
    };
    ring.run(0, "DROP USER twice").await;
    ring.in_step().await;
    ring.apart(&create("same"), &create("same")).await;
    let zero = ring.value(0, HASHES).await;
    ring.until_settled().await;
    assert_eq!(ring.everywhere(HASHES).await, [zero.as_str(); 3]);
}

/// What docs/schema-changes.md warns of: no error says that these go wrong.
async fn what_no_error_tells(ring: &mut Ring) {
    ring.run(
        0,
        "CREATE TABLE d.w1 (id INT PRIMARY KEY, a INT, b INT); CREATE TABLE d.w2 LIKE d.w1; CREATE TABLE d.w3 LIKE d.w1; \
         CREATE TABLE d.w4 LIKE d.w1; CREATE TABLE d.w5 LIKE d.w1; CREATE TABLE d.w5_new (id INT PRIMARY KEY, a INT, b INT, c INT); \
         CREATE TABLE d.w6 LIKE d.w1",
    )
    .await;
    ring.in_step().await;
    ring.apart(
        "TRUNCATE TABLE d.w1; ALTER TABLE d.w2 ADD COLUMN c INT AFTER id; ALTER TABLE d.w3 DROP COLUMN a; ALTER TABLE d.w4 ADD COLUMN x INT; \
         CREATE TRIGGER d.copy AFTER INSERT ON d.w5 FOR EACH ROW INSERT INTO d.w5_new (id, a, b) VALUES (NEW.id, NEW.a, NEW.b); \
         INSERT INTO d.w5 VALUES (1, 1, 1); ALTER TABLE d.w6 ADD COLUMN c INT DEFAULT 9",
        "INSERT INTO d.w1 VALUES (1, 10, 20); INSERT INTO d.w2 VALUES (1, 10, 20); INSERT INTO d.w3 VALUES (1, 10, 20); \
         ALTER TABLE d.w4 ADD COLUMN y INT; INSERT INTO d.w5 VALUES (2, 2, 2); INSERT INTO d.w6 VALUES (1, 10, 20)",
    )
    .await;
    ring.until_settled().await;
    let rows = |table: &str| format!("SELECT COUNT(*) FROM d.{table}");
    // TRUNCATE: what another member wrote meanwhile stays at the one and goes at the other.
    assert_eq!(ring.value(0, &rows("w1")).await, "1");
    assert_eq!(ring.value(1, &rows("w1")).await, "0");
    // Row events go by position: a column in the middle, and one that goes.
    assert_eq!(
        ring.value(
            0,
            "SELECT CONCAT_WS(',', id, IFNULL(c, '-'), IFNULL(a, '-'), IFNULL(b, '-')) FROM d.w2"
        )
        .await,
        "1,10,20,-"
    );
    assert_eq!(
        ring.value(
            1,
            "SELECT CONCAT_WS(',', id, IFNULL(c, '-'), IFNULL(a, '-'), IFNULL(b, '-')) FROM d.w2"
        )
        .await,
        "1,-,10,20"
    );
    assert_eq!(ring.value(0, "SELECT CONCAT_WS(',', id, b) FROM d.w3").await, "1,10");
    assert_eq!(ring.value(1, "SELECT CONCAT_WS(',', id, b) FROM d.w3").await, "1,20");
    // Two columns: each member has them in another order.
    let order = "SELECT GROUP_CONCAT(COLUMN_NAME ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME = 'w4'";
    assert_eq!(ring.value(0, order).await, "id,a,b,x,y");
    assert_eq!(ring.value(1, order).await, "id,a,b,y,x");
    // A tool that copies by triggers misses what comes from other members.
    assert_eq!(ring.everywhere("SELECT GROUP_CONCAT(id) FROM d.w5_new").await, ["1"; 3]);
    // A column at the end, with a default: nothing goes wrong.
    assert_eq!(
        ring.everywhere("SELECT CONCAT_WS(',', id, a, b, c) FROM d.w6").await,
        ["1,10,20,9"; 3]
    );
}
