//! Rows of conflicts: copied aside, re-asserted, compared. Values never leave the server: MySQL copies its own rows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::time::Duration;

use mysql_async::Conn;

use crate::decide::conflicts::{self, ConflictingRow, Record};
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::binlog;
use crate::mysql::io::connection::{SqlError, ask, run};
use crate::mysql::io::table;
use crate::mysql::quote::{identifier, literal};
use crate::mysql::rows::{RowKey, Table};
use crate::mysql::transaction::Cell;
use crate::names::{GTID_TAG, SCHEMA};
use crate::operator::act::Actor;

use super::examine;
use super::session::{Session, both, cause};

/// Of reading what happened to a row since it was copied aside.
const DEADLINE: Duration = Duration::from_secs(20);

/// A row with what is needed to find it.
struct Place {
    key: RowKey,
    table: Table,
    condition: String,
    /// The table of copies.
    copies: String,
}

async fn places(conn: &mut Conn, rows: impl Iterator<Item = &ConflictingRow>) -> Result<Vec<Place>, SqlError> {
    let mut tables: BTreeMap<(String, String), Table> = BTreeMap::new();
    let mut by_key: BTreeMap<String, Place> = BTreeMap::new();
    for row in rows {
        let table = match tables.entry((row.key.schema.clone(), row.key.table.clone())) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new
                .insert(table::read(conn, &row.key.schema, &row.key.table).await?)
                .clone(),
        };
        let condition = table.finds(&row.key).map_err(SqlError::Outdated)?;
        let place = Place {
            key: row.key.clone(),
            copies: copies(&row.key),
            table,
            condition,
        };
        by_key.insert(row.key.to_string(), place);
    }
    Ok(by_key.into_values().collect())
}

/// Name of the table in the product's schema that has the copy of a row.
fn copies(key: &RowKey) -> String {
    format!("{}.{}", identifier(SCHEMA), identifier(&format!("kept_{}", key.id())))
}

/// Adds rows that other sides of the conflict have named, as they are here.
pub(super) async fn add(
    at: &mut Session,
    rows: &mut Vec<ConflictingRow>,
    more: &[ConflictingRow],
) -> Result<(), SqlError> {
    for place in places(&mut at.aside, more.iter()).await? {
        if rows.iter().all(|row| row.key != place.key) {
            let mine = examine::image(&mut at.aside, &place.table, &place.condition).await?;
            rows.push(ConflictingRow {
                id: place.key.id(),
                key: place.key,
                theirs: mine.clone(),
                mine,
            });
        }
    }
    Ok(())
}

/// Copies the member's own rows, unlogged. What an open conflict has copied before stays: it is what was there before the first.
pub(super) async fn copy_aside(at: &mut Session, rows: &[ConflictingRow]) -> Result<(), SqlError> {
    for place in places(&mut at.aside, rows.iter()).await? {
        copy(&mut at.aside, &place, "INSERT IGNORE").await?;
    }
    Ok(())
}

async fn copy(aside: &mut Conn, place: &Place, verb: &str) -> Result<(), SqlError> {
    let (table, copies, columns) = (place.table.quoted(), &place.copies, place.table.stored_columns());
    run(aside, &format!("CREATE TABLE IF NOT EXISTS {copies} LIKE {table}")).await?;
    let copy = format!(
        "{verb} INTO {copies} ({columns}) SELECT {columns} FROM {table} WHERE {}",
        place.condition
    );
    run(aside, &copy).await
}

/// Forgets the copies of settled conflicts.
pub(super) async fn forget(at: &mut Session, rows: &[ConflictingRow]) -> Result<(), SqlError> {
    for row in rows {
        run(&mut at.aside, &format!("DROP TABLE IF EXISTS {}", copies(&row.key))).await?;
    }
    Ok(())
}

/// An empty transaction in place of this one.
pub(super) async fn skip(at: &mut Session, gtid: &str) -> Result<(), SqlError> {
    run(&mut at.logged, &format!("SET SESSION gtid_next = {}", literal(gtid))).await?;
    run(&mut at.logged, "BEGIN").await?;
    run(&mut at.logged, "COMMIT").await?;
    run(
        &mut at.logged,
        &format!("SET SESSION gtid_next = 'AUTOMATIC:{GTID_TAG}'"),
    )
    .await
}

