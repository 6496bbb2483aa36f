//! `multimaster.conflicts`: the transactions that members could not apply, kept where a DBA looks for them, and `multimaster.conflict_rows`: the
//! large images of their rows. The agent creates the tables at every start, unlogged. The operator writes their rows, logged and tagged, so that
//! every member has all of them.
//!
//! Members of two versions share the table (`docs/ring.md`, "Versions side by side"): columns are only added, at the end and with a default, and no
//! statement that reads names an added column.

mod reading;

use std::collections::BTreeMap;

use jiff::Timestamp;
use mysql_async::Conn;
use serde::Serialize;

use crate::decide::conflicts::{Record, Stage};
use crate::mysql::io::connection::{SqlError, ask, column, required, run};
use crate::mysql::quote::literal;

use reading::record;
pub use reading::{Reading, recent};

/// Settled conflicts that a member keeps.
const SETTLED_KEPT: u32 = 1000;
/// Of so many of them it keeps the large images.
const IMAGES_KEPT: u32 = 100;
/// Bytes of a piece of an image, at most. A character is not divided, so a piece may have a few bytes less.
const PIECE: usize = 1 << 18;

/// The circumstances of a conflict, for people.
pub struct Circumstances {
    /// Name of the member that could not apply the transaction.
    pub member: String,
    /// Name of the member that took the transaction from a client.
    pub origin: Option<String>,
    /// MySQL's error number.
    pub error: u32,
    /// MySQL's error message.
    pub message: String,
    /// When the transaction was committed at its origin.
    pub committed: Option<Timestamp>,
}

/// One record at a member, however old, with its images as they are in the record.
///
/// # Errors
/// [`SqlError::Unreadable`] when the record cannot be read, else as [`ask`].
pub async fn find(conn: &mut Conn, observer: &str, gtid: &str) -> Result<Option<Record>, SqlError> {
    let query = format!(
        "SELECT * FROM multimaster.conflicts WHERE observer = {} AND gtid = {}",
        literal(observer),
        literal(gtid)
    );
    let found = ask(conn, &query).await?;
    found.first().map(record).transpose()
}

/// Writes a new record with all its columns, because half a record would not show what the conflict is about. `apart`: see [`changes`].
///
/// # Errors
/// As [`run`].
pub async fn insert(
    conn: &mut Conn,
    record: &Record,
    circumstances: &Circumstances,
    apart: bool,
) -> Result<(), SqlError> {
    let changes = changes(record, apart)?;
    let statement = format!(
        "INSERT INTO multimaster.conflicts (observer, gtid, member, origin, error, message, committed_at, seen_at, stage, changes, for_a_person, \
         known, winner) VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
        literal(&record.observer),
        literal(&record.gtid),
        literal(&circumstances.member),
        or_null(circumstances.origin.as_deref()),
        circumstances.error,
        literal(&circumstances.message),
        or_null(circumstances.committed.map(in_utc).as_deref()),
        literal(&in_utc(record.seen)),
        literal(json(&record.stage)?.trim_matches('"')),
        literal(&changes),
        or_null(record.for_a_person.as_deref()),
        literal(&record.known.to_string()),
        record.winner.map_or("NULL".into(), |winner| winner.to_string()),
    );
    write(conn, record, apart, &statement).await
}

/// The rows of a record as the column `changes` has them. `apart`: without their large images, which [`write`] puts into the table of images.
fn changes(record: &Record, apart: bool) -> Result<String, SqlError> {
    match apart {
        true => json(&record.clone().brief().rows),
        false => json(&record.rows),
    }
}

/// Carries out the statement that writes a record. `apart`: with its large images, in one transaction.
async fn write(conn: &mut Conn, record: &Record, apart: bool, statement: &str) -> Result<(), SqlError> {
    let images = if apart { record.large_images() } else { BTreeMap::new() };
    if images.is_empty() {
        return run(conn, statement).await;
    }
    run(conn, "BEGIN").await?;
    let done = async {
        write_images(conn, record, &images).await?;
        run(conn, statement).await
    };
    let done = done.await;
    if done.as_ref().is_err_and(SqlError::leaves_doubt) {
        return done;
    }
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = run(conn, end).await;
    done.and(ended)
}

