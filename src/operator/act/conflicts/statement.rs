//! Examines a statement that failed where it arrived: whether what it wants is so already, the same on both sides.

use mysql_async::Conn;
use mysql_common::constants::SqlMode;

use crate::decide::conflicts::ConflictingRow;
use crate::decide::conflicts::schema_changes::{differs, is_already_so, missing};
use crate::mysql::ddl::{accounts, goals};
use crate::mysql::definition::Definition;
use crate::mysql::errors::beginning;
use crate::mysql::goal::Object;
use crate::mysql::io::connection::{ANSWER_OF_DEFINITIONS, SqlError, ask, optional, required, shortened};
use crate::mysql::tokens::tokens;
use crate::mysql::transaction::Transaction;

use super::account::{self, present};
use super::finding::Finding;
use super::session::Session;

/// Compares what a statement wants with what is there, at the member that could not carry it out and at its upstream, which has carried it out.
pub(super) async fn examine(
    at: &mut Session,
    (upstream, source): (&str, &mut Conn),
    transaction: &Transaction,
    statement: &str,
    error: u32,
) -> Result<Finding, SqlError> {
    if statement.len() > ANSWER_OF_DEFINITIONS {
        let why = format!(
            "its text is longer than {} MiB, so it is not compared with what is there",
            ANSWER_OF_DEFINITIONS >> 20
        );
        return Ok(Finding::for_a_person(format!(
            "{why}: it is a statement that failed here: {}",
            shortened(&beginning(statement))
        )));
    }
    let tokens = tokens(statement, transaction.mode.unwrap_or(SqlMode::empty())).unwrap_or_default();
    let shown = shortened(&beginning(statement));
    let failed = |why: &str| Finding::for_a_person(format!("{why}: it is a statement that failed here: {shown}"));
    // Names in another character set than UTF-8 are not known.
    let is_readable = is_already_so(error) && !statement.contains(char::REPLACEMENT_CHARACTER);
    let wanted = is_readable.then(|| goals(&tokens, &transaction.schema)).flatten();
    let Some(wanted) = wanted else {
        let mut sides = Vec::new();
        for object in accounts(&tokens) {
            let here = definition(&mut at.aside, &object).await?.is_some();
            let there = definition(source, &object).await?.is_some();
            sides.push(missing(&object, (&at.name, here), (upstream, there)));
        }
        let why = if sides.is_empty() {
            "only a person knows what it is to do here".into()
        } else {
            sides.join(", ")
        };
        return Ok(failed(&why));
    };
    let mut rows: Vec<ConflictingRow> = Vec::new();
    let mut definitions: Vec<(&Object, Option<Definition>, Option<Definition>)> = Vec::new();
    for goal in &wanted {
        if definitions.iter().all(|(object, ..)| **object != goal.object) {
            let here = definition(&mut at.aside, &goal.object).await?;
            definitions.push((&goal.object, here, definition(source, &goal.object).await?));
        }
        let Some((_, here, there)) = definitions.iter().find(|(object, ..)| **object == goal.object) else {
            continue;
        };
        if let Some(why) = differs(goal, (&at.name, here.as_ref()), (upstream, there.as_ref())) {
            return Ok(failed(&why));
        }
        if let Object::Account(user, host) = &goal.object {
            rows.extend(account::password(&mut at.aside, source, user, host).await?);
        }
    }
    Ok(Finding {
        identical: rows.is_empty(),
        rows,
        ..Finding::default()
    })
}

/// What a server shows as the definition of an object; `None`: there is no such object.
async fn definition(conn: &mut Conn, object: &Object) -> Result<Option<Definition>, SqlError> {
    if let Object::Account(user, host) = object {
        return account::definition(conn, user, host).await;
    }
    if let Some(length) = object.length() {
        let rows = ask(conn, &length).await?;
        let bytes = rows.first().map_or(Ok(None), |row| optional::<u64>(row, "bytes"))?;
        if bytes.is_some_and(|bytes| bytes > ANSWER_OF_DEFINITIONS as u64) {
            let most = ANSWER_OF_DEFINITIONS >> 20;
            return Err(SqlError::Outdated(format!(
                "the definition of {object} is longer than {most} MiB, so it is not compared"
            )));
        }
    }
    let Some(row) = present(ask(conn, &object.show()).await)?.into_iter().next() else {
        return Ok(None);
    };
    let columns = row.columns_ref();
    let is_statement = |name: &str| name.starts_with("Create ") || name == "SQL Original Statement";
    let name = columns
        .iter()
        .map(|column| column.name_str())
        .find(|name| is_statement(name));
    let unreadable = || SqlError::Unreadable(format!("the definition of {object}"));
    let text: String = required(&row, &name.ok_or_else(unreadable)?)?;
    if matches!(object, Object::Table(..) | Object::Database(_)) {
        return Definition::read(&text).map(Some).ok_or_else(unreadable);
    }
    // What holds beside the statement: `sql_mode`, character sets, time zone. Not the name, and not when it was created.
    let mut beside = Vec::new();
    for column in columns.iter().skip(1) {
        let name = column.name_str();
        if !is_statement(&name) && name != "Created" {
            beside.push(optional::<String>(&row, &name)?.unwrap_or_default());
        }
    }
    // A member that got an event by replication has it disabled (manual, "Replication of Invoked Features").
    let text = match object {
        Object::Event(..) => [" DISABLE ON REPLICA ", " DISABLE ", " ENABLE "]
            .iter()
            .fold(text, |text, status| {
                text.replacen(&format!("PRESERVE{status}"), "PRESERVE ", 1)
            }),
        _ => text,
    };
    Ok(Some(Definition::plain(&text, &beside)))
}