/// The rows as they are there.
pub(super) async fn images(
    at: &mut Session,
    rows: &[ConflictingRow],
) -> Result<Vec<Option<serde_json::Value>>, SqlError> {
    let mut images = Vec::new();
    for place in places(&mut at.aside, rows.iter()).await? {
        images.push(examine::image(&mut at.aside, &place.table, &place.condition).await?);
    }
    Ok(images)
}

/// Deletes and inserts the rows in one logged transaction, which makes every member have them as they are here. Rows that the losing side has
/// overwritten here, in ignorance of this one, are taken from the copies.
pub(super) async fn reassert(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
) -> Result<(), SqlError> {
    let rows = records.iter().flat_map(|record| &record.rows);
    let places = places(&mut at.aside, rows).await?;
    run(&mut at.logged, "BEGIN").await?;
    let done = reassert_locked(actor, at, ordinal, records, &places).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = run(&mut at.logged, end).await;
    both(done, ended)
}

async fn reassert_locked(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
    places: &[Place],
) -> Result<(), SqlError> {
    for place in places {
        let lock = format!(
            "SELECT 1 FROM {} WHERE {} FOR UPDATE",
            place.table.quoted(),
            place.condition
        );
        ask(&mut at.logged, &lock).await?;
    }
    let ignorant = overwritten(actor, at, ordinal, records).await?;
    for place in places {
        if !ignorant.contains(&place.key) {
            // What is here now is what is meant.
            let (copies, condition) = (&place.copies, &place.condition);
            run(
                &mut at.aside,
                &format!("CREATE TABLE IF NOT EXISTS {copies} LIKE {}", place.table.quoted()),
            )
            .await?;
            run(&mut at.aside, &format!("DELETE FROM {copies} WHERE {condition}")).await?;
            copy(&mut at.aside, place, "INSERT").await?;
        }
    }
    for place in places {
        let delete = format!("DELETE FROM {} WHERE {}", place.table.quoted(), place.condition);
        run(&mut at.logged, &delete).await?;
    }
    for place in places {
        let (table, copies, columns) = (place.table.quoted(), &place.copies, place.table.stored_columns());
        let insert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {copies} WHERE {}",
            place.condition
        );
        run(&mut at.logged, &insert).await?;
    }
    Ok(())
}

/// The rows whose last change here, since they were copied aside, is one of the losing side from before it knew of the other.
pub(super) async fn overwritten(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
) -> Result<Vec<RowKey>, SqlError> {
    let uuid = at.uuid.clone();
    let own = || records.iter().filter(|record| record.observer == uuid);
    let copied = own().filter_map(|record| Some((record.seen, record.kept.as_ref()?)));
    let Some((_, since)) = copied.min_by_key(|(seen, _)| *seen) else {
        return Ok(Vec::new());
    };
    let places = places(&mut at.aside, own().flat_map(|record| &record.rows)).await?;
    let losers = conflicts::losers(actor.observed, records);
    let known = records.iter().try_fold(GtidSet::default(), |known, record| {
        let gtid = record.gtid.parse::<GtidSet>();
        let gtid = gtid.map_err(|error| SqlError::Outdated(error.to_string()))?;
        Ok::<_, SqlError>(known.union(&record.known).union(&gtid))
    })?;
    let log = actor.connect(ordinal).await.map_err(cause)?;
    let mut last: BTreeMap<String, bool> = BTreeMap::new();
    binlog::read(log, since, DEADLINE, |transaction| {
        let mut parts = transaction.gtid.split(':');
        let (writer, tag) = (parts.next().unwrap_or_default(), parts.next());
        let ignorant = tag != Some(GTID_TAG)
            && losers.iter().any(|loser| loser == writer)
            && transaction.gtid.parse().is_ok_and(|gtid| known.contains(&gtid));
        for change in &transaction.changes {
            let table = |place: &&Place| place.table.schema == change.schema && place.table.name == change.table;
            for place in places.iter().filter(table) {
                let touches = |row: &Option<Vec<Cell>>| {
                    row.as_ref()
                        .is_some_and(|row| place.table.key(row).is_ok_and(|key| key == place.key))
                };
                if touches(&change.before) || touches(&change.after) {
                    last.insert(place.key.to_string(), ignorant);
                }
            }
        }
        ControlFlow::Continue(())
    })
    .await?;
    let keys = places.into_iter().map(|place| place.key);
    Ok(keys.filter(|key| last.get(&key.to_string()) == Some(&true)).collect())
}
