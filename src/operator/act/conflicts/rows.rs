//! Re-asserts the rows of conflicts, and reads them for comparison.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use crate::decide::conflicts::images::brief_columns;
use crate::decide::conflicts::{ConflictingRow, Past, Record, Sides};
use crate::mysql::io::connection::{SqlError, ask, required, run};
use crate::mysql::row_events::{Form, RowEvent, format_statement, statement};
use crate::operator::act::Actor;

use super::account::{self, is_account};
use super::examine;
use super::history::{self, History, Logged, WAY_OUT};
use super::image::{self, Reads};
use super::located::{LocatedRow, copied, copy, locate};
use super::session::{Session, both};
use super::take::fits;

/// Adds the rows that records of other sides name, as they are at this member.
pub(super) async fn add(
    at: &mut Session,
    rows: &mut Vec<ConflictingRow>,
    more: &[ConflictingRow],
) -> Result<(), SqlError> {
    for target in locate(&mut at.aside, more.iter()).await? {
        if rows.iter().all(|row| row.id != target.id) {
            let mine = image::image(&mut at.aside, &target.table, &target.condition, Reads::Look).await?;
            rows.push(ConflictingRow {
                id: target.id,
                key: target.key,
                theirs: mine.clone(),
                mine,
            });
        }
    }
    Ok(())
}

/// The rows as they are at this member, with their ids and with digests of large values. Other members have them in the same order.
pub(super) async fn images(
    at: &mut Session,
    rows: &[ConflictingRow],
) -> Result<Vec<(String, Option<serde_json::Value>)>, SqlError> {
    let mut images = Vec::new();
    for target in locate(&mut at.aside, rows.iter()).await? {
        let image = image::image(&mut at.aside, &target.table, &target.condition, Reads::Look).await?;
        images.push((target.id, image.map(brief_columns)));
    }
    for row in rows.iter().filter(|row| is_account(&row.key)) {
        images.push((row.id.clone(), account::image(&mut at.aside, &row.key).await?));
    }
    Ok(images)
}

/// Deletes and inserts the rows in one logged transaction, so that every member gets them as they are here. A row that the losing side has
/// overwritten here, before it knew of the conflict, is written as this member's binary log has it without that, or else as its copy. `records`:
/// those that have the rows; `sides`: all of the conflict. `differing`: ids of rows that are not equal everywhere; `None`: that is not known,
/// because a transaction was just taken.
pub(super) async fn reassert(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    (records, sides): (&[Record], &[Record]),
    differing: Option<&HashSet<String>>,
) -> Result<(), SqlError> {
    // The copies have the ids of this member's own records.
    let (own, others): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|record| record.observer == at.uuid);
    let rows: Vec<ConflictingRow> = own
        .into_iter()
        .chain(others)
        .flat_map(|record| record.rows.clone())
        .collect();
    account::reassert(at, &rows).await?;
    let mut targets = locate(&mut at.aside, rows.iter()).await?;
    if targets.is_empty() {
        return Ok(());
    }
    let mut triggers: BTreeMap<String, Option<String>> = BTreeMap::new();
    for target in &mut targets {
        target.trigger = match triggers.entry(target.table.quoted()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let trigger = examine::trigger(&mut at.aside, &target.table, "'INSERT', 'DELETE'").await?;
                new.insert(trigger).clone()
            }
        };
    }
    // For the images of the binary log. Not in the transaction: the server forgets `gtid_next` at this statement.
    let format = history::format(actor, at, ordinal, sides).await?;
    if !format.is_empty() {
        run(&mut at.logged, &format_statement(&format)).await?;
        at.tag().await?;
    }
    run(&mut at.logged, "BEGIN").await?;
    let done = reassert_locked(actor, at, ordinal, sides, &targets, differing).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = run(&mut at.logged, end).await;
    both(done, ended)
}

