//! The comparison against real servers: `MYSQL_ROOT=... cargo test --test compare -- --ignored`, see tests/agent.rs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "agent/harness.rs"]
#[allow(dead_code)]
mod harness;

use futures::FutureExt;
use harness::{Agent, Cell};
use multimaster::api::status::{ComparisonStatus, Difference};
use multimaster::names::accounts::OPERATOR;
use multimaster::operator::compare::attempts::Peer;
use multimaster::operator::compare::object::Object;
use multimaster::operator::compare::run::{Subject, compare};
use multimaster::operator::compare::stop::{let_go, snapshots};
use multimaster::operator::compare::{CompareError, Permit, Progress};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Two servers that do not replicate: what a test writes is written on both, or on one, without a GTID.
struct Pair {
    roots: Vec<Conn>,
    agents: [Agent; 2],
    // Dropped last: it removes the folders that the agents are in.
    cell: Cell,
}

impl Pair {
    async fn new(number: u8) -> Option<Self> {
        let cell = Cell::new(number)?;
        cell.configure("loose-sql_generate_invisible_primary_key=OFF\n");
        let agents = [cell.start(0, &[]), cell.start(1, &[])];
        let mut roots = Vec::new();
        for agent in &agents {
            agent.running().await;
            let mut root = agent.root().await;
            for statement in [
                "SET sql_log_bin = 0",
                "SET sql_require_primary_key = OFF",
                "SET GLOBAL read_only = OFF",
            ] {
                root.query_drop(statement).await.unwrap();
            }
            roots.push(root);
        }
        Some(Self { roots, agents, cell })
    }

