//! Examines the transaction at which an applier stopped: what it changes, and what is in its way.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::time::Duration;

use mysql_async::Conn;

use crate::decide::conflicts::ConflictingRow;
use crate::decide::conflicts::is_ours;
use crate::decide::conflicts::taking::{self, Keys};
use crate::mysql::io::binlog::{self, Kept};
use crate::mysql::io::connection::{SqlError, ask, required};
use crate::mysql::io::table;
use crate::mysql::quote::literal;
use crate::mysql::row_events::Form;
use crate::mysql::rows::{RowKey, Table};
use crate::mysql::transaction::{BinlogPosition, Cell, Transaction};

use super::finding::Finding;
use super::image::{MOST_OF_IMAGES, Reads, excluding, json, text};
use super::session::Session;
use super::statement;

/// Rows of a transaction that is examined.
const MAX_CHANGES: usize = 1000;
/// Bytes of their images.
const MAX_BYTES: usize = 16 << 20;
/// The same of a transaction of the operator's.
const MOST_OF_OURS: usize = 64 << 20;
/// Deadline of the search for a transaction in its upstream's binary log.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a member has in the way of a transaction.
#[derive(Default)]
pub(super) struct InTheWay {
    /// The rows that are in its way, and its own rows.
    pub(super) rows: Vec<ConflictingRow>,
    /// How each of its changes is carried out here.
    pub(super) forms: Vec<Vec<Form>>,
    /// The statements that delete the rows which exclude one of its rows through another unique index.
    pub(super) deletes: Vec<String>,
    /// Unique indexes by which rows that are in its way cannot be found, and why.
    pub(super) unknown: Vec<String>,
    /// Why the session cannot make way.
    pub(super) for_a_person: Option<String>,
}

/// The effect of a transaction on one row.
struct Effect<'a> {
    key: RowKey,
    /// See [`table::identities`].
    identity: RowKey,
    was_there: bool,
    after: Option<&'a [Cell]>,
}

/// The most bytes of row images that are read of a transaction. The operator's own are as large as the conflicts that they settle.
fn most_of(gtid: &str) -> usize {
    if is_ours(gtid) { MOST_OF_OURS } else { MAX_BYTES }
}