async fn write_images(conn: &mut Conn, record: &Record, images: &BTreeMap<String, String>) -> Result<(), SqlError> {
    let settings = ask(conn, "SELECT @@max_allowed_packet AS longest").await?;
    let settings = settings
        .first()
        .ok_or_else(|| SqlError::Unreadable("max_allowed_packet is not there".into()))?;
    // A piece may be twice as long as a literal.
    let longest = PIECE.min(required::<usize>(settings, "longest")? / 4);
    let mut values = String::new();
    for (sha256, image) in images {
        for (number, piece) in (0..).zip(pieces(image, longest)) {
            if !values.is_empty() && values.len() + piece.len() > longest {
                insert_images(conn, &std::mem::take(&mut values)).await?;
            }
            let comma = if values.is_empty() { "" } else { ", " };
            values += &format!(
                "{comma}({}, {}, {}, {number}, {})",
                literal(&record.observer),
                literal(&record.gtid),
                literal(sha256),
                literal(piece)
            );
        }
    }
    insert_images(conn, &values).await
}

async fn insert_images(conn: &mut Conn, values: &str) -> Result<(), SqlError> {
    // A piece is there already, if an earlier state of the record had the image.
    let statement =
        format!("INSERT IGNORE INTO multimaster.conflict_rows (observer, gtid, sha256, piece, image) VALUES {values}");
    run(conn, &statement).await
}

/// A text in pieces of at most so many bytes, which are more than the longest character has.
fn pieces(mut text: &str, longest: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(longest));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

fn or_null(text: Option<&str>) -> String {
    text.map_or("NULL".into(), literal)
}

fn json(value: &impl Serialize) -> Result<String, SqlError> {
    serde_json::to_string(value).map_err(|error| SqlError::Outdated(error.to_string()))
}

/// Writes the present state of a record. `apart`: see [`changes`].
///
/// # Errors
/// As [`run`].
pub async fn update(conn: &mut Conn, record: &Record, apart: bool) -> Result<(), SqlError> {
    let changes = changes(record, apart)?;
    let stage = json(&record.stage)?;
    let settled = if record.stage == Stage::Settled {
        "UTC_TIMESTAMP(6)"
    } else {
        "NULL"
    };
    let (file, offset) = match &record.kept {
        Some(position) => (literal(&position.file), position.offset.to_string()),
        None => ("NULL".into(), "NULL".into()),
    };
    let statement = format!(
        "UPDATE multimaster.conflicts SET stage = {}, changes = {}, for_a_person = {}, winner = {}, known = {}, kept_file = {file}, \
         kept_offset = {offset}, settled_at = {settled} WHERE observer = {} AND gtid = {}",
        literal(stage.trim_matches('"')),
        literal(&changes),
        or_null(record.for_a_person.as_deref()),
        record.winner.map_or("NULL".into(), |winner| winner.to_string()),
        literal(&record.known.to_string()),
        literal(&record.observer),
        literal(&record.gtid),
    );
    write(conn, record, apart, &statement).await
}

/// Removes settled conflicts of this member beyond the newest [`SETTLED_KEPT`], and the images of those beyond the newest [`IMAGES_KEPT`].
/// `apart`: every member has the table of images.
///
/// # Errors
/// As [`run`].
pub async fn prune(conn: &mut Conn, apart: bool) -> Result<(), SqlError> {
    let own = "observer = @@server_uuid AND stage = 'settled'";
    let query = format!(
        "SELECT CAST(settled_at AS CHAR) AS oldest FROM multimaster.conflicts WHERE {own} ORDER BY settled_at DESC LIMIT 1 OFFSET {SETTLED_KEPT}"
    );
    let oldest = ask(conn, &query)
        .await?
        .first()
        .and_then(|row| column::<String>(row, "oldest"));
    if let Some(oldest) = oldest {
        let old = format!(
            "DELETE FROM multimaster.conflicts WHERE {own} AND settled_at <= {}",
            literal(&oldest)
        );
        run(conn, &old).await?;
    }
    if !apart {
        return Ok(());
    }
    let newest = format!(
        "SELECT gtid FROM multimaster.conflicts WHERE {own} ORDER BY settled_at DESC, gtid LIMIT {IMAGES_KEPT}"
    );
    let old = format!(
        "DELETE FROM multimaster.conflict_rows WHERE observer = @@server_uuid AND gtid NOT IN (SELECT gtid FROM ({newest}) AS newest) \
         AND gtid NOT IN (SELECT gtid FROM multimaster.conflicts WHERE observer = @@server_uuid AND stage <> 'settled')"
    );
    run(conn, &old).await
}

fn in_utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