    async fn both(&mut self, statement: &str) {
        for root in &mut self.roots {
            root.query_drop(statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    async fn second(&mut self, statement: &str) {
        self.roots[1]
            .query_drop(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    async fn peers(&self) -> Vec<Peer> {
        let mut peers = Vec::new();
        for (n, agent) in self.agents.iter().enumerate() {
            let connect = || agent.tcp(OPERATOR, self.cell.password(OPERATOR), agent.admin_port, true);
            let (reader, control) = (connect().await.unwrap(), connect().await.unwrap());
            let uuid = agent.report().await.unwrap().server_uuid.unwrap();
            peers.push(Peer::new(format!("demo-{n}"), uuid, reader, control).await.unwrap());
        }
        peers
    }

    async fn compared(&self) -> ComparisonStatus {
        let subject = Subject {
            requested: None,
            app: Some("app".into()),
        };
        compare(&mut self.peers().await, subject, forbidden(), &Progress::default())
            .await
            .unwrap()
    }

    /// What differs: object, keys, members.
    async fn differences(&self) -> Vec<(String, Option<String>, String)> {
        let status = self.compared().await;
        assert_eq!(usize::try_from(status.differing).unwrap(), status.differences.len());
        assert_eq!(status.writes_stopped_milliseconds, 0);
        let fields = |it: Difference| (it.object, it.keys, it.members);
        status.differences.into_iter().map(fields).collect()
    }
}

/// Nothing is written, so writes need not be stopped.
fn forbidden() -> futures::future::BoxFuture<'static, Option<Permit>> {
    async { None }.boxed()
}

const TYPES: &str = "CREATE TABLE shop.types (
    a INT UNSIGNED ZEROFILL, b BIGINT, c DECIMAL(20,5), d FLOAT, e DOUBLE, f BIT(13), g DATE, h TIME(6), i DATETIME(6),
    j TIMESTAMP(3) NULL, k YEAR, l CHAR(10), m VARCHAR(100) CHARACTER SET latin1, n BINARY(4), o VARBINARY(10), p BLOB, q TEXT,
    r ENUM('x','y'), s SET('u','v'), t JSON, u GEOMETRY, v VECTOR(3), w BIGINT GENERATED ALWAYS AS (b + 1) VIRTUAL,
    x BIGINT GENERATED ALWAYS AS (b + 2) STORED, y INT INVISIBLE DEFAULT 5, id INT, name VARCHAR(20), PRIMARY KEY (name, id))";
const VALUES: &str = "INSERT INTO shop.types (a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,id,name) VALUES
    (1, 2, 3.5, 1.1, -1e300, b'1010', '2020-01-01', '-10:00:01.5', '2020-01-01 10:00:00.123456', '2021-01-01 00:00:00.5', 2020, 'é ', 'é',
     x'00ff', x'', x'0001', 'q', 'x', 'u,v', '{\"b\": 1.0, \"a\": [1, null]}', ST_GeomFromText('POINT(1 2)', 4326), TO_VECTOR('[1,2,3]'), 1, 'ä'),
    (NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL, 1, 'b')";

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn every_type_of_column_is_compared() {
    let Some(mut pair) = Pair::new(11).await else { return };
    pair.both("CREATE DATABASE shop").await;
    pair.both(TYPES).await;
    pair.both(VALUES).await;
    // What a session or a server is set to makes no difference.
    pair.second("SET GLOBAL time_zone = '+05:00'").await;
    pair.second("SET GLOBAL sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'")
        .await;
    assert_eq!(pair.differences().await, []);

    let here = |keys: &str| {
        vec![(
            "table shop.types".to_owned(),
            Some(keys.to_owned()),
            "demo-0 | demo-1".to_owned(),
        )]
    };
    for value in [
        "a=2",
        "b=3",
        "c=3.50001",
        "d=1.1000001",
        "e=-1.0000000000000002e300",
        "f=b'1011'",
        "g='2020-01-02'",
        "h='-10:00:01.500001'",
        "i='2020-01-01 10:00:00.123457'",
        "j='2021-01-01 00:00:00.501'",
        "k=2021",
        "l='e'",
        "m='E'",
        "n=x'00ff01'",
        "o=x'00'",
        "o=NULL",
        "p=x'0002'",
        "q='Q'",
        "r='y'",
        "s='u'",
        "t='{\"b\": 1.5, \"a\": [1, null]}'",
        "u=ST_GeomFromText('POINT(1 2)', 0)",
        "v=TO_VECTOR('[1,2,4]')",
        "y=6",
        "y=NULL",
    ] {
        pair.second("BEGIN").await;
        pair.second(&format!("UPDATE shop.types SET {value} WHERE name = 'ä'"))
            .await;
        pair.second("COMMIT").await;
        assert_eq!(pair.differences().await, here("(name, id) <= ('ä', 1)"), "{value}");
        pair.second("DELETE FROM shop.types").await;
        pair.second(VALUES).await;
    }
    for value in ["l=''", "q=''", "p=''", "a=0", "t='null'"] {
        pair.second(&format!("UPDATE shop.types SET {value} WHERE name = 'b'"))
            .await;
        assert_eq!(pair.differences().await, here("(name, id) > ('ä', 1)"), "{value}");
        pair.second("DELETE FROM shop.types").await;
        pair.second(VALUES).await;
    }
    assert_eq!(pair.differences().await, []);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn rows_are_named_by_their_keys() {
    let Some(mut pair) = Pair::new(12).await else { return };
    pair.both("CREATE DATABASE shop").await;
    pair.both("CREATE TABLE shop.t (id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9))")
        .await;
    let numbers = "SET SESSION cte_max_recursion_depth = 10000";
    pair.both(numbers).await;
    let fill = "INSERT INTO shop.t WITH RECURSIVE n (id) AS (SELECT 10 UNION ALL SELECT id + 10 FROM n WHERE id < 50000) SELECT id, 'ab', 'c' FROM n";
    pair.both(fill).await;
    let status = pair.compared().await;
    assert_eq!(
        (status.tables, status.chunks, status.rows, status.differing),
        (1, 3, 5000, 0)
    );

    for (change, keys) in [
        (
            "UPDATE shop.t SET a = 'x' WHERE id = 30000",
            "id > 29990 AND id <= 30000",
        ),
        ("UPDATE shop.t SET a = 'a', b = 'bc' WHERE id = 10", "id <= 10"),
        (
            "UPDATE shop.t SET b = '' WHERE id = 20000",
            "id > 19990 AND id <= 20000",
        ),
        ("DELETE FROM shop.t WHERE id = 20010", "id > 20000 AND id <= 20010"),
        ("INSERT INTO shop.t VALUES (1, 'x', 'y')", "id <= 1"),
        ("INSERT INTO shop.t VALUES (60000, 'x', 'y')", "id > 50000"),
        // Both halves of a chunk.
        (
            "UPDATE shop.t SET b = 'x' WHERE id IN (20010, 40000)",
            "id > 20000 AND id <= 40000",
        ),
    ] {
        pair.second(change).await;
        let expected = (
            "table shop.t".to_owned(),
            Some(keys.to_owned()),
            "demo-0 | demo-1".to_owned(),
        );
        assert_eq!(pair.differences().await, [expected], "{change}");
        pair.second("DELETE FROM shop.t").await;
        pair.second(fill).await;
    }

    // NULL is not the empty string; two equal rows more are seen without a primary key.
    pair.both("UPDATE shop.t SET b = NULL WHERE id = 10").await;
    pair.second("UPDATE shop.t SET b = '' WHERE id = 10").await;
    pair.both("CREATE TABLE shop.nokey (a INT)").await;
    pair.both("INSERT INTO shop.nokey VALUES (1), (1), (2), (2)").await;
    pair.second("UPDATE shop.nokey SET a = 2").await;
    let differences = pair.differences().await;
    let both: Vec<_> = differences
        .iter()
        .map(|(object, keys, _)| (object.as_str(), keys.as_deref().unwrap()))
        .collect();
    assert_eq!(both, [("table shop.nokey", "all rows"), ("table shop.t", "id <= 10")]);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn definitions_and_accounts_are_compared() {
    let Some(mut pair) = Pair::new(13).await else { return };
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.same (id INT AUTO_INCREMENT PRIMARY KEY)",
        "CREATE TABLE shop.t (id INT PRIMARY KEY)",
        "CREATE VIEW shop.v AS SELECT 1 AS a",
        "CREATE PROCEDURE shop.p() SELECT 1",
        "CREATE TRIGGER shop.g BEFORE INSERT ON shop.t FOR EACH ROW SET @a = 1",
        "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DO SET @a = 1",
        "CREATE ROLE reader",
    ] {
        pair.both(statement).await;
    }
    // As a replica does it.
    pair.second("ALTER EVENT shop.e DISABLE ON REPLICA").await;
    // The same hash on both, as the binary log brings it.
    pair.roots[0]
        .query_drop("CREATE USER bob IDENTIFIED BY 'x'")
        .await
        .unwrap();
    let hash = pair.agents[0]
        .value("SELECT HEX(authentication_string) FROM mysql.user WHERE User = 'bob'")
        .await;
    let user = format!("CREATE USER bob IDENTIFIED WITH caching_sha2_password AS 0x{hash}");
    pair.second(&user).await;
    pair.both("GRANT reader TO bob").await;
    // Each agent sets the password of the application's account by itself.
    pair.both("CREATE USER app IDENTIFIED BY 'x'").await;
    pair.second("ALTER TABLE shop.same AUTO_INCREMENT = 100").await;
    assert_eq!(pair.differences().await, []);

    for statement in [
        "CREATE DATABASE other",
        "CREATE TABLE shop.more (id INT PRIMARY KEY)",
        "ALTER TABLE shop.t ADD COLUMN a INT",
        "CREATE OR REPLACE VIEW shop.v AS SELECT 2 AS a",
        "DROP PROCEDURE shop.p",
        "DROP TRIGGER shop.g",
        "CREATE TRIGGER shop.g BEFORE INSERT ON shop.t FOR EACH ROW SET @a = 2",
        "ALTER EVENT shop.e DO SET @a = 2",
        "GRANT SELECT ON shop.* TO reader",
        "REVOKE reader FROM bob",
        "CREATE USER eve IDENTIFIED BY 'x'",
        "GRANT SELECT ON shop.* TO app",
    ] {
        pair.second(statement).await;
    }
    let differences = pair.differences().await;
    let shown: Vec<String> = differences
        .into_iter()
        .map(|(object, keys, members)| {
            assert_eq!(keys, None);
            format!("{object}: {members}")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "database other: demo-1 | (demo-0 without it)",
            "table shop.more: demo-1 | (demo-0 without it)",
            "table shop.t: demo-0 | demo-1",
            "view shop.v: demo-0 | demo-1",
            "procedure shop.p: demo-0 | (demo-1 without it)",
            "trigger shop.g: demo-0 | demo-1",
            "event shop.e: demo-0 | demo-1",
            "account 'app'@'%': demo-0 | demo-1",
            "account 'bob'@'%': demo-0 | demo-1",
            "account 'eve'@'%': demo-1 | (demo-0 without it)",
            "account 'reader'@'%': demo-0 | demo-1",
        ]
    );
    pair.both("ALTER USER bob IDENTIFIED BY 'another salt on each'").await;
    pair.second("GRANT reader TO bob").await;
    assert!(
        pair.differences()
            .await
            .iter()
            .any(|(object, ..)| object == "account 'bob'@'%'")
    );
}

/// The server answers NULL in place of a hash of what is longer than its `max_allowed_packet`.
#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn what_is_too_long_is_named_and_the_rest_is_compared() {
    let Some(mut pair) = Pair::new(18).await else { return };
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.a (id INT PRIMARY KEY, b VARBINARY(60000))",
        "CREATE TABLE shop.z (id INT PRIMARY KEY)",
        "INSERT INTO shop.a VALUES (1, REPEAT('x', 60000))",
        "SET GLOBAL max_allowed_packet = 1 << 15",
    ] {
        pair.both(statement).await;
    }
    pair.second("INSERT INTO shop.z VALUES (1)").await;
    let status = pair.compared().await;
    assert_eq!(status.not_compared.len(), 1, "{status:?}");
    let named = &status.not_compared[0];
    assert!(
        named.starts_with("table shop.a at demo-0: ") && named.contains("max_allowed_packet"),
        "{named}"
    );
    let objects: Vec<&str> = status.differences.iter().map(|it| it.object.as_str()).collect();
    assert_eq!(objects, ["table shop.z"]);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn large_definitions_stay_in_the_server() {
    let Some(mut pair) = Pair::new(15).await else { return };
    pair.both("CREATE DATABASE shop").await;
    let large = |letter: &str| format!("'{}'", letter.repeat(100_000));
    let make = async |pair: &mut Pair, (procedure, parameter, view, column): (&str, &str, &str, &str)| {
        for statement in [
            "DROP PROCEDURE IF EXISTS shop.p".to_owned(),
            format!("CREATE PROCEDURE shop.p({parameter}) SELECT {}", large(procedure)),
            format!("CREATE OR REPLACE VIEW shop.v AS SELECT {} AS {column}", large(view)),
        ] {
            pair.second(&statement).await;
        }
    };
    for statement in [
        format!("CREATE PROCEDURE shop.p(n INT) SELECT {}", large("x")),
        format!("CREATE VIEW shop.v AS SELECT {} AS a", large("x")),
    ] {
        pair.both(&statement).await;
    }
    assert_eq!(pair.differences().await, []);
    let mut peer = pair.peers().await.pop().unwrap();
    for object in [
        Object::Procedure("shop".into(), "p".into()),
        Object::View("shop".into(), "v".into()),
    ] {
        let text = object.read(&mut peer.reader).await.unwrap().unwrap();
        assert!(text.len() < 2_000, "{object:?}: {} bytes", text.len());
    }
    for (changed, expected) in [
        (("y", "n INT", "x", "a"), "procedure shop.p"),
        (("x", "n BIGINT", "x", "a"), "procedure shop.p"),
        (("x", "m INT", "x", "a"), "procedure shop.p"),
        (("x", "n INT", "y", "a"), "view shop.v"),
        (("x", "n INT", "x", "b"), "view shop.v"),
    ] {
        make(&mut pair, changed).await;
        let differences = pair.differences().await;
        let objects: Vec<&str> = differences.iter().map(|(object, ..)| object.as_str()).collect();
        assert_eq!(objects, [expected], "{changed:?}");
    }
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn without_the_rights_of_today_triggers_and_events_are_left_out() {
    let Some(mut pair) = Pair::new(16).await else { return };
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY)",
        "CREATE TRIGGER shop.g BEFORE INSERT ON shop.t FOR EACH ROW SET @a = 1",
        "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DO SET @a = 1",
    ] {
        pair.both(statement).await;
    }
    pair.second("REVOKE TRIGGER, EVENT ON *.* FROM multimaster_operator@'%'")
        .await;
    assert_eq!(pair.differences().await, []);
    pair.second("DROP EVENT shop.e").await;
    assert_eq!(pair.differences().await, []);
    pair.second("GRANT TRIGGER, EVENT ON *.* TO multimaster_operator@'%'")
        .await;
    let differences = pair.differences().await;
    let objects: Vec<&str> = differences.iter().map(|(object, ..)| object.as_str()).collect();
    assert_eq!(objects, ["event shop.e"]);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_comparison_that_is_broken_off_leaves_no_statement() {
    let Some(pair) = Pair::new(17).await else { return };
    let mut peer = pair.peers().await.pop().unwrap();
    let reading = peer.reader.id();
    let sleeping = peer.reader.query_drop("SELECT SLEEP(200)");
    assert!(sleeping.now_or_never().is_none());
    let sessions = format!("SELECT COUNT(*) FROM performance_schema.processlist WHERE ID = {reading}");
    assert_eq!(pair.agents[1].value(&sessions).await, "1");
    peer.hang_up().await;
    while pair.agents[1].value(&sessions).await != "0" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn writes_go_on_after_snapshots_and_after_a_failed_stop() {
    let Some(mut pair) = Pair::new(14).await else { return };
    pair.both("CREATE DATABASE shop").await;
    pair.both("CREATE TABLE shop.t (id INT PRIMARY KEY)").await;
    let open = async |pair: &Pair| {
        for agent in &pair.agents {
            assert_eq!(agent.value("SELECT @@read_only + @@super_read_only").await, "0");
        }
    };
    let mut peers = pair.peers().await;
    let definition = [Object::Table("shop".into(), "t".into())];
    let stopped = snapshots(&mut peers, &definition).await.unwrap();
    assert!(
        stopped
            .attempts
            .iter()
            .all(multimaster::operator::compare::attempts::Attempt::is_equal)
    );
    open(&pair).await;
    pair.both("INSERT INTO shop.t VALUES (1)").await;
    for peer in &mut peers {
        let rows: Option<u64> = peer.reader.query_first("SELECT COUNT(*) FROM shop.t").await.unwrap();
        assert_eq!(rows, Some(0), "the snapshot is older than the row");
    }
    // Whoever wants to alter the table does not wait for the snapshot's end.
    let_go(&mut peers).await.unwrap();
    pair.second("ALTER TABLE shop.t COMMENT = 'x'").await;
    pair.second("ALTER TABLE shop.t COMMENT = ''").await;

    // A statement that holds its lock for long.
    drop(peers);
    let mut peers = pair.peers().await;
    pair.second("LOCK TABLES shop.t WRITE").await;
    let error = snapshots(&mut peers, &[]).await.unwrap_err();
    assert!(matches!(error, CompareError::NotStopped { .. }), "{error}");
    open(&pair).await;
    pair.second("UNLOCK TABLES").await;

    // One that the other never gets.
    pair.second("SET sql_log_bin = 1").await;
    pair.second("INSERT INTO shop.t VALUES (2)").await;
    let error = snapshots(&mut peers, &[]).await.unwrap_err();
    assert!(matches!(error, CompareError::NotStopped { .. }), "{error}");
    open(&pair).await;

    // A member that was fenced stays so.
    pair.second("SET sql_log_bin = 0").await;
    pair.roots[0]
        .query_drop("SET GLOBAL super_read_only = ON")
        .await
        .unwrap();
    snapshots(&mut peers, &[]).await.unwrap_err();
    assert_eq!(pair.agents[0].value("SELECT @@super_read_only").await, "1");
    assert_eq!(pair.agents[1].value("SELECT @@super_read_only").await, "0");

    // What differs while sets differ is not divergence, and cannot be seen without a stop. A member that does not catch up costs no client a write.
    let error = compare(
        &mut pair.peers().await,
        Subject::default(),
        forbidden(),
        &Progress::default(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, CompareError::NotStopped { .. }), "{error}");
    assert!(error.to_string().contains("behind each other"), "{error}");
}