/// Reads the transaction at which the member's applier stopped, and compares it with the member's rows and definitions. `upstream`: the name of the
/// member that it came from. `error`: MySQL's number of the error at which the applier stopped.
pub(super) async fn find(
    at: &mut Session,
    log: Conn,
    (upstream, mut source): (&str, Conn),
    (position, error): (&BinlogPosition, u32),
    gtid: &str,
) -> Result<Finding, SqlError> {
    let mut found = None;
    binlog::read(
        log,
        position,
        DEADLINE,
        Kept::Transaction(gtid, most_of(gtid)),
        |transaction| {
            if transaction.gtid == gtid {
                found = Some(transaction);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        },
    )
    .await?;
    let Some(transaction) = found else {
        return Ok(Finding::for_a_person(
            "the upstream's binary log does not have it".into(),
        ));
    };
    let mut finding = match &transaction.statement {
        Some(text) => statement::examine(at, (upstream, &mut source), &transaction, text, error).await?,
        None if transaction.changes.is_empty() && transaction.is_larger => {
            Finding::for_a_person(format!("it has a row of more than {} MiB", MAX_BYTES >> 19))
        }
        // Taken, it would be an empty transaction.
        None if transaction.changes.is_empty() => Finding::for_a_person("it has no row events that are known".into()),
        None if is_too_large(&transaction) => Finding::for_a_person(format!(
            "it changes more than {MAX_CHANGES} rows, or {} MiB: {}",
            MAX_BYTES >> 20,
            extent(&mut at.aside, &transaction).await?
        )),
        None => match in_the_way(&mut at.aside, &transaction, Reads::Look).await? {
            Ok(found) => {
                let is_unknown = found.rows.is_empty() && !found.unknown.is_empty();
                let unknown = is_unknown.then(|| unknown(&found.unknown));
                Finding {
                    rows: found.rows,
                    for_a_person: found.for_a_person.or(unknown),
                    ..Finding::default()
                }
            }
            Err(why) => Finding::for_a_person(why),
        },
    };
    finding.transaction = transaction;
    Ok(finding)
}

/// The first and the last row that a transaction changes, as far as it was read.
async fn extent(conn: &mut Conn, transaction: &Transaction) -> Result<String, SqlError> {
    let mut ends = Vec::new();
    for change in transaction
        .changes
        .first()
        .into_iter()
        .chain(transaction.changes.last())
    {
        let table = table::read(conn, &change.schema, &change.table).await?;
        let row = change.after.as_ref().or(change.before.as_ref());
        let key = row.and_then(|row| table.key(row).ok());
        ends.push(key.map_or_else(|| table.quoted(), |key| key.to_string()));
    }
    let more = if transaction.is_larger { " and more" } else { "" };
    let number = transaction.changes.len();
    Ok(format!("{number} changes from {}{more}", ends.join(" to ")))
}

/// Why a row is not found that is in the way of a transaction.
pub(super) fn unknown(indexes: &[String]) -> String {
    format!(
        "a row that is in its way cannot be found by the unique index {}",
        indexes.join(", ")
    )
}

fn is_too_large(transaction: &Transaction) -> bool {
    transaction.is_larger || transaction.changes.len() > MAX_CHANGES && !is_ours(&transaction.gtid)
}

/// The rows at the member that exclude rows of the transaction; or why they cannot be found.
pub(super) async fn in_the_way(
    conn: &mut Conn,
    transaction: &Transaction,
    reads: Reads,
) -> Result<Result<InTheWay, String>, SqlError> {
    let mut tables: BTreeMap<(&str, &str), Table> = BTreeMap::new();
    let mut found = InTheWay::default();
    let mut keys = Vec::new();
    for change in &transaction.changes {
        let name = (change.schema.as_str(), change.table.as_str());
        let table = match tables.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(table::read(conn, name.0, name.1).await?),
        };
        let key = |row: &Option<Vec<Cell>>| row.as_ref().map(|row| table.key(row)).transpose();
        if change.event.is_none() {
            let why = "its row events do not have all columns as they are (binlog_row_image, binlog_row_value_options)";
            return Ok(Err(why.into()));
        }
        match (key(&change.before), key(&change.after)) {
            (Ok(before), Ok(after)) => keys.push((before, after)),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
        }
    }
    let identities = identities(conn, &tables, &keys).await?;
    let mut effects: Vec<Effect<'_>> = Vec::new();
    let mut changed: Vec<Keys> = Vec::new();
    let (mut there, mut bytes) = (BTreeMap::new(), 0);
    for (change, (before, after)) in transaction.changes.iter().zip(&keys) {
        let own = |key: &Option<RowKey>| key.as_ref().map(|key| exact(&identities[&exact(key)]));
        let (was, is) = (own(before), own(after));
        let row = change.after.as_deref();
        let rows = match was.is_some() && was == is {
            true => [(before, true, row), (&None, false, None)],
            false => [(before, true, None), (after, false, row)],
        };
        for (key, was_there, after) in rows {
            let Some(key) = key else { continue };
            let identity = &identities[&exact(key)];
            match effects.iter_mut().find(|effect| effect.identity == *identity) {
                Some(effect) => effect.after = after,
                None => effects.push(Effect {
                    key: key.clone(),
                    identity: identity.clone(),
                    was_there,
                    after,
                }),
            }
        }
        changed.push((was, is));
    }
    for effect in &effects {
        let (key, id) = (&effect.key, effect.identity.id());
        let table = &tables[&(key.schema.as_str(), key.table.as_str())];
        let condition = match table.finds(key) {
            Ok(condition) => condition,
            Err(why) => return Ok(Err(why)),
        };
        let mine = text(conn, table, &condition, reads).await?;
        there.insert(exact(&effect.identity), mine.is_some());
        if mine.is_some() != effect.was_there {
            bytes += mine.as_ref().map_or(0, String::len);
            if bytes > MOST_OF_IMAGES {
                return Ok(Err(too_many_bytes()));
            }
            let mine = mine.map(|text| json(table, &text)).transpose()?;
            found.rows.push(ConflictingRow {
                id: id.clone(),
                key: key.clone(),
                mine,
                theirs: effect.after.map(|row| table.describe(row)),
            });
        }
    }
    found.forms = taking::forms(&changed, there);
    // Every row that the transaction writes, also one that it changes again later.
    for ((change, (before, after)), forms) in transaction.changes.iter().zip(&keys).zip(&found.forms) {
        let (Some(key), Some(row)) = (after.as_ref().or(before.as_ref()), &change.after) else {
            continue;
        };
        if forms.is_empty() {
            continue;
        }
        let table = &tables[&(key.schema.as_str(), key.table.as_str())];
        let id = identities[&exact(key)].id();
        let excluded = table.excluded_by(row);
        found.unknown.extend(excluded.unknown);
        for condition in excluded.conditions {
            let others = excluding(conn, table, &condition, reads).await?;
            let own = others.iter().map(|(other, _)| other).collect::<Vec<_>>();
            let own = table::identities(conn, table, &own).await?;
            for ((other, mine), identity) in others.into_iter().zip(own) {
                if effects.iter().any(|effect| effect.identity == identity) {
                    continue;
                }
                bytes += mine.len();
                if bytes > MOST_OF_IMAGES {
                    return Ok(Err(too_many_bytes()));
                }
                match (table.finds(&other), trigger(conn, table, "'DELETE'").await?) {
                    (Err(why), _) => return Ok(Err(why)),
                    (Ok(_), Some(trigger)) => {
                        let why = format!(
                            "the row {other} has the same value in a unique index as a row of the transaction, and the trigger {trigger} would fire if \
                             it were deleted: give it another value there, then START REPLICA SQL_THREAD"
                        );
                        found.for_a_person.get_or_insert(why);
                    }
                    (Ok(condition), None) => {
                        let delete = format!("DELETE FROM {} WHERE {condition}", table.quoted());
                        if found.deletes.contains(&delete) {
                            continue;
                        }
                        found.deletes.push(delete);
                    }
                }
                found.rows.push(ConflictingRow {
                    id: identity.id(),
                    key: other,
                    mine: Some(json(table, &mine)?),
                    theirs: None,
                });
                // The transaction's own row is the other half: in the end every member is to have the same one of the two.
                if !found.rows.iter().any(|row| row.id == id) {
                    found.rows.push(ConflictingRow {
                        id: id.clone(),
                        key: key.clone(),
                        mine: None,
                        theirs: Some(table.describe(row)),
                    });
                }
            }
        }
    }
    Ok(Ok(found))
}

