//! What happened to the rows of a conflict at a member since they were copied aside, as the member's own binary log has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::time::Duration;

use mysql_async::{DriverError, Error, IoError};

use crate::decide::conflicts::record::writer_of;
use crate::decide::conflicts::{Late, Past, Record, Sides, is_ours};
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::binlog::{self, Kept};
use crate::mysql::io::connection::{ANSWER, SqlError};
use crate::mysql::io::table;
use crate::mysql::row_events::RowEvent;
use crate::mysql::rows::{RowKey, Table};
use crate::mysql::transaction::{BinlogPosition, Change, Transaction};
use crate::operator::act::Actor;

use super::located::LocatedRow;
use super::session::{Session, cause};

/// Deadline of reading the binary log.
const DEADLINE: Duration = Duration::from_secs(20);
/// Bytes of images that are kept. If there are more, first those go that are also copied aside: of tables without triggers.
const MAX_BYTES: usize = 64 << 20;

/// What a person can do where the images of a row are not known.
pub(super) const WAY_OUT: &str = "change the row at the member that wins, in an ordinary session, so that its binary log has all of it: an UPDATE, or an INSERT";

/// A row in a binary log; `None`: it was there, but the log does not have all its columns. [`RowEvent::after`] is the row.
pub(super) type Logged = Option<RowEvent>;

/// Rows that changed, by [`LocatedRow::id`].
pub(super) type History = BTreeMap<String, Past<Logged>>;

/// Reads what happened to rows since the first of this member's records was taken, and which changes were [`Late`]. `records`: all sides of the conflict.
pub(super) async fn read(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
    targets: &[LocatedRow],
) -> Result<History, SqlError> {
    let Some(since) = since(at, records) else {
        return Ok(History::new());
    };
    let late = Late::of(actor.observed, &Sides::of(actor.observed), records);
    let mut reading = Reading {
        targets,
        keys: BTreeMap::new(),
        number: 0,
        bytes: 0,
        is_crowded: false,
        outdated: BTreeSet::new(),
    };
    let are = |schema: &str, name: &str| targets.iter().any(|it| is_of(&it.table, schema, name));
    read_log(actor, ordinal, since, Kept::Tables(&are, MAX_BYTES), |transaction| {
        for change in &transaction.changes {
            reading.add(change, |id| late.is(&transaction.gtid, id));
        }
        reading.forget(&transaction);
        match reading.bytes > MAX_BYTES {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .await?;
    if reading.bytes > MAX_BYTES {
        let why = format!(
            "its rows, of a table with triggers, have changed by more than {} MiB since they were copied aside; {WAY_OUT}",
            MAX_BYTES >> 20
        );
        return Err(SqlError::Outdated(why));
    }
    reading.by_id(at).await
}

/// What clients of this member have written since it executed a transaction that it had stopped at, as far as its binary log tells. They knew of
/// that transaction. `since`: a place in the log before it.
pub(super) async fn written_after(
    actor: &Actor<'_>,
    at: &Session,
    since: &BinlogPosition,
    gtid: &str,
) -> Result<GtidSet, SqlError> {
    let (mut is_after, mut after) = (false, GtidSet::default());
    read_log(actor, at.ordinal, since, Kept::Nothing, |transaction| {
        if is_after && writer_of(&transaction.gtid) == at.uuid && !is_ours(&transaction.gtid) {
            after.add(&transaction.gtid.parse().unwrap_or_default());
        }
        is_after |= transaction.gtid == gtid;
        ControlFlow::Continue(())
    })
    .await?;
    Ok(after)
}

/// Body of the format description event of this member's binary log.
pub(super) async fn format(
    actor: &Actor<'_>,
    at: &Session,
    ordinal: u8,
    records: &[Record],
) -> Result<Vec<u8>, SqlError> {
    let mut format = Vec::new();
    if let Some(since) = since(at, records) {
        read_log(actor, ordinal, since, Kept::Nothing, |transaction| {
            format = transaction.format;
            ControlFlow::Break(())
        })
        .await?;
    }
    Ok(format)
}

/// Reads a member's binary log. The next attempt would take as long, and find the same, so all errors but those of the connection are final.
async fn read_log(
    actor: &Actor<'_>,
    ordinal: u8,
    since: &BinlogPosition,
    kept: Kept<'_>,
    seen: impl FnMut(Transaction) -> ControlFlow<()>,
) -> Result<(), SqlError> {
    let log = actor.connect(ordinal).await.map_err(cause)?;
    let why = match binlog::read(log, since, DEADLINE, kept, seen).await {
        Err(SqlError::TooLong) => format!("has a row of more than {} MiB", ANSWER >> 20),
        Err(SqlError::Deadline(deadline)) => format!("is not read within {deadline:?}"),
        Err(SqlError::Mysql(error)) if !matches!(error, Error::Server(_)) && !is_of_connection(&error) => {
            format!("cannot be read: {error}")
        }
        read => return read,
    };
    let (name, file, offset) = (actor.name(ordinal), &since.file, since.offset);
    Err(SqlError::Outdated(format!(
        "the binary log of {name} since {file}, {offset} {why}"
    )))
}

/// Whether an error is one of the connection, and not of what came by it.
fn is_of_connection(error: &Error) -> bool {
    match error {
        Error::Io(IoError::Io(error)) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionRefused
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::TimedOut
        ),
        Error::Io(IoError::Tls(_)) => true,
        Error::Driver(error) => matches!(error, DriverError::ConnectionClosed),
        _ => false,
    }
}

/// Where the binary log begins in which this member's own rows were copied aside.
fn since<'a>(at: &Session, records: &'a [Record]) -> Option<&'a BinlogPosition> {
    let own = records.iter().filter(|record| record.observer == at.uuid);
    let copied = own.filter_map(|record| Some((record.seen, record.kept.as_ref()?)));
    let (_, since) = copied.min_by_key(|(seen, _)| *seen)?;
    Some(since)
}

