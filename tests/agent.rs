//! The agent against a real mysqld. `MYSQL_ROOT` names the root of a file system with MySQL 9.7 (see hack/); these tests
//! are ignored by default because not every machine has one: `MYSQL_ROOT=... cargo test --test agent -- --ignored`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "agent/answers.rs"]
mod answers;
#[path = "agent/conflict_table.rs"]
mod conflict_table;
#[path = "agent/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "agent/isolation.rs"]
mod isolation;
#[path = "agent/lease.rs"]
mod lease;
#[path = "agent/marks.rs"]
mod marks;
#[path = "agent/read_your_writes.rs"]
mod read_your_writes;
#[path = "agent/records.rs"]
mod records;
#[path = "agent/relay_logs.rs"]
mod relay_logs;
#[path = "agent/versions.rs"]
mod versions;

use harness::{Agent, Cell, eventually};
use multimaster::wire::agent::{
    CloneOrder, EmptyOrder, Order, Origin, PATH_CLONE, PATH_EMPTY, PATH_FOUND, PATH_NEW_LIFE, Phase, Report, VERSION,
};
use mysql_async::prelude::Queryable;

fn order(uuid: &str) -> Order {
    Order {
        version: VERSION,
        server_uuid: uuid.into(),
    }
}

/// What the operator says of the donor; the agent only repeats it.
const UNKNOWN: &str = "ffffffff-0000-0000-0000-000000000000";

