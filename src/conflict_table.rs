//! `multimaster.conflicts`: what members could not apply, kept where a DBA looks for it. The agent creates it at every start, unlogged; its
//! rows are written by the operator, logged and tagged, so that every member has all of them.

use jiff::Timestamp;
use mysql_async::{Conn, Row, prelude::Queryable};

use crate::decide::conflicts::{Record, Stage};
use crate::mysql::binlog::Place;
use crate::mysql::connection::{SqlError, column, rows, run};
use crate::mysql::quote::literal;

/// Settled conflicts that a member keeps.
const SETTLED_KEPT: u32 = 1000;

/// Creates schema and table, a statement each.
pub const CREATE: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS multimaster CHARACTER SET utf8mb4;",
    "CREATE TABLE IF NOT EXISTS multimaster.conflicts (\
     observer CHAR(36) CHARACTER SET ascii NOT NULL COMMENT 'server UUID of the member that could not apply it', \
     gtid VARCHAR(100) CHARACTER SET ascii NOT NULL COMMENT 'the transaction', \
     member VARCHAR(63) NOT NULL COMMENT 'the member that could not apply it', \
     origin VARCHAR(63) NULL COMMENT 'the member that took it from a client', \
     error INT UNSIGNED NOT NULL, message TEXT NOT NULL, \
     committed_at DATETIME(6) NULL COMMENT 'UTC, at the origin', seen_at DATETIME(6) NOT NULL COMMENT 'UTC', \
     stage VARCHAR(16) CHARACTER SET ascii NOT NULL, changes JSON NOT NULL COMMENT 'rows: key, mine, theirs', \
     for_a_person TEXT NULL COMMENT 'why nobody else can settle it', winner TINYINT UNSIGNED NULL COMMENT 'ordinal', \
     known LONGTEXT NOT NULL COMMENT 'gtid_executed of the observer', kept_file VARCHAR(255) NULL, kept_offset BIGINT UNSIGNED NULL, \
     settled_at DATETIME(6) NULL COMMENT 'UTC', PRIMARY KEY (observer, gtid), KEY (stage), KEY (settled_at)) ENGINE=InnoDB;",
];

/// What is open, and what was settled within a day: a transaction that was long under way may belong to it.
const RECENT: &str = "SELECT observer, gtid, CAST(seen_at AS CHAR) AS seen_at, stage, CAST(changes AS CHAR) AS changes, for_a_person, winner, known, kept_file, kept_offset \
     FROM multimaster.conflicts WHERE stage <> 'settled' OR settled_at > UTC_TIMESTAMP() - INTERVAL 1 DAY ORDER BY seen_at DESC LIMIT 100";

/// What is known of the circumstances, for people.
pub struct Circumstances {
    /// Name of the member that could not apply it.
    pub member: String,
    /// Name of the member that took it from a client.
    pub origin: Option<String>,
    /// MySQL's error number.
    pub error: u32,
    /// MySQL's words.
    pub message: String,
    /// When it was committed at its origin.
    pub committed: Option<Timestamp>,
}