struct Reading<'a> {
    targets: &'a [LocatedRow],
    /// By key as the log has it. Only the server knows which texts are one key.
    keys: BTreeMap<String, (RowKey, Past<Logged>)>,
    number: usize,
    /// Of the images in `keys`.
    bytes: usize,
    /// No more images are kept of rows that are copied aside.
    is_crowded: bool,
    /// Schemas and names of tables of which changes were not read.
    outdated: BTreeSet<(String, String)>,
}

impl Reading<'_> {
    fn add(&mut self, change: &Change, is_late: impl Fn(&str) -> bool) {
        let targets = self.targets;
        let own = || {
            targets
                .iter()
                .filter(|it| is_of(&it.table, &change.schema, &change.table))
        };
        let Some(first) = own().next() else { return };
        let key = |row: &Option<Vec<_>>| {
            let Some(row) = row else { return Ok(None) };
            let key = first.table.key(row)?;
            let is_meant = own().any(|target| target.has_weights || target.key == key);
            Ok::<_, String>(is_meant.then_some(key))
        };
        let (Ok(from), Ok(to)) = (key(&change.before), key(&change.after)) else {
            // The table had other columns then.
            self.outdate(&change.schema, &change.table);
            return;
        };
        let is_kept = first.trigger.is_some() || !self.is_crowded;
        let image = |key: &Option<RowKey>, row: fn(&RowEvent) -> &Option<Vec<u8>>| {
            key.as_ref()?;
            let event = change.event.as_ref().filter(|_| is_kept);
            Some(event.and_then(|event| Some(event.only(row(event).clone()?))))
        };
        let before = image(&from, |event| &event.before);
        let after = image(&to, |event| &event.after);
        // Of a key in another text only the server knows which row it is.
        let is_late = |key: &Option<RowKey>| {
            let Some(key) = key else { return false };
            match own().find(|target| target.key == *key) {
                Some(target) => is_late(&target.id),
                None => own().any(|target| is_late(&target.id)),
            }
        };
        let (from_late, to_late) = (is_late(&from), is_late(&to));
        if from.is_some() && from == to {
            self.note(from, before, after, from_late);
        } else {
            self.note(from, before, None, from_late);
            self.note(to, None, after, to_late);
        }
    }

    /// After a statement about a table, or a transaction that was read partly, earlier images do not tell how rows are.
    fn forget(&mut self, transaction: &Transaction) {
        if transaction.is_larger {
            let targets = self.targets;
            targets
                .iter()
                .for_each(|it| self.outdate(&it.table.schema, &it.table.name));
        }
        let Some(text) = transaction.statement.as_ref().map(|text| text.to_lowercase()) else {
            return;
        };
        let is_named = |name: &str| mentions(&text, &name.to_lowercase());
        self.forget_images(|key| is_named(&key.table) || is_named(&key.schema));
    }

    /// Changes of this table were not read: images do not tell how its rows are, and how a row was before its first change that is read says nothing
    /// of what was right.
    fn outdate(&mut self, schema: &str, table: &str) {
        self.outdated.insert((schema.to_owned(), table.to_owned()));
        self.forget_images(|key| key.schema == schema && key.table == table);
    }

    fn forget_images(&mut self, is_meant: impl Fn(&RowKey) -> bool) {
        for (_, past) in self.keys.values_mut().filter(|(key, _)| is_meant(key)) {
            self.bytes -= bytes(past);
            past.forget(&None);
        }
    }

    fn note(&mut self, key: Option<RowKey>, before: Option<Logged>, after: Option<Logged>, is_late: bool) {
        let Some(key) = key else { return };
        self.number += 1;
        let is_outdated = || {
            let mut tables = self.outdated.iter();
            tables.any(|(schema, table)| *schema == key.schema && *table == key.table)
        };
        let before = before.map(|image| image.filter(|_| !is_outdated()));
        let past = Past::new(self.number, before, after, is_late);
        match self.keys.get_mut(&key.to_string()) {
            Some((_, known)) => {
                self.bytes -= bytes(known);
                known.join(past);
                self.bytes += bytes(known);
            }
            None => {
                self.bytes += bytes(&past);
                self.keys.insert(key.to_string(), (key, past));
            }
        }
        if self.bytes > MAX_BYTES && !self.is_crowded {
            self.is_crowded = true;
            let targets = self.targets;
            let has_trigger = |key: &RowKey| {
                let mut own = targets.iter().filter(|it| is_of(&it.table, &key.schema, &key.table));
                own.any(|target| target.trigger.is_some())
            };
            self.forget_images(|key| !has_trigger(key));
        }
    }

    async fn by_id(self, at: &mut Session) -> Result<History, SqlError> {
        let mut rows = History::new();
        let tables: BTreeMap<String, &Table> = self
            .targets
            .iter()
            .map(|target| (target.table.quoted(), &target.table))
            .collect();
        for table in tables.values() {
            let changes: Vec<_> = self
                .keys
                .values()
                .filter(|(key, _)| is_of(table, &key.schema, &key.table))
                .collect();
            let keys: Vec<&RowKey> = changes.iter().map(|(key, _)| key).collect();
            for (identity, (_, past)) in table::identities(&mut at.aside, table, &keys)
                .await?
                .iter()
                .zip(changes)
            {
                for target in self.targets.iter().filter(|target| target.identity == *identity) {
                    match rows.get_mut(&target.id) {
                        Some(known) => known.join(past.clone()),
                        None => {
                            rows.insert(target.id.clone(), past.clone());
                        }
                    }
                }
            }
        }
        Ok(rows)
    }
}

/// Bytes of the images, with what each has beside its row.
fn bytes(past: &Past<Logged>) -> usize {
    let length =
        |event: &RowEvent| size_of::<RowEvent>() + event.table_map.len() + event.after.as_ref().map_or(0, Vec::len);
    past.rows().flatten().map(length).sum()
}

/// Whether a statement has this name, and not only as a part of another one.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    })
}

fn is_of(table: &Table, schema: &str, name: &str) -> bool {
    table.schema == schema && table.name == name
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn a_statement_names_a_table_or_it_does_not() {
        for (text, name, expected) in [
            ("alter table `order-items` modify a int", "order-items", true),
            ("alter table d.t add x int", "t", true),
            ("create user 'a'", "t", false),
            ("drop table order_t", "t", false),
            ("truncate t", "t", true),
        ] {
            assert_eq!(mentions(text, name), expected, "{text}");
        }
    }
}