fn clone_order(uuid: &str, donor: &str) -> CloneOrder {
    CloneOrder {
        version: VERSION,
        server_uuid: uuid.into(),
        donor_address: donor.into(),
        donor_uuid: Some(UNKNOWN.into()),
        donor_has_place: true,
    }
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_member_from_its_first_start_to_its_end() {
    let Some(cell) = Cell::new(1) else { return };
    let mut agent = cell.start(2, &[]);

    // Fresh: alive, empty, fenced, without a GTID.
    let first = agent.running().await;
    let uuid = first.server_uuid.clone().unwrap();
    assert_eq!(
        (first.ordinal, first.origin, first.server_id & 0xf),
        (2, Origin::Empty, 3)
    );
    assert_eq!(agent.probe("livez").await.0, 200);
    let (status, why) = agent.probe("readyz").await;
    assert!(status == 503 && why.contains("fenced"), "{status} {why}");
    assert_eq!(agent.value("SELECT @@GLOBAL.gtid_executed").await, "");
    assert_eq!(
        agent.value("SELECT @@GLOBAL.server_id").await,
        first.server_id.to_string()
    );

    // The accounts: over the network with TLS only, each with its own password.
    for account in [
        "multimaster_operator",
        "multimaster_settler",
        "multimaster_replication",
        "multimaster_link",
        "multimaster_agent",
    ] {
        agent
            .tcp(account, cell.password(account), agent.mysql_port, true)
            .await
            .unwrap();
        let error = agent
            .tcp(account, cell.password(account), agent.mysql_port, false)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("Access denied"), "{account}: {error}");
    }
    agent
        .tcp("root", cell.password("root"), agent.mysql_port, true)
        .await
        .unwrap();
    assert!(agent.tcp("root", "", agent.mysql_port, true).await.is_err());
    let mut operator = agent
        .tcp(
            "multimaster_operator",
            cell.password("multimaster_operator"),
            agent.admin_port,
            true,
        )
        .await
        .unwrap();
    for statement in [
        "SET sql_log_bin=0",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=9, SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, \
         SOURCE_CONNECT_RETRY=1 FOR CHANNEL 'from-1'",
        "START REPLICA FOR CHANNEL 'from-1'",
        "STOP REPLICA FOR CHANNEL 'from-1'",
        "RESET REPLICA ALL FOR CHANNEL 'from-1'",
        "SHOW BINARY LOGS",
        "SHOW BINARY LOG STATUS",
        "SHOW REPLICA STATUS",
        "SELECT * FROM performance_schema.replication_connection_status",
        "SELECT * FROM information_schema.processlist",
        "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged",
        "SHOW GRANTS FOR root@localhost",
        "SHOW CREATE USER root@localhost",
    ] {
        operator
            .query_drop(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert!(operator.query_drop("CREATE DATABASE no").await.is_err());

    // Applications that hold every connection leave links and clones their place.
    let (crowd, password) = ("multimaster_replication", cell.password("multimaster_replication"));
    let mut root = agent.root().await;
    root.query_drop("SET GLOBAL max_connections = 10").await.unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match agent.tcp(crowd, password, agent.mysql_port, true).await {
            Ok(conn) => held.push(conn),
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.contains("Too many connections"), "{refused}");
    for account in ["multimaster_link", "multimaster_agent"] {
        let (password, port) = (cell.password(account), agent.admin_port);
        let mut conn = agent.tcp(account, password, port, true).await.unwrap();
        conn.ping().await.unwrap();
    }
    drop(held);
    root.query_drop("SET GLOBAL max_connections = DEFAULT").await.unwrap();

    // Orders: none without the token, none for another server.
    assert_eq!(agent.post_as("wrong", PATH_FOUND, &order(&uuid)).await.0, 401);
    let (status, why) = agent
        .post(PATH_FOUND, &order("00000000-0000-0000-0000-000000000000"))
        .await;
    assert!(status == 409 && why.contains(&uuid), "{status} {why}");
    assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);
    assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);
    assert_eq!(agent.running().await.origin, Origin::Founded);
    assert_eq!(agent.post(PATH_CLONE, &clone_order(&uuid, "a.name")).await.0, 400);
    let (status, why) = agent.post(PATH_CLONE, &clone_order(&uuid, "127.0.0.1")).await;
    assert!(status == 409 && why.contains("holds data"), "{status} {why}");

    // Opened as the operator does it; only InnoDB with a primary key.
    operator.query_drop("SET GLOBAL super_read_only=OFF").await.unwrap();
    operator.query_drop("SET GLOBAL read_only=OFF").await.unwrap();
    assert_eq!(agent.probe("readyz").await.0, 200);
    let mut root = agent.root().await;
    root.query_drop("CREATE DATABASE shop").await.unwrap();
    root.query_drop("CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
        .await
        .unwrap();
    root.query_drop("INSERT INTO shop.t (v) VALUES (1), (2)").await.unwrap();
    assert_eq!(agent.value("SELECT GROUP_CONCAT(id) FROM shop.t").await, "3,12");
    assert!(
        root.query_drop("CREATE TABLE shop.m (id INT PRIMARY KEY) ENGINE=MyISAM")
            .await
            .is_err()
    );
    assert!(root.query_drop("CREATE TABLE shop.nokey (id INT)").await.is_err());
    root.query_drop("SET PERSIST super_read_only=OFF").await.unwrap();
    root.query_drop("SET PERSIST read_only=OFF").await.unwrap();
    root.query_drop("SET PERSIST auto_increment_offset=1").await.unwrap();

    agent.mark().await;
    // A stored link is started again after kill -9; the member comes back fenced in spite of SET PERSIST.
    operator
        .query_drop("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=9, SOURCE_USER='u', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1 FOR CHANNEL 'from-1'")
        .await
        .unwrap();
    let before = agent.mysqld_pid();
    let executed = agent.value("SELECT @@GLOBAL.gtid_executed").await;
    agent.kill_mysqld();
    agent.another_mysqld(before).await;
    let after = agent.running().await;
    assert_eq!(
        (after.server_uuid.as_ref(), after.server_id),
        (Some(&uuid), first.server_id)
    );
    assert_eq!(agent.value("SELECT @@GLOBAL.super_read_only").await, "1");
    assert_eq!(agent.value("SELECT @@GLOBAL.auto_increment_offset").await, "3");
    assert_eq!(agent.probe("readyz").await.0, 503);
    assert_eq!(agent.value("SELECT @@GLOBAL.gtid_executed").await, executed);
    let state =
        "SELECT SERVICE_STATE FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME='from-1'";
    assert_eq!(agent.value(state).await, "CONNECTING");

    // RESTART is served in place.
    let before = agent.mysqld_pid();
    let _ = agent.root().await.query_drop("RESTART").await;
    agent.another_mysqld(before).await;
    agent.running().await;

    // A new life: new identity, same data, the old UUID remembered.
    assert_eq!(agent.post(PATH_NEW_LIFE, &order(&uuid)).await.0, 202);
    eventually("a new UUID", async || {
        agent
            .report()
            .await
            .is_some_and(|r| r.phase == Phase::Running && r.server_uuid.is_some_and(|u| u != uuid))
    })
    .await;
    let second = agent.running().await;
    assert_ne!(second.server_id, first.server_id);
    assert_eq!((second.server_id & 0xf, second.origin), (3, Origin::Founded));
    assert_eq!(second.former_server_uuids, std::slice::from_ref(&uuid));
    assert_eq!(agent.value("SELECT COUNT(*) FROM shop.t").await, "2");
    assert_eq!(
        agent.value("SELECT @@GLOBAL.server_uuid").await,
        second.server_uuid.clone().unwrap()
    );
    assert_eq!(agent.value("SELECT @@GLOBAL.super_read_only").await, "1");
    assert_eq!(agent.value(state).await, "CONNECTING");
    assert_eq!(agent.post(PATH_NEW_LIFE, &order(&uuid)).await.0, 409);

    // The end, and what a later start finds: the same life.
    let pid = agent.mysqld_pid();
    assert_eq!(agent.stop(), Some(0));
    assert!(!harness::alive(pid));
    // auto.cnf was removed: a new server_id too, or the ring would drop transactions without a sign.
    std::fs::remove_file(agent.data().join("auto.cnf")).unwrap();
    agent.start_again();
    let third = agent.running().await;
    assert_ne!(third.server_id, second.server_id);
    assert_eq!(third.former_server_uuids, [uuid, second.server_uuid.unwrap()]);
    assert_eq!(agent.stop(), Some(0));
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn an_empty_member_becomes_a_copy_and_is_never_copied_over() {
    let Some(cell) = Cell::new(2) else { return };
    // Settings of plugins must survive --initialize, where no plugin is loaded.
    cell.configure("clone_ddl_timeout=60\n");
    let (donor, mut recipient) = (cell.start(0, &[]), cell.start(1, &[]));
    let (a, b) = (donor.running().await, recipient.running().await);
    let (a_uuid, b_uuid) = (a.server_uuid.clone().unwrap(), b.server_uuid.clone().unwrap());
    assert_eq!(donor.post(PATH_FOUND, &order(&a_uuid)).await.0, 200);
    let mut root = donor.root().await;
    for statement in [
        "SET GLOBAL super_read_only=OFF",
        "SET GLOBAL read_only=OFF",
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)",
        "INSERT INTO shop.t (v) VALUES (1), (2), (3)",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=9, SOURCE_USER='u', SOURCE_AUTO_POSITION=1 FOR CHANNEL 'from-7'",
    ] {
        root.query_drop(statement).await.unwrap();
    }

    // A donor that is not there: nothing changed, the reason reported, still fenced.
    assert_eq!(
        recipient
            .post(PATH_CLONE, &clone_order(&b_uuid, &cell.address(99)))
            .await
            .0,
        202
    );
    eventually("the clone's failure", async || {
        recipient
            .report()
            .await
            .is_some_and(|r| r.last_clone_error.is_some() && r.phase == Phase::Running)
    })
    .await;
    let failed = recipient.running().await;
    assert_eq!(
        (failed.origin, failed.server_uuid.as_ref()),
        (Origin::Empty, Some(&b_uuid))
    );
    let failures = failed.clone_failures.unwrap();
    assert_eq!(
        (failures.count, failures.copied, failures.refused, failures.donor_uuid),
        (1, 0, true, Some(UNKNOWN.into()))
    );
    assert_eq!(recipient.value("SELECT @@GLOBAL.super_read_only").await, "1");

    // A donor whose certificate another authority has signed: it gets no password.
    let Some(other) = Cell::new(9) else { return };
    let stranger = other.start(0, &[]);
    stranger.running().await;
    assert_eq!(
        recipient
            .post(PATH_CLONE, &clone_order(&b_uuid, &stranger.address))
            .await
            .0,
        202
    );
    eventually("a refusal", async || {
        let report = recipient.report().await.filter(|report| report.phase == Phase::Running);
        let error = report.and_then(|report| report.last_clone_error);
        error.is_some_and(|error| error.contains("SSL connection error"))
    })
    .await;
    drop(stranger);

    // An agent that ended in the middle of a clone: judged by clone_status, empty again.
    assert_eq!(recipient.stop(), Some(0));
    recipient.edit_life(|life| life["intent"] = serde_json::json!({"kind": "cloning", "donor": donor.address}));
    recipient.start_again();
    eventually("an empty member", async || {
        recipient.report().await.is_some_and(|r| {
            r.phase == Phase::Running && r.last_clone_error.is_some_and(|e| e.contains("did not begin"))
        })
    })
    .await;
    let empty = recipient.running().await;
    let b_uuid = empty.server_uuid.clone().unwrap();
    assert_eq!(empty.origin, Origin::Empty);
    let failures = empty.clone_failures.unwrap();
    assert_eq!(
        (failures.count, failures.copied, failures.refused, failures.donor_uuid),
        (3, 1, false, None),
        "counted over the restart"
    );

    // The clone.
    assert_eq!(
        recipient
            .post(PATH_CLONE, &clone_order(&b_uuid, &donor.address))
            .await
            .0,
        202
    );
    assert_eq!(
        recipient
            .post(PATH_CLONE, &clone_order(&b_uuid, &donor.address))
            .await
            .0,
        409
    );
    eventually("the clone", async || {
        let report = recipient.report().await;
        if let Some(error) = report.as_ref().and_then(|r| r.last_clone_error.clone()) {
            panic!("the clone failed: {error}");
        }
        report.is_some_and(|r| r.origin == Origin::Cloned && r.phase == Phase::Running)
    })
    .await;
    let copy = recipient.running().await;
    let copy_uuid = copy.server_uuid.clone().unwrap();
    assert_eq!(copy.clone_failures, None, "a success forgets them");
    assert!(copy_uuid != a_uuid && copy_uuid != b_uuid);
    assert!(copy.server_id != a.server_id && copy.server_id != empty.server_id && copy.server_id & 0xf == 2);
    assert!(copy.former_server_uuids.contains(&b_uuid) && !copy.former_server_uuids.contains(&a_uuid));
    assert_eq!(recipient.value("SELECT COUNT(*) FROM shop.t").await, "3");
    assert_eq!(
        recipient.value("SELECT @@GLOBAL.gtid_executed").await,
        donor.value("SELECT @@GLOBAL.gtid_executed").await
    );
    assert_eq!(
        recipient
            .value("SELECT COUNT(*) FROM performance_schema.replication_connection_configuration")
            .await,
        "0"
    );
    assert_eq!(recipient.value("SELECT @@GLOBAL.super_read_only").await, "1");
    assert_eq!(donor.value("SELECT @@GLOBAL.super_read_only").await, "0");

    let (status, why) = recipient
        .post(PATH_CLONE, &clone_order(&copy_uuid, &donor.address))
        .await;
    assert!(status == 409 && why.contains("holds data"), "{status} {why}");
    assert_eq!(recipient.post(PATH_FOUND, &order(&copy_uuid)).await.0, 409);

    // It is the same after a restart of the agent, but for the agent's own clock and for what others write to the disk.
    assert_eq!(recipient.stop(), Some(0));
    recipient.start_again();
    let again = recipient.running().await;
    let (clock, volume_usage) = (again.clock, again.volume_usage);
    let same = Report {
        clock,
        volume_usage,
        ..copy.clone()
    };
    assert_eq!(again, same);

    // The directory is lost, the record is not: empty, with its past.
    assert_eq!(recipient.stop(), Some(0));
    std::fs::remove_dir_all(recipient.data()).unwrap();
    recipient.start_again();
    let lost = recipient.running().await;
    assert_eq!(lost.origin, Origin::Empty);
    assert!(lost.former_server_uuids.contains(&copy_uuid));
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn data_that_is_given_up_is_kept_if_nobody_else_has_all_of_it() {
    let Some(cell) = Cell::new(5) else { return };
    let mut agent = cell.start(1, &[]);
    let mut kept = Vec::new();
    for (written, known, keeps) in [(3, 3, false), (3, 2, true)] {
        let uuid = agent.running().await.server_uuid.unwrap();
        assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);
        let mut root = agent.root().await;
        for statement in [
            "SET GLOBAL super_read_only=OFF",
            "CREATE DATABASE shop",
            "CREATE TABLE shop.t (id INT PRIMARY KEY)",
            "INSERT INTO shop.t VALUES (1)",
        ] {
            root.query_drop(statement).await.unwrap();
        }
        assert_eq!(
            agent.value("SELECT @@GLOBAL.gtid_executed").await,
            format!("{uuid}:1-{written}")
        );
        let empty = |known: u64| EmptyOrder {
            version: VERSION,
            server_uuid: uuid.clone(),
            held_elsewhere: format!("{uuid}:1-{known}").parse().unwrap(),
        };
        let (status, why) = agent.post(PATH_EMPTY, &empty(known)).await;
        assert!(status == 409 && why.contains("fence it first"), "{status} {why}");
        root.query_drop("SET GLOBAL super_read_only=ON").await.unwrap();
        assert_eq!(agent.post(PATH_EMPTY, &empty(known)).await.0, 202);
        eventually("an empty member", async || {
            agent
                .report()
                .await
                .is_some_and(|r| r.phase == Phase::Running && r.origin == Origin::Empty)
        })
        .await;
        if keeps {
            kept.push(format!("data.kept-{uuid}"));
        }
        let report = agent.running().await;
        assert_eq!(report.kept, kept);
        assert!(report.former_server_uuids.contains(&uuid));
        assert_eq!(agent.value("SELECT @@GLOBAL.gtid_executed").await, "");
    }
    assert!(agent.volume().join(&kept[0]).join("auto.cnf").exists());
    assert_eq!(agent.stop(), Some(0));
    agent.start_again();
    assert_eq!(agent.running().await.kept, kept);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn what_cannot_run_says_why() {
    let Some(cell) = Cell::new(3) else { return };

    // No mysqld in the image.
    let mut agent = cell.start(0, &["--mysqld=/nowhere/mysqld", "--image=example/nginx:1"]);
    assert_eq!(agent.ended().await, Some(1));
    assert!(
        agent
            .termination_log()
            .contains("the image example/nginx:1 has no /nowhere/mysqld"),
        "{}",
        agent.termination_log()
    );

    // A key that mysqld does not know.
    cell.configure("no_such_setting=1\n");
    let mut agent = cell.start(1, &[]);
    assert_eq!(agent.ended().await, Some(1));
    let why = agent.termination_log();
    assert!(
        why.contains("without ever having answered: exit code") && why.contains("no_such_setting"),
        "{why}"
    );
    assert!(why.len() <= 2048);
    // Corrected, the same volume starts.
    cell.configure("");
    agent.start_again();
    assert_eq!(agent.running().await.origin, Origin::Empty);

    // kill -9 again and again.
    for _ in 0..5 {
        let pid = agent.mysqld_pid();
        agent.kill_mysqld();
        eventually("the next mysqld, or the end", async || {
            agent.has_ended()
                || (agent.try_mysqld_pid().is_some_and(|next| next != pid)
                    && agent.report().await.is_some_and(|r| r.phase == Phase::Running))
        })
        .await;
        if agent.has_ended() {
            break;
        }
    }
    // Slow machines may need longer than a minute for five; then the agent is right to go on.
    if agent.has_ended() {
        assert_eq!(agent.ended().await, Some(1));
        assert!(
            agent.termination_log().contains("5 times within 60 s"),
            "{}",
            agent.termination_log()
        );
    } else {
        agent.stop();
    }

    // Data without a life record is never touched.
    std::fs::remove_file(agent.volume().join("life.json")).unwrap();
    agent.start_again();
    assert_eq!(agent.ended().await, Some(1));
    let why = agent.termination_log();
    assert!(why.contains(&format!("{} holds data", agent.data().display())), "{why}");
    assert!(agent.data().join("ibdata1").exists());
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn by_file_and_position_the_operator_starts_the_links() {
    let Some(cell) = Cell::new(4) else { return };
    let agent: Agent = cell.start(0, &["--positioning=FilePosition"]);
    let uuid = agent.running().await.server_uuid.unwrap();
    assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);
    let mut root = agent.root().await;
    root.query_drop(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=9, SOURCE_USER='u' FOR CHANNEL 'from-1'",
    )
    .await
    .unwrap();
    root.query_drop("START REPLICA FOR CHANNEL 'from-1'").await.unwrap();
    let before = agent.mysqld_pid();
    agent.kill_mysqld();
    agent.another_mysqld(before).await;
    agent.running().await;
    assert_eq!(
        agent
            .value("SELECT SERVICE_STATE FROM performance_schema.replication_connection_status")
            .await,
        "OFF"
    );
}
