//! The password of an account that two members created: decided like a row. The record has the row of `mysql.user` by its key, with a digest in
//! place of the password.

use mysql_async::{Conn, Row};
use serde_json::{Value, json};

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::definition::Definition;
use crate::mysql::goal::Object;
use crate::mysql::io::connection::{SqlError, ask, column, required, run};
use crate::mysql::quote::literal;
use crate::mysql::rows::RowKey;
use crate::mysql::transaction::Cell;

use super::session::Session;

/// Digits of the digest of a password hash.
const DIGITS: usize = 12;

/// MySQL's errors that say that an object is not there. Names: MySQL 9.7 Error Message Reference.
const NOT_THERE: [u16; 8] = [
    1049, // ER_BAD_DB_ERROR
    1141, // ER_NONEXISTING_GRANT
    1146, // ER_NO_SUCH_TABLE
    1305, // ER_SP_DOES_NOT_EXIST
    1347, // ER_WRONG_OBJECT: a table in place of a view
    1360, // ER_TRG_DOES_NOT_EXIST
    1396, // ER_CANNOT_USER
    1539, // ER_EVENT_DOES_NOT_EXIST
];

/// An answer, or nothing where MySQL says that there is no such object.
pub(super) fn present(answer: Result<Vec<Row>, SqlError>) -> Result<Vec<Row>, SqlError> {
    match answer {
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if NOT_THERE.contains(&error.code) => Ok(Vec::new()),
        answer => answer,
    }
}

/// Whether a row of a record is an account.
pub(super) fn is_account(key: &RowKey) -> bool {
    key.schema == "mysql" && key.table == "user"
}

fn key(user: &str, host: &str) -> RowKey {
    let cell = |text: &str| Cell::Bytes(text.bytes().map(|byte| format!("{byte:02X}")).collect());
    RowKey {
        schema: "mysql".into(),
        table: "user".into(),
        columns: vec![("Host".into(), cell(host)), ("User".into(), cell(user))],
    }
}

/// User and host of an account that a record names.
fn account(key: &RowKey) -> Result<(String, String), SqlError> {
    let text = |name: &str| {
        let (_, cell) = key.columns.iter().find(|(column, _)| column == name)?;
        let Cell::Bytes(digits) = cell else { return None };
        let bytes = digits
            .as_bytes()
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        String::from_utf8(bytes.collect::<Option<_>>()?).ok()
    };
    let named = text("User").zip(text("Host"));
    named.ok_or_else(|| SqlError::Outdated(format!("the record names no account: {key}")))
}

/// The definition of an account without its password; `None`: there is no such account. Rights are no part of it: `CREATE USER` gives none.
pub(super) async fn definition(conn: &mut Conn, user: &str, host: &str) -> Result<Option<Definition>, SqlError> {
    let account = Object::Account(user.into(), host.into());
    let Some(row) = present(ask(conn, &account.show()).await)?.into_iter().next() else {
        return Ok(None);
    };
    let name = row.columns_ref().first().map(|column| column.name_str().into_owned());
    let text: String = required(&row, &name.unwrap_or_default())?;
    Ok(Some(Definition::plain(&without_hashes(&text), &[])))
}

/// The text without what follows each `AS`: a hash in hexadecimal digits, or one that has only printable characters, in quotes.
fn without_hashes(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(" AS ") {
        kept.push_str(before);
        rest = match after.strip_prefix('\'') {
            Some(quoted) => {
                let mut is_escaped = false;
                let end = quoted.find(|c: char| {
                    let ends = c == '\'' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    ends
                });
                end.map_or("", |end| &quoted[end + 1..])
            }
            None => after.trim_start_matches(|c: char| c.is_ascii_alphanumeric()),
        };
    }
    kept + rest
}

/// The account as a row in conflict, if its password is not the same on both sides.
pub(super) async fn password(
    here: &mut Conn,
    there: &mut Conn,
    user: &str,
    host: &str,
) -> Result<Option<ConflictingRow>, SqlError> {
    let key = key(user, host);
    let (mine, theirs) = (image(here, &key).await?, image(there, &key).await?);
    Ok((mine != theirs).then(|| ConflictingRow {
        id: key.id(),
        key,
        mine,
        theirs,
    }))
}

