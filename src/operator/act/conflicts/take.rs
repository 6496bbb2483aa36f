//! Takes a transaction: a session carries out its changes under its own GTID, and overwrites rows that are in its way.

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::errors::passes;
use crate::mysql::io::connection::{ANSWER, SqlError, ask, required, run};
use crate::mysql::quote::literal;
use crate::mysql::row_events::{format_statement, statement};
use crate::mysql::transaction::Transaction;
use crate::names::GTID_TAG;

use super::examine;
use super::image::Reads;
use super::located::copy_aside;
use super::session::{Session, both};

/// Takes a transaction, all of it or nothing. `copies`: the rows of its record, and the ids of those whose copies stay. They are copied aside
/// once they are locked; no other row is overwritten. `None`: the operator's own transaction, which has no record.
///
/// The changes are row events, so no trigger fires. A change that meets another row than its origin did is written as
/// [`crate::decide::conflicts::taking::forms`] says, and no foreign key acts on it, neither here nor at the members downstream.
pub(super) async fn take(
    at: &mut Session,
    transaction: &Transaction,
    copies: Option<(&[ConflictingRow], &[String])>,
) -> Result<(), SqlError> {
    let mut taken = attempt(at, transaction, copies).await;
    // A client may have inserted or deleted a row after it was looked at. If the second attempt fails like the first, it was no client.
    if matches!(&taken, Err(SqlError::Mysql(mysql_async::Error::Server(error))) if matches!(error.code, 1032 | 1062)) {
        taken = attempt(at, transaction, copies).await;
    }
    match taken {
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if passes(error.code.into(), &error.message) => {
            Err(SqlError::Interrupted(error.to_string()))
        }
        // Nothing more can be said in this session, and it has a transaction open.
        Err(SqlError::TooLong) => Err(SqlError::Interrupted(SqlError::TooLong.to_string())),
        taken => taken,
    }
}

async fn attempt(
    at: &mut Session,
    transaction: &Transaction,
    copies: Option<(&[ConflictingRow], &[String])>,
) -> Result<(), SqlError> {
    // The commit keeps the time of the member that wrote it.
    let committed = transaction.committed.map_or(0, |committed| committed.as_microsecond());
    let begin = format!(
        "SET SESSION original_commit_timestamp = {committed}, gtid_next = {}",
        literal(&transaction.gtid)
    );
    run(&mut at.logged, &begin).await?;
    let done = carry_out(at, transaction, copies).await;
    if done.as_ref().is_err_and(SqlError::leaves_doubt) {
        return done;
    }
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = run(&mut at.logged, end).await;
    let next = format!("SET SESSION original_commit_timestamp = DEFAULT, gtid_next = 'AUTOMATIC:{GTID_TAG}'");
    let ended = both(ended, run(&mut at.logged, &next).await);
    both(done, ended)
}

/// Carries the changes out in an open transaction, after it has locked the rows.
async fn carry_out(
    at: &mut Session,
    transaction: &Transaction,
    copies: Option<(&[ConflictingRow], &[String])>,
) -> Result<(), SqlError> {
    run(&mut at.logged, "BEGIN").await?;
    let found = examine::in_the_way(&mut at.logged, transaction, Reads::Lock).await?;
    let found = found.map_err(SqlError::Outdated)?;
    if let Some(why) = found.for_a_person {
        return Err(SqlError::Outdated(why));
    }
    let is_recorded = |row: &&ConflictingRow| copies.is_none_or(|(rows, _)| rows.iter().any(|own| own.key == row.key));
    if let Some(row) = found.rows.iter().find(|row| !is_recorded(row)) {
        return Err(SqlError::Interrupted(format!("a client has just written {}", row.key)));
    }
    if let Some((rows, taken)) = copies {
        copy_aside(at, rows, taken).await?;
    }
    let longest = ask(&mut at.logged, "SELECT @@max_allowed_packet AS longest").await?;
    let longest: u64 = longest.first().map_or(Ok(0), |row| required(row, "longest"))?;
    for delete in &found.deletes {
        run(&mut at.logged, delete).await?;
    }
    run(&mut at.logged, &format_statement(&transaction.format)).await?;
    for (change, forms) in transaction.changes.iter().zip(found.forms) {
        for form in forms {
            let statement = change.event.as_ref().and_then(|event| statement(event, form));
            let statement = statement.ok_or_else(|| {
                SqlError::Outdated(format!(
                    "a change of {}.{} has no {form:?}",
                    change.schema, change.table
                ))
            })?;
            fits(&statement, longest, &format!("{}.{}", change.schema, change.table))?;
            match run(&mut at.logged, &statement).await {
                Err(SqlError::Mysql(mysql_async::Error::Server(error)))
                    if error.code == 1062 && !found.unknown.is_empty() =>
                {
                    return Err(SqlError::Outdated(format!(
                        "{}; {}",
                        error.message,
                        examine::unknown(&found.unknown)
                    )));
                }
                done => done?,
            }
        }
    }
    Ok(())
}

/// Refuses a statement that `max_allowed_packet` does not allow. The driver would refuse it too, and then it is not known what became of it.
pub(super) fn fits(statement: &str, longest: u64, table: &str) -> Result<(), SqlError> {
    let length = statement.len();
    // The limit of the driver holds for what it sends, too.
    let longest = longest.min(ANSWER.try_into().unwrap_or(longest));
    match u64::try_from(length).unwrap_or(u64::MAX) < longest {
        true => Ok(()),
        false => Err(SqlError::Outdated(format!(
            "a row of {table} takes a statement of {length} bytes, and max_allowed_packet is {longest} (spec.mysql.config)"
        ))),
    }
}
