//! Records of conflicts as an earlier version has left them in a server: read, and gone on with. `tests/upgrade` has them.

use std::fs;
use std::path::PathBuf;

use multimaster::decide::conflicts::record::Unread;
use multimaster::decide::conflicts::{Record, Stage};
use multimaster::operator::conflict_table::{recent, update};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::harness::Cell;

const VERSIONS: [&str; 1] = ["b2239ad"];

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn an_earlier_versions_records_are_read_and_gone_on_with() {
    let Some(cell) = Cell::new(12) else { return };
    let mut agent = cell.start(0, &[]);
    agent.running().await;
    for version in VERSIONS {
        let mut root = agent.open(&cell).await;
        let create = &kept(version, "conflicts-table.json")["create"];
        for statement in [
            "SET sql_log_bin = 0",
            "DROP TABLE multimaster.conflicts",
            &format!("USE multimaster; {}", create.as_str().unwrap()),
        ] {
            root.query_drop(statement).await.unwrap();
        }
        let rows = kept(version, "on-the-way.json").as_array().unwrap().clone();
        // An agent of this version meets them.
        agent.stop();
        agent.start_again();
        agent.running().await;
        let mut root = agent.open(&cell).await;
        root.query_drop("SET sql_log_bin = 0").await.unwrap();
        for row in &rows {
            root.query_drop("DELETE FROM multimaster.conflicts").await.unwrap();
            root.query_drop(insert(row)).await.unwrap();
            let record = only(&mut root, row).await;
            assert_eq!(serde_json::to_value(record.stage).unwrap(), row["stage"]);
            assert_eq!(
                (record.observer.as_str(), record.gtid.as_str()),
                (text(row, "observer"), text(row, "gtid"))
            );
            assert_eq!(record.known, text(row, "known").parse().unwrap());
            let changes: Value = serde_json::from_str(text(row, "changes")).unwrap();
            assert_eq!(serde_json::to_value(&record.rows).unwrap(), changes);
            assert_eq!(
                record.winner.map(|winner| winner.to_string()).as_deref(),
                row["winner"].as_str()
            );
            assert_eq!(
                record.kept.map(|place| place.file).as_deref(),
                row["kept_file"].as_str()
            );

            let next = Record {
                stage: Stage::Taken,
                winner: Some(2),
                ..only(&mut root, row).await
            };
            update(&mut root, &next, false).await.unwrap();
            assert_eq!(only(&mut root, row).await, next);
        }
    }
}

/// The one record that is there, on the day on which it was written.
async fn only(conn: &mut Conn, row: &Value) -> Record {
    let then = format!("SET timestamp = UNIX_TIMESTAMP('{}')", text(row, "seen_at"));
    for zone in ["SET time_zone = '+00:00'", &then] {
        conn.query_drop(zone).await.unwrap();
    }
    let reading = recent(conn).await.unwrap();
    assert_eq!(reading.unread, Unread::default(), "{row}");
    let mut records = reading.records;
    assert_eq!(records.len(), 1, "{row}");
    records.remove(0)
}

fn kept(version: &str, file: &str) -> Value {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upgrade"));
    let path = folder.join(version).join("rings/conflicts").join(file);
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

fn insert(row: &Value) -> String {
    let columns = row.as_object().unwrap();
    let names: Vec<&str> = columns.keys().map(String::as_str).collect();
    let values: Vec<String> = columns.values().map(literal).collect();
    format!(
        "INSERT INTO multimaster.conflicts ({}) VALUES ({})",
        names.join(", "),
        values.join(", ")
    )
}

fn literal(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("CONVERT(X'{}' USING utf8mb4)", hex(text)),
        None => "NULL".into(),
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