/// The account for a record: plugin, and a digest of the password's hash, which is salted. `None`: there is no such account.
pub(super) async fn image(conn: &mut Conn, key: &RowKey) -> Result<Option<Value>, SqlError> {
    let digest = format!("plugin, LEFT(SHA2(authentication_string, 256), {DIGITS}) AS digest");
    let Some(row) = row(conn, key, &digest).await? else {
        return Ok(None);
    };
    let plugin: String = required(&row, "plugin")?;
    Ok(Some(
        json!({"plugin": plugin, "password": column::<String>(&row, "digest")}),
    ))
}

/// Columns of the row of `mysql.user`; `None`: there is no such account.
async fn row(conn: &mut Conn, key: &RowKey, columns: &str) -> Result<Option<Row>, SqlError> {
    let (user, host) = account(key)?;
    let query = format!(
        "SELECT {columns} FROM mysql.user WHERE User = {} AND Host = {}",
        literal(&user),
        literal(&host)
    );
    Ok(ask(conn, &query).await?.into_iter().next())
}

/// What gives accounts the passwords that they have at this server; `None`: one of them is not there.
async fn alter(conn: &mut Conn, rows: &[ConflictingRow]) -> Result<Option<String>, SqlError> {
    let (mut clauses, mut expired) = (Vec::new(), true);
    let columns = "plugin, HEX(authentication_string) AS hash, password_expired = 'Y' AS expired";
    for ConflictingRow { key, .. } in rows.iter().filter(|row| is_account(&row.key)) {
        let Some(found) = row(conn, key, columns).await? else {
            return Ok(None);
        };
        let (user, host) = account(key)?;
        let plugin: String = required(&found, "plugin")?;
        let hash: String = required(&found, "hash")?;
        let hash = if hash.is_empty() {
            "''".to_owned()
        } else {
            format!("0x{hash}")
        };
        // A new password would end it. The clause holds for all accounts of the statement.
        expired &= required::<bool>(&found, "expired")?;
        clauses.push(format!(
            "{} IDENTIFIED WITH {} AS {hash}",
            Object::Account(user, host),
            literal(&plugin)
        ));
    }
    let expire = if expired { " PASSWORD EXPIRE" } else { "" };
    // A client may have dropped the account elsewhere.
    let alter = || format!("ALTER USER IF EXISTS {}{expire}", clauses.join(", "));
    Ok((!clauses.is_empty()).then(alter))
}

/// Takes the creation of accounts that exist here: under its GTID they get the passwords that they have at the upstream.
pub(super) async fn take(
    at: &mut Session,
    source: &mut Conn,
    gtid: &str,
    rows: &[ConflictingRow],
) -> Result<(), SqlError> {
    let alter = alter(source, rows).await?;
    let alter =
        alter.ok_or_else(|| SqlError::Interrupted("an account was dropped at the upstream meanwhile".into()))?;
    at.under_gtid(gtid, &[&alter]).await
}

/// Writes the passwords that the accounts have here to the binary log again, for every member.
pub(super) async fn reassert(at: &mut Session, rows: &[ConflictingRow]) -> Result<(), SqlError> {
    match alter(&mut at.aside, rows).await? {
        Some(alter) => run(&mut at.logged, &alter).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{account, is_account, key, without_hashes};

    #[test]
    fn a_record_names_an_account() {
        let key = key("größe", "10.%");
        assert!(is_account(&key));
        assert_eq!(account(&key).unwrap(), ("größe".to_owned(), "10.%".to_owned()));
        assert_eq!(key.to_string(), "mysql.user (Host=10.%, User=größe)");
    }

    #[test]
    fn a_definition_has_no_hash() {
        for hash in ["0x24412430", "'$A$005$a\\'b'", "''"] {
            let text = format!(
                "CREATE USER `u`@`%` IDENTIFIED WITH 'p' AS {hash} AND IDENTIFIED WITH 'q' AS {hash} REQUIRE NONE"
            );
            assert_eq!(
                without_hashes(&text),
                "CREATE USER `u`@`%` IDENTIFIED WITH 'p' AND IDENTIFIED WITH 'q' REQUIRE NONE"
            );
        }
        assert_eq!(without_hashes("CREATE USER `u`@`%`"), "CREATE USER `u`@`%`");
    }
}