/// Reads what a member has. An earlier agent has made no table: nothing.
///
/// # Errors
/// [`SqlError`].
pub async fn recent(conn: &mut Conn) -> Result<Vec<Record>, SqlError> {
    match conn.query::<Row, _>(RECENT).await {
        // One that somebody has spoilt hides no other, and no member.
        Ok(rows) => Ok(rows
            .iter()
            .filter_map(|row| {
                record(row)
                    .inspect_err(|error| tracing::error!(%error, "a record is left out"))
                    .ok()
            })
            .collect()),
        // 1049, 1142, 1146: no schema, no right, no table.
        Err(mysql_async::Error::Server(error)) if matches!(error.code, 1049 | 1142 | 1146) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn record(row: &Row) -> Result<Record, SqlError> {
    let text = |name: &str| column::<String>(row, name).unwrap_or_default();
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        SqlError::Outdated(format!("multimaster.conflicts: {what} of {}: {error}", text("gtid")))
    };
    let seen = text("seen_at").replace(' ', "T") + "Z";
    let stage = serde_json::Value::String(text("stage"));
    Ok(Record {
        observer: text("observer"),
        gtid: text("gtid"),
        seen: seen.parse().map_err(|error| wrong("seen_at", &error))?,
        stage: serde_json::from_value(stage).map_err(|error| wrong("stage", &error))?,
        rows: serde_json::from_str(&text("changes")).map_err(|error| wrong("changes", &error))?,
        for_a_person: column(row, "for_a_person"),
        winner: column(row, "winner"),
        known: text("known").parse().map_err(|error| wrong("known", &error))?,
        kept: column(row, "kept_file")
            .zip(column(row, "kept_offset"))
            .map(|(file, offset)| Place { file, offset }),
    })
}

/// Writes a new record.
///
/// # Errors
/// [`SqlError`].
pub async fn insert(conn: &mut Conn, record: &Record, circumstances: &Circumstances) -> Result<(), SqlError> {
    let optional = |text: Option<String>| text.map_or("NULL".into(), |text| literal(&text));
    let statement = format!(
        "INSERT INTO multimaster.conflicts (observer, gtid, member, origin, error, message, committed_at, seen_at, stage, changes, known) \
         VALUES ({}, {}, {}, {}, {}, {}, {}, {}, 'waiting', '[]', '')",
        literal(&record.observer),
        literal(&record.gtid),
        literal(&circumstances.member),
        optional(circumstances.origin.clone()),
        circumstances.error,
        literal(&circumstances.message),
        optional(circumstances.committed.map(in_utc)),
        literal(&in_utc(record.seen)),
    );
    run(conn, &statement).await
}

/// Writes what has become of a record.
///
/// # Errors
/// [`SqlError`].
pub async fn update(conn: &mut Conn, record: &Record) -> Result<(), SqlError> {
    let json = |value: serde_json::Result<String>| value.map_err(|error| SqlError::Outdated(error.to_string()));
    let stage = json(serde_json::to_string(&record.stage))?;
    let settled = if record.stage == Stage::Settled {
        "UTC_TIMESTAMP(6)"
    } else {
        "NULL"
    };
    let (file, offset) = match &record.kept {
        Some(place) => (literal(&place.file), place.offset.to_string()),
        None => ("NULL".into(), "NULL".into()),
    };
    let statement = format!(
        "UPDATE multimaster.conflicts SET stage = {}, changes = {}, for_a_person = {}, winner = {}, known = {}, kept_file = {file}, \
         kept_offset = {offset}, settled_at = {settled} WHERE observer = {} AND gtid = {}",
        literal(stage.trim_matches('"')),
        literal(&json(serde_json::to_string(&record.rows))?),
        record.for_a_person.as_ref().map_or("NULL".into(), |why| literal(why)),
        record.winner.map_or("NULL".into(), |winner| winner.to_string()),
        literal(&record.known.to_string()),
        literal(&record.observer),
        literal(&record.gtid),
    );
    run(conn, &statement).await
}

/// Removes what is older than the settled conflicts that a member keeps.
///
/// # Errors
/// [`SqlError`].
pub async fn prune(conn: &mut Conn) -> Result<(), SqlError> {
    let own = "observer = @@server_uuid AND stage = 'settled'";
    let query = format!(
        "SELECT CAST(settled_at AS CHAR) AS oldest FROM multimaster.conflicts WHERE {own} ORDER BY settled_at DESC LIMIT 1 OFFSET {SETTLED_KEPT}"
    );
    let oldest = rows(conn, &query)
        .await?
        .first()
        .and_then(|row| column::<String>(row, "oldest"));
    match oldest {
        Some(oldest) => {
            let old = format!(
                "DELETE FROM multimaster.conflicts WHERE {own} AND settled_at <= {}",
                literal(&oldest)
            );
            run(conn, &old).await
        }
        None => Ok(()),
    }
}

fn in_utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
