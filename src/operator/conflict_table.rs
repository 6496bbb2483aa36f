//! `multimaster.conflicts`: what members could not apply, kept where a DBA looks for it. The agent creates it at every start, unlogged; its
//! rows are written by the operator, logged and tagged, so that every member has all of them.
//!
//! Members of two versions have one table in common (`docs/ring.md`, "Versions side by side"): columns are only added, at the end and with a
//! default, and no statement that reads names one that was added.

use jiff::Timestamp;
use mysql_async::{Conn, Row};
use serde::Serialize;

use crate::decide::conflicts::record::{Unread, UnreadRecord};
use crate::decide::conflicts::{Record, Stage};
use crate::mysql::io::connection::{SqlError, ask, column, gtid_set, optional, required, rows, run, shortened};
use crate::mysql::quote::literal;
use crate::mysql::schema::VERSION;
use crate::mysql::transaction::Place;

/// Settled conflicts that a member keeps.
const SETTLED_KEPT: u32 = 1000;
/// Open records that are read; the rest is counted.
const MOST_READ: u64 = 300;

/// What is open. Appliers stand at those that are not taken yet, so these come first; then the oldest, which the others wait for.
const OPEN: &str = "SELECT c.*, COUNT(*) OVER () AS all_open FROM multimaster.conflicts AS c WHERE stage <> 'settled' \
     ORDER BY stage = 'taken', seen_at, observer, gtid LIMIT";
/// What was settled within a day: a transaction that was long under way may belong to it.
const SETTLED: &str = "SELECT * FROM multimaster.conflicts WHERE stage = 'settled' AND settled_at > UTC_TIMESTAMP() - INTERVAL 1 DAY \
     ORDER BY settled_at DESC LIMIT 100";

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

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Records that are open, and those that were settled within a day.
    pub records: Vec<Record>,
    /// What there is beside them.
    pub unread: Unread,
}

/// Reads what a member has. A record that cannot be read hides no other, and a table that cannot be read says so.
///
/// # Errors
/// [`SqlError`] where the connection, not the table, is to blame.
pub async fn recent(conn: &mut Conn) -> Result<Reading, SqlError> {
    let read = async {
        let open = rows(conn, &format!("{OPEN} {MOST_READ}")).await?;
        Ok::<_, SqlError>((open, rows(conn, SETTLED).await?))
    };
    let (open, settled) = match read.await {
        Ok(read) => read,
        // No schema, no right, no table (1049, 1142, 1146), or one that somebody has changed: the member is well, and its conflicts unknown.
        Err(error) if error.is_of_the_living() => {
            let unread = Unread {
                table: Some(error.to_string()),
                ..Unread::default()
            };
            return Ok(Reading {
                unread,
                ..Reading::default()
            });
        }
        Err(error) => return Err(error),
    };
    let mut reading = Reading::default();
    for row in &open {
        match record(row) {
            Ok(record) => reading.records.push(record),
            Err(error) => reading.unread.records.push(UnreadRecord {
                observer: column(row, "observer").unwrap_or_default(),
                gtid: column(row, "gtid").unwrap_or_default(),
                why: shortened(&error.to_string()),
            }),
        }
    }
    if let Some(row) = open.first() {
        let all: u64 = required(row, "all_open")?;
        reading.unread.more = all.saturating_sub(MOST_READ);
    }
    // One that cannot be read is past all the same.
    reading.records.extend(settled.iter().filter_map(|row| {
        record(row)
            .inspect_err(|error| tracing::debug!(%error, "a settled conflict is left out"))
            .ok()
    }));
    Ok(reading)
}

/// One record as it stands at a member, however old.
///
/// # Errors
/// [`SqlError`]; [`SqlError::Unreadable`] where the record cannot be read.
pub async fn find(conn: &mut Conn, observer: &str, gtid: &str) -> Result<Option<Record>, SqlError> {
    let query = format!(
        "SELECT * FROM multimaster.conflicts WHERE observer = {} AND gtid = {}",
        literal(observer),
        literal(gtid)
    );
    let found = ask(conn, &query).await?;
    found.first().map(record).transpose()
}

fn record(row: &Row) -> Result<Record, SqlError> {
    let unreadable = |what: &str, error: &dyn std::fmt::Display| SqlError::Unreadable(format!("{what}: {error}"));
    // A table that an earlier agent has made has no such column.
    let version = match row.columns_ref().iter().any(|column| column.name_str() == "version") {
        true => required(row, "version")?,
        false => VERSION,
    };
    if version > VERSION {
        return Err(SqlError::Unreadable(format!(
            "version {version} of a record, and this operator knows {VERSION}"
        )));
    }
    let seen = required::<String>(row, "seen_at")?.replace(' ', "T") + "Z";
    let stage = serde_json::Value::String(required(row, "stage")?);
    let changes: String = required(row, "changes")?;
    let gtid: String = required(row, "gtid")?;
    gtid_set(row, "gtid")?;
    Ok(Record {
        observer: required(row, "observer")?,
        gtid,
        seen: seen.parse().map_err(|error| unreadable("seen_at", &error))?,
        stage: serde_json::from_value(stage).map_err(|error| unreadable("stage", &error))?,
        rows: serde_json::from_str(&changes).map_err(|error| unreadable("changes", &error))?,
        for_a_person: optional(row, "for_a_person")?,
        winner: optional(row, "winner")?,
        known: gtid_set(row, "known")?,
        kept: optional(row, "kept_file")?
            .zip(optional(row, "kept_offset")?)
            .map(|(file, offset)| Place { file, offset }),
    })
}

/// Writes a new record, whole: half of one would be a conflict of which nobody could say what it is about.
///
/// # Errors
/// [`SqlError`].
pub async fn insert(conn: &mut Conn, record: &Record, circumstances: &Circumstances) -> Result<(), SqlError> {
    let statement = format!(
        "INSERT INTO multimaster.conflicts (observer, gtid, member, origin, error, message, committed_at, seen_at, stage, changes, for_a_person, \
         known) VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
        literal(&record.observer),
        literal(&record.gtid),
        literal(&circumstances.member),
        or_null(circumstances.origin.as_deref()),
        circumstances.error,
        literal(&circumstances.message),
        or_null(circumstances.committed.map(in_utc).as_deref()),
        literal(&in_utc(record.seen)),
        literal(json(&record.stage)?.trim_matches('"')),
        literal(&json(&record.rows)?),
        or_null(record.for_a_person.as_deref()),
        literal(&record.known.to_string()),
    );
    run(conn, &statement).await
}

fn or_null(text: Option<&str>) -> String {
    text.map_or("NULL".into(), literal)
}

fn json(value: &impl Serialize) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|error| SqlError::Outdated(error.to_string()))
}

/// Writes what has become of a record.
///
/// # Errors
/// [`SqlError`].
pub async fn update(conn: &mut Conn, record: &Record) -> Result<(), SqlError> {
    let stage = json(&record.stage)?;
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
        literal(&json(&record.rows)?),
        or_null(record.for_a_person.as_deref()),
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
    let oldest = ask(conn, &query)
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