async fn reassert_locked(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    sides: &[Record],
    targets: &[LocatedRow],
    differing: Option<&HashSet<String>>,
) -> Result<(), SqlError> {
    let mut present = Vec::new();
    for target in targets {
        let (table, condition) = (target.table.quoted(), &target.condition);
        let lock = format!("SELECT 1 FROM {table} WHERE {condition} FOR UPDATE");
        present.push(!ask(&mut at.logged, &lock).await?.is_empty());
    }
    let history = history::read(actor, at, ordinal, sides, targets).await?;
    let late = late(actor, at, sides, targets, &history).await?;
    let settings = "SELECT @@server_id AS server_id, @@max_allowed_packet AS longest";
    let settings = ask(&mut at.aside, settings).await?.pop();
    let settings = settings.ok_or_else(|| SqlError::Unreadable("server_id is not there".into()))?;
    let settings = (required(&settings, "server_id")?, required(&settings, "longest")?);
    let (mut deletes, mut inserts) = (Vec::new(), Vec::new());
    for (target, is_there) in targets.iter().zip(present) {
        if let Some(trigger) = &target.trigger {
            let is_late = late.contains(&target.id);
            let past = history.get(&target.id);
            // What was just taken has not changed it, or it is equal everywhere.
            let is_right = differing.map_or(past.is_none(), |differing| !differing.contains(&target.id) && !is_late);
            if is_right {
                continue;
            }
            let past = past.ok_or_else(|| unknown(target, trigger))?;
            let events = events(target, (trigger, is_there), past, is_late, settings)?;
            deletes.extend(events.0);
            inserts.extend(events.1);
            continue;
        }
        let (table, copies, columns) = (target.table.quoted(), &target.copies, target.table.stored_columns());
        let condition = &target.condition;
        deletes.push(format!("DELETE FROM {table} WHERE {condition}"));
        let copied = || format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {copies} WHERE {condition}");
        if !late.contains(&target.id) {
            // The row as it is here now is the right one.
            copy(&mut at.aside, target, false).await?;
            inserts.push(copied());
            continue;
        }
        match history.get(&target.id).and_then(Past::right) {
            // A copy needs no statement with the row in it.
            Some(Some(image)) => {
                inserts.push(written(target, image, Form::Insert, settings).unwrap_or_else(|_| copied()))
            }
            Some(None) => inserts.push(copied()),
            None => {}
        }
    }
    for statement in deletes.iter().chain(&inserts) {
        run(&mut at.logged, statement).await?;
    }
    Ok(())
}

/// The deletion and the insertion of a row whose table has triggers. They are row events, which fire none: the images are those that this member's
/// binary log has of the row. `server_id`, `longest`: `server_id` and `max_allowed_packet` of the member.
fn events(
    target: &LocatedRow,
    (trigger, is_there): (&str, bool),
    past: &Past<Logged>,
    is_late: bool,
    settings: (u32, u64),
) -> Result<(Option<String>, Option<String>), SqlError> {
    let unknown = || unknown(target, trigger);
    if past.present().is_some() != is_there {
        return Err(unknown());
    }
    let event = |image: &Logged, form: Form| -> Result<String, SqlError> {
        written(target, image.as_ref().ok_or_else(unknown)?, form, settings)
    };
    let delete = past.present().map(|row| event(row, Form::Delete));
    let right = if is_late { past.right() } else { past.present() };
    let insert = right.map(|row| event(row, Form::Insert));
    Ok((delete.transpose()?, insert.transpose()?))
}

/// The statement that inserts or deletes an image of a row.
fn written(
    target: &LocatedRow,
    image: &RowEvent,
    form: Form,
    (server_id, longest): (u32, u64),
) -> Result<String, SqlError> {
    let table = target.table.quoted();
    let mut event = RowEvent {
        server_id,
        ..image.clone()
    };
    if form == Form::Delete {
        event.before = event.after.take();
    }
    let no_form = || SqlError::Outdated(format!("the image of a row of {table} has no {form:?}"));
    let statement = statement(&event.without_foreign_keys(), form).ok_or_else(no_form)?;
    fits(&statement, longest, &table)?;
    Ok(statement)
}

fn unknown(target: &LocatedRow, trigger: &str) -> SqlError {
    SqlError::Outdated(format!(
        "the trigger {trigger} of {} would fire, and the binary log does not tell how the row {} is; {WAY_OUT}",
        target.table.quoted(),
        target.key
    ))
}

/// Ids of the rows whose last change here, since they were copied aside, came from the losing side before it knew of the conflict. `records`: those
/// that have the rows; `sides`: all of the conflict.
pub(super) async fn overwritten(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    (records, sides): (&[Record], &[Record]),
) -> Result<Vec<String>, SqlError> {
    let uuid = at.uuid.clone();
    let own = records.iter().filter(|record| record.observer == uuid);
    let targets = locate(&mut at.aside, own.flat_map(|record| &record.rows)).await?;
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let history = history::read(actor, at, ordinal, sides, &targets).await?;
    late(actor, at, sides, &targets, &history).await
}

/// Ids of the contested rows that a late write changed last.
async fn late(
    actor: &Actor<'_>,
    at: &mut Session,
    records: &[Record],
    targets: &[LocatedRow],
    history: &History,
) -> Result<Vec<String>, SqlError> {
    let contested = Sides::of(actor.observed).contested(actor.observed, &at.uuid, records);
    let is_late = |target: &&LocatedRow| {
        contested.contains(target.id.as_str()) && history.get(&target.id).is_some_and(Past::is_late)
    };
    let mut late = Vec::new();
    for target in targets.iter().filter(is_late) {
        let right = history.get(&target.id).and_then(Past::right);
        // Without the row, and without one that could be inserted, there is nothing to re-assert.
        let has_right = match right {
            Some(Some(_)) => true,
            // The log does not tell how the row is.
            Some(None) => match copied(&mut at.aside, target).await? {
                Some(has_copy) => has_copy,
                None => continue,
            },
            None => false,
        };
        let is_there = async |at: &mut Session| {
            let image = image::image(&mut at.aside, &target.table, &target.condition, Reads::Look).await?;
            Ok::<_, SqlError>(image.is_some())
        };
        if has_right || is_there(at).await? {
            late.push(target.id.clone());
        }
    }
    Ok(late)
}