/// Name of a trigger that fires at such statements on the table, for example `'INSERT', 'DELETE'`.
pub(super) async fn trigger(conn: &mut Conn, table: &Table, statements: &str) -> Result<Option<String>, SqlError> {
    let query = format!(
        "SELECT TRIGGER_NAME AS name FROM information_schema.TRIGGERS WHERE EVENT_MANIPULATION IN ({statements}) \
         AND EVENT_OBJECT_SCHEMA = {} AND EVENT_OBJECT_TABLE = {}",
        literal(&table.schema),
        literal(&table.name)
    );
    let rows = ask(conn, &query).await?;
    rows.first().map(|row| required(row, "name")).transpose()
}

/// A key as a text that no other key has.
fn exact(key: &RowKey) -> String {
    format!("{key:?}")
}

/// The identities of all keys of a transaction, by key.
async fn identities(
    conn: &mut Conn,
    tables: &BTreeMap<(&str, &str), Table>,
    keys: &[(Option<RowKey>, Option<RowKey>)],
) -> Result<BTreeMap<String, RowKey>, SqlError> {
    let all = || keys.iter().flat_map(|(before, after)| [before, after]).flatten();
    let mut identities = BTreeMap::new();
    for ((schema, name), table) in tables {
        let own: Vec<&RowKey> = all()
            .filter(|key| key.schema == *schema && key.table == *name)
            .collect();
        let identified = table::identities(conn, table, &own).await?;
        identities.extend(own.iter().map(|key| exact(key)).zip(identified));
    }
    Ok(identities)
}

fn too_many_bytes() -> String {
    format!(
        "the rows that are in its way have more than {} MiB as JSON",
        MOST_OF_IMAGES >> 20
    )
}
