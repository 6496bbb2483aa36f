//! Answers of servers are read strictly: a value that is missing or makes no sense is an error of the probe, never a zero or an empty set.

use std::collections::BTreeMap;

use multimaster::decide::observed::Probe;
use multimaster::mysql::io::connection::{
    Address, STEP_DEADLINE, SqlError, ask, close, connect, gtid_set, optional, required, rows,
};
use multimaster::names::{MYSQL_ADMIN_PORT, accounts, keys, service_host};
use multimaster::operator::members::{Credentials, MemberClients};
use multimaster::operator::observe::members::server;
use mysql_async::prelude::Queryable;

use crate::harness::{Cell, eventually};

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_column_that_makes_no_sense_is_an_error() {
    let Some(cell) = Cell::new(36) else { return };
    let agent = cell.start(0, &[]);
    agent.running().await;
    let mut conn = agent.root().await;
    let query = "SELECT NULL AS nothing, 'nonsense' AS text, -1 AS below, 2 AS two, '' AS none, \
         '10000000-0000-0000-0000-000000000000:1-5,\n10000000-0000-0000-0000-000000000000:7' AS executed";
    let found = rows(&mut conn, query).await.unwrap();
    let row = &found[0];

    let uuid = "10000000-0000-0000-0000-000000000000";
    assert_eq!(gtid_set(row, "executed").unwrap().to_string(), format!("{uuid}:1-5:7"));
    assert_eq!(gtid_set(row, "none").unwrap().to_string(), "");
    assert_eq!(required::<u64>(row, "two").unwrap(), 2);
    assert_eq!(optional::<u64>(row, "nothing").unwrap(), None);

    let wrong: [(&str, SqlError); 9] = [
        ("nonsense", gtid_set(row, "text").unwrap_err()),
        ("NULL", gtid_set(row, "nothing").unwrap_err()),
        ("there is no column gone", gtid_set(row, "gone").unwrap_err()),
        ("column text", required::<u64>(row, "text").unwrap_err()),
        ("column below", required::<u32>(row, "below").unwrap_err()),
        ("column two", required::<bool>(row, "two").unwrap_err()),
        (
            "column nothing is NULL",
            required::<String>(row, "nothing").unwrap_err(),
        ),
        ("column text", optional::<i64>(row, "text").unwrap_err()),
        ("there is no column gone", optional::<i64>(row, "gone").unwrap_err()),
    ];
    for (words, error) in wrong {
        assert!(matches!(error, SqlError::Unreadable(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        // The server answered: it has not failed.
        assert!(error.is_of_the_living() && !error.leaves_doubt(), "{error}");
    }
}

/// All that a real server says of itself and of its channels is there.
#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_real_server_can_be_read() {
    let Some(cell) = Cell::new(37) else { return };
    let port = format!("--mysql-admin-port={MYSQL_ADMIN_PORT}");
    let agent = cell.start(0, &[&port]);
    let uuid = agent.running().await.server_uuid.unwrap();
    let mut root = agent.root().await;
    for channel in ["from-1", "from-2"] {
        let attach = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=9, SOURCE_USER='u', SOURCE_AUTO_POSITION=1 \
             FOR CHANNEL '{channel}'"
        );
        root.query_drop(attach).await.unwrap();
    }
    root.query_drop("START REPLICA FOR CHANNEL 'from-1'").await.unwrap();

    let passwords = BTreeMap::from([
        (keys::OPERATOR.to_owned(), cell.password(accounts::OPERATOR).to_owned()),
        (keys::AGENT_TOKEN.to_owned(), "unused".to_owned()),
    ]);
    let credentials = Credentials::new(passwords, cell.authority().as_bytes().to_vec());
    let clients = MemberClients::default();
    let host = service_host("demo", "test");
    let ip = agent.address.parse().unwrap();
    let mut client = clients.of("pod", ip, host, &credentials).await.unwrap();
    let Probe::Reached(found) = server(&mut client).await else {
        panic!("{:?}", server(&mut client).await)
    };
    assert_eq!((found.uuid, found.super_read_only), (uuid, true));
    assert_ne!(found.server_id, 0);
    assert!(found.executed.is_empty() && !found.binary_logs.is_empty());
    let names: Vec<&str> = found.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["from-1", "from-2"]);
    assert_eq!(found.unread, Default::default());
}

/// Users store rows of any size, and a server that lies sends rows without an end.
#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    const LONGEST: usize = 1 << 20;
    let Some(cell) = Cell::new(42) else { return };
    let port = format!("--mysql-admin-port={MYSQL_ADMIN_PORT}");
    let agent = cell.start(0, &[&port]);
    agent.running().await;
    let address = Address {
        ip: agent.address.clone(),
        host: service_host("demo", "test"),
        user: accounts::OPERATOR,
        password: cell.password(accounts::OPERATOR).to_owned(),
        authority: cell.authority().as_bytes().to_vec(),
        longest_answer: LONGEST,
    };
    let room = LONGEST - (1 << 16);
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT /*+ SET_VAR(cte_max_recursion_depth = \
         1000000) */ i FROM n";
    for (query, fits) in [
        (format!("SELECT REPEAT('x', {room}) AS text"), true),
        (format!("SELECT REPEAT('x', {LONGEST}) AS text"), false),
        (
            format!("SELECT REPEAT('x', {room}) AS text UNION ALL SELECT REPEAT('y', 70000)"),
            false,
        ),
        (endless.into(), false),
    ] {
        let mut conn = connect(&address, STEP_DEADLINE).await.unwrap();
        let answer = ask(&mut conn, &query).await;
        let query: String = query.chars().take(60).collect();
        match answer {
            Ok(rows) => assert!(fits && rows.len() == 1, "{query}"),
            Err(error) => {
                assert!(!fits && matches!(error, SqlError::TooLong), "{query}: {error:?}");
                // The server is alive, and the connection is not used again.
                assert!(error.is_of_the_living() && error.leaves_doubt(), "{query}");
            }
        }
        // It ends now, although the server has more to say.
        close(conn);
        let sessions = format!(
            "SELECT COUNT(*) FROM performance_schema.processlist WHERE USER = '{}'",
            accounts::OPERATOR
        );
        eventually("the session is gone", async || agent.value(&sessions).await == "0").await;
    }
}
