//! `multimaster.conflicts` on a real server: no open record is forgotten, a record that cannot be read still counts, and members of two versions
//! share the table.

use multimaster::decide::conflicts::{ConflictingRow, Record, Stage};
use multimaster::mysql::gtid::GtidSet;
use multimaster::mysql::io::connection::SqlError;
use multimaster::mysql::rows::RowKey;
use multimaster::names::accounts::{OPERATOR, REPLICATION};
use multimaster::operator::conflict_table::{self, Circumstances, Reading};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::json;

use crate::harness::{Agent, Cell, MYSQL_PORT, eventually};

const OBSERVER: &str = "10000000-0000-0000-0000-000000000000";
const ORIGIN: &str = "20000000-0000-0000-0000-000000000000";
const COLUMNS: &str =
    "observer, gtid, member, error, message, seen_at, stage, changes, known, for_a_person, winner, settled_at";
/// As an agent of before the column `version` has made it.
const OLDER: &str = "ALTER TABLE multimaster.conflicts DROP COLUMN version";
const TABLE: &str = "SELECT GROUP_CONCAT(COLUMN_NAME ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS \
     WHERE TABLE_SCHEMA = 'multimaster' AND TABLE_NAME = 'conflicts'";

async fn run(conn: &mut Conn, statement: &str) {
    conn.query_drop(statement)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// The values of a record of the nth transaction.
fn values(n: u64, stage: &str) -> String {
    let settled = match stage {
        "settled" => "UTC_TIMESTAMP(6)",
        _ => "NULL",
    };
    format!(
        "('{OBSERVER}', '{ORIGIN}:{n}', 'demo-1', 1062, 'Duplicate entry', '2026-01-01 00:00:00.5' + INTERVAL {n} SECOND, '{stage}', '[]', \
         '{ORIGIN}:1-{n}', NULL, 2, {settled})"
    )
}

/// The record of the nth transaction by its primary key. A condition that scans would lock the rows that the applier is changing, and the
/// applier's workers commit in order: a scan that waits for a later worker while an earlier one waits for the scan ends only after
/// `innodb_lock_wait_timeout`.
fn key(n: u64) -> String {
    format!("observer = '{OBSERVER}' AND gtid = '{ORIGIN}:{n}'")
}

async fn insert(conn: &mut Conn, records: impl Iterator<Item = String>) {
    let values: Vec<String> = records.collect();
    let statement = format!(
        "INSERT INTO multimaster.conflicts ({COLUMNS}) VALUES {}",
        values.join(",")
    );
    run(conn, &statement).await;
}

async fn read(cell: &Cell, agent: &Agent) -> Reading {
    let mut operator = operator(cell, agent).await;
    conflict_table::recent(&mut operator).await.unwrap()
}

/// There are no records.
fn nothing() -> Reading {
    Reading {
        has_image_table: true,
        ..Reading::default()
    }
}

async fn operator(cell: &Cell, agent: &Agent) -> Conn {
    agent
        .tcp(OPERATOR, cell.password(OPERATOR), agent.admin_port, true)
        .await
        .unwrap()
}

async fn restarted(agent: &Agent) {
    let before = agent.mysqld_pid();
    agent.kill_mysqld();
    agent.another_mysqld(before).await;
    agent.running().await;
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn an_open_record_is_never_forgotten() {
    let Some(cell) = Cell::new(31) else { return };
    let agent = cell.start(1, &[]);
    agent.running().await;
    let mut root = agent.open(&cell).await;
    assert_eq!(read(&cell, &agent).await, nothing());

    let stage = |n: u64| if n == 1 { "waiting" } else { "taken" };
    insert(&mut root, (1..=250).map(|n| values(n, stage(n)))).await;
    insert(&mut root, (251..=600).map(|n| values(n, "settled"))).await;
    let reading = read(&cell, &agent).await;
    let open = |reading: &Reading| -> Vec<Stage> {
        let open = reading.records.iter().map(|record| record.stage);
        open.filter(|stage| *stage != Stage::Settled).collect()
    };
    assert_eq!((open(&reading).len(), reading.unread.more), (250, 0));
    // The settled ones are those that may still matter, and no more.
    assert_eq!(reading.records.len(), 350);
    assert_eq!(reading.records[0].known.to_string(), format!("{ORIGIN}:1"));
    assert_eq!(reading.records[0].seen.to_string(), "2026-01-01T00:00:01.5Z");

    // Of very many the rest is counted, and the last one is read because an applier stands at it.
    insert(&mut root, (601..=1900).map(|n| values(n, "taken"))).await;
    insert(&mut root, [values(1901, "waiting")].into_iter()).await;
    let reading = read(&cell, &agent).await;
    assert_eq!((open(&reading).len(), reading.unread.more), (300, 1251));
    assert_eq!(open(&reading)[..3], [Stage::Waiting, Stage::Waiting, Stage::Taken]);
    let mut operator = operator(&cell, &agent).await;
    for n in [300, 1900] {
        let found = conflict_table::find(&mut operator, OBSERVER, &format!("{ORIGIN}:{n}")).await;
        assert_eq!(found.unwrap().unwrap().gtid, format!("{ORIGIN}:{n}"));
    }
    let none = conflict_table::find(&mut operator, OBSERVER, &format!("{ORIGIN}:9999")).await;
    assert_eq!(none.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn of_long_records_so_many_are_read_as_a_pass_reads_bytes() {
    let Some(cell) = Cell::new(41) else { return };
    let agent = cell.start(1, &[]);
    agent.running().await;
    let mut root = agent.open(&cell).await;
    insert(&mut root, (1..=5).map(|n| values(n, "taken"))).await;
    insert(&mut root, [values(6, "waiting"), values(7, "settled")].into_iter()).await;
    // The sixth is read first, and is longer than all that is read; the second leaves room for one more of its length, and the third has it not.
    for (n, mib) in [(6, 33), (2, 15), (4, 17)] {
        let longer = format!(
            "UPDATE multimaster.conflicts SET changes = JSON_ARRAY(REPEAT('x', {mib} << 20)) WHERE {}",
            key(n)
        );
        run(&mut root, &longer).await;
    }
    let reading = read(&cell, &agent).await;
    let named: Vec<&str> = reading
        .unread
        .records
        .iter()
        .map(|record| record.gtid.as_str())
        .collect();
    // What was read and is no list of rows is named, too.
    assert_eq!(named, [format!("{ORIGIN}:2"), format!("{ORIGIN}:6")]);
    assert!(
        reading.unread.records[1].why.contains("a pass reads"),
        "{:?}",
        reading.unread
    );
    let read_now: Vec<&str> = reading.records.iter().map(|record| record.gtid.as_str()).collect();
    // The first and the third are short. The fourth does not fit, so the fifth is counted as well; the settled one fits.
    assert_eq!(
        read_now,
        [format!("{ORIGIN}:1"), format!("{ORIGIN}:3"), format!("{ORIGIN}:7")]
    );
    assert_eq!(reading.unread.more, 2);
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_large_image_is_kept_whole_and_read_by_nobody() {
    let Some(cell) = Cell::new(40) else { return };
    let agent = cell.start(1, &[]);
    agent.running().await;
    let mut root = agent.open(&cell).await;
    let observer = agent.value("SELECT @@server_uuid").await;
    // No character begins where a piece would end.
    let large = json!({ "v": format!("x{}", "é".repeat(5 << 19)) });
    let record = |n: u64| Record {
        observer: observer.clone(),
        gtid: format!("{ORIGIN}:{n}"),
        seen: "2026-01-01T00:00:00Z".parse().unwrap(),
        stage: Stage::Waiting,
        rows: vec![ConflictingRow {
            id: "1".into(),
            key: RowKey {
                schema: "d".into(),
                table: "t".into(),
                columns: Vec::new(),
            },
            mine: Some(large.clone()),
            theirs: Some("small".into()),
        }],
        for_a_person: None,
        winner: None,
        known: GtidSet::default(),
        kept: None,
    };
    let circumstances = Circumstances {
        member: "demo-1".into(),
        origin: None,
        error: 1062,
        message: String::new(),
        committed: None,
    };
    conflict_table::insert(&mut root, &record(1), &circumstances, true)
        .await
        .unwrap();
    conflict_table::insert(&mut root, &record(2), &circumstances, false)
        .await
        .unwrap();
    // A pass reads the same of both, and little.
    let reading = read(&cell, &agent).await;
    assert_eq!(reading.records, [record(1).brief(), record(2).brief()]);
    assert!(format!("{reading:?}").len() < 3000);
    // Whoever changes a record keeps what it has.
    for (n, expected) in [(1, record(1).brief()), (2, record(2))] {
        let found = conflict_table::find(&mut root, &observer, &expected.gtid).await;
        let mut found = found.unwrap().unwrap();
        assert_eq!(found, expected);
        found.stage = Stage::Taken;
        conflict_table::update(&mut root, &found, n == 1).await.unwrap();
        let kept = conflict_table::find(&mut root, &observer, &expected.gtid).await;
        assert_eq!(kept.unwrap().unwrap(), found);
    }
    let sizes = "SELECT GROUP_CONCAT(LENGTH(image) ORDER BY piece) FROM multimaster.conflict_rows";
    let pieces = [vec![262_143], vec![262_144; 19], vec![10]].concat();
    let pieces: Vec<String> = pieces.iter().map(|size: &u32| size.to_string()).collect();
    assert_eq!(agent.value(sizes).await, pieces.join(","));
    let image: Vec<String> = root
        .query("SELECT image FROM multimaster.conflict_rows ORDER BY piece")
        .await
        .unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&image.concat()).unwrap(),
        large
    );

    // The image of a settled conflict goes when many others were settled after it, and that of an open one stays.
    let mut first = record(1);
    first.stage = Stage::Settled;
    conflict_table::update(&mut root, &first, true).await.unwrap();
    conflict_table::insert(&mut root, &record(3), &circumstances, true)
        .await
        .unwrap();
    let images = "SELECT GROUP_CONCAT(DISTINCT gtid ORDER BY gtid) FROM multimaster.conflict_rows";
    conflict_table::prune(&mut root, true).await.unwrap();
    assert_eq!(agent.value(images).await, format!("{ORIGIN}:1,{ORIGIN}:3"));
    let many = (11..=110).map(|n| values(n, "settled").replace(OBSERVER, &observer));
    insert(&mut root, many).await;
    run(
        &mut root,
        "UPDATE multimaster.conflicts SET settled_at = settled_at + INTERVAL 1 SECOND WHERE changes = '[]'",
    )
    .await;
    conflict_table::prune(&mut root, true).await.unwrap();
    assert_eq!(agent.value(images).await, format!("{ORIGIN}:3"));
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_record_that_cannot_be_read_is_told_and_hides_no_other() {
    let Some(cell) = Cell::new(32) else { return };
    let agent = cell.start(1, &[]);
    agent.running().await;
    let mut root = agent.open(&cell).await;
    insert(&mut root, (1..=7).map(|n| values(n, "taken"))).await;
    insert(&mut root, [values(8, "settled"), values(9, "settled")].into_iter()).await;
    let wrong = [
        (1, "version = 2", "version 2 of a record"),
        (2, "stage = 'pondering'", "pondering"),
        (3, "changes = '{}'", "changes"),
        (4, "known = 'what it knows'", "known"),
        (5, "winner = 255, for_a_person = 'x', version = 0", ""),
        (6, "gtid = 'sixth'", "gtid"),
        (8, "version = 2, changes = '{}'", ""),
    ];
    for (n, change, _) in wrong {
        let update = format!("UPDATE multimaster.conflicts SET {change} WHERE gtid = '{ORIGIN}:{n}'");
        run(&mut root, &update).await;
    }
    let reading = read(&cell, &agent).await;
    let read: Vec<&str> = reading.records.iter().map(|record| record.gtid.as_str()).collect();
    assert_eq!(read, [5, 7, 9].map(|n| format!("{ORIGIN}:{n}")), "{:?}", reading.unread);
    let is_named = |words: &str| {
        let mut unread = reading.unread.records.iter();
        unread.any(|record| record.observer == OBSERVER && record.why.contains(words))
    };
    for (_, change, words) in wrong.iter().filter(|(_, _, words)| !words.is_empty()) {
        assert!(is_named(words), "{change}: {:?}", reading.unread.records);
    }
    assert_eq!(reading.unread.records.len(), 5);
    let mut operator = operator(&cell, &agent).await;
    let newer = conflict_table::find(&mut operator, OBSERVER, &format!("{ORIGIN}:1")).await;
    assert!(matches!(newer, Err(SqlError::Unreadable(_))), "{newer:?}");
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_table_that_cannot_be_read_is_not_an_empty_one() {
    let Some(cell) = Cell::new(33) else { return };
    let agent = cell.start(1, &[]);
    agent.running().await;
    for (statements, words) in [
        (&["DROP TABLE multimaster.conflicts"][..], "doesn't exist"),
        (&["DROP DATABASE multimaster"], "Unknown database"),
        (
            &[
                "REVOKE SELECT ON *.* FROM multimaster_operator@'%'",
                "REVOKE SELECT ON multimaster.* FROM multimaster_operator@'%'",
            ],
            "denied",
        ),
        (
            &["ALTER TABLE multimaster.conflicts RENAME COLUMN stage TO estage"],
            "stage",
        ),
    ] {
        let mut root = agent.open(&cell).await;
        run(&mut root, "SET sql_log_bin = 0").await;
        for statement in statements {
            run(&mut root, statement).await;
        }
        let table = read(&cell, &agent).await.unread.table;
        assert!(
            table.as_ref().is_some_and(|why| why.contains(words)),
            "{statements:?}: {table:?}"
        );
        if words == "stage" {
            break;
        }
        // The way out in the message for people.
        restarted(&agent).await;
        assert_eq!(read(&cell, &agent).await, nothing(), "{statements:?}");
    }
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn the_table_of_an_earlier_agent_is_read_and_gets_its_columns_at_the_next_start() {
    let Some(cell) = Cell::new(34) else { return };
    let mut agent = cell.start(1, &[]);
    agent.running().await;
    let newest = agent.value(TABLE).await;
    assert!(newest.ends_with(",settled_at,version"), "{newest}");
    let mut root = agent.open(&cell).await;
    insert(&mut root, (1..=3).map(|n| values(n, "taken"))).await;
    run(&mut root, "SET sql_log_bin = 0").await;
    run(&mut root, OLDER).await;
    let older = read(&cell, &agent).await;
    assert_eq!((older.records.len(), older.unread.table.as_ref()), (3, None));

    let executed = agent.value("SELECT @@GLOBAL.gtid_executed").await;
    // Again and again, by an agent that starts anew too: nothing that is there is added.
    for _ in 0..2 {
        restarted(&agent).await;
        assert_eq!(agent.value(TABLE).await, newest);
    }
    assert_eq!(agent.stop(), Some(0));
    agent.start_again();
    agent.running().await;
    assert_eq!(agent.value(TABLE).await, newest);
    assert_eq!(read(&cell, &agent).await, older);
    let versions = "SELECT GROUP_CONCAT(version) FROM multimaster.conflicts";
    assert_eq!(agent.value(versions).await, "1,1,1");
    assert_eq!(agent.value("SELECT @@GLOBAL.gtid_executed").await, executed);
}

/// A ring of two: one has the column, the other one does not.
#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn members_with_and_without_a_column_replicate_the_table_from_each_other() {
    let Some(cell) = Cell::new(35) else { return };
    let (newer, older) = (cell.start(0, &[]), cell.start(1, &[]));
    let mut roots = Vec::new();
    for (agent, upstream) in [(&newer, &older), (&older, &newer)] {
        agent.running().await;
        let mut root = agent.open(&cell).await;
        if agent.address == older.address {
            for statement in ["SET sql_log_bin = 0", OLDER, "SET sql_log_bin = 1"] {
                run(&mut root, statement).await;
            }
        }
        let attach = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={MYSQL_PORT}, SOURCE_USER='{REPLICATION}', SOURCE_PASSWORD='{}', \
             SOURCE_SSL=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_AUTO_POSITION=1 FOR CHANNEL 'from'",
            upstream.address,
            cell.password(REPLICATION)
        );
        run(&mut root, &attach).await;
        roots.push(root);
    }
    for root in &mut roots {
        run(root, "START REPLICA FOR CHANNEL 'from'").await;
    }
    for (at, first) in [(0, 1), (1, 101)] {
        let root = &mut roots[at];
        insert(root, (first..first + 3).map(|n| values(n, "waiting"))).await;
        let change = |n: u64| format!("WHERE {}", key(n));
        run(
            root,
            &format!("UPDATE multimaster.conflicts SET stage = 'taken' {}", change(first)),
        )
        .await;
        run(
            root,
            &format!("DELETE FROM multimaster.conflicts {}", change(first + 1)),
        )
        .await;
    }
    // Written by a later version, and changed at a member without the column.
    let newest = values(7, "waiting").replace("('", "(9, '");
    run(
        &mut roots[0],
        &format!("INSERT INTO multimaster.conflicts (version, {COLUMNS}) VALUES {newest}"),
    )
    .await;
    let arrived = format!("SELECT COUNT(*) FROM multimaster.conflicts WHERE gtid = '{ORIGIN}:7'");
    eventually("the record arrives", async || older.value(&arrived).await == "1").await;
    run(
        &mut roots[1],
        &format!("UPDATE multimaster.conflicts SET stage = 'taken' WHERE {}", key(7)),
    )
    .await;

    let rows = "SELECT GROUP_CONCAT(CONCAT(SUBSTRING_INDEX(gtid, ':', -1), stage) ORDER BY seen_at) FROM multimaster.conflicts";
    let expected = "1taken,3waiting,7taken,101taken,103waiting";
    for agent in [&newer, &older] {
        eventually("all rows", async || {
            let error = "SELECT MAX(LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker";
            assert_eq!(agent.value(error).await, "");
            agent.value(rows).await == expected
        })
        .await;
    }
    let versions = "SELECT GROUP_CONCAT(version ORDER BY seen_at) FROM multimaster.conflicts";
    assert_eq!(newer.value(versions).await, "1,1,9,1,1");
    assert!(!older.value(TABLE).await.contains("version"));
    // The older member reads what it can; the newer member leaves what it cannot read.
    assert_eq!(read(&cell, &older).await.records.len(), 5);
    let reading = read(&cell, &newer).await;
    assert_eq!((reading.records.len(), reading.unread.records.len()), (4, 1));
}
