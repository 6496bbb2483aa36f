//! The objects that are compared: definitions, accounts, and chunks of rows; how each is read from one member.

use std::collections::BTreeSet;
use std::sync::Arc;

use mysql_async::{Conn, Row, Value};

use super::chunks::{Chunk, Key, Table};
use super::columns::Column;
use super::definitions::{self, HASH};
use crate::mysql::io::connection::{SqlError, rows, within};
use crate::mysql::quote::{identifier, literal};
use crate::names::accounts;

use super::error::{READ_DEADLINE, ReadError};

/// Databases that are each server's own.
const SYSTEM_SCHEMAS: &str = "'mysql', 'sys', 'information_schema', 'performance_schema', 'multimaster'";
/// MySQL's errors for an object that does not exist: 1049 database, 1141 and 1396 account, 1146 table or view, 1305 routine.
const ABSENT: [u16; 5] = [1049, 1141, 1146, 1305, 1396];

/// An object that should be the same on all members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A database: its name and default collation.
    Database(String),
    /// A table's definition. Its text is read: columns and partitions have a largest number, and an answer has its limit all the same.
    Table(String, String),
    /// A view's definition.
    View(String, String),
    /// A procedure.
    Procedure(String, String),
    /// A stored function.
    Function(String, String),
    /// A trigger.
    Trigger(String, String),
    /// An event.
    Event(String, String),
    /// An account: its definition and its grants.
    Account {
        /// Its user name.
        user: String,
        /// Its host.
        host: String,
        /// Whether its password is replicated, so that its hash is the same on all members.
        password: bool,
    },
    /// Rows.
    Rows(Chunk),
}

impl Object {
    /// Its name, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Database(name) => format!("database {name}"),
            Self::Table(schema, name) => format!("table {schema}.{name}"),
            Self::View(schema, name) => format!("view {schema}.{name}"),
            Self::Procedure(schema, name) => format!("procedure {schema}.{name}"),
            Self::Function(schema, name) => format!("function {schema}.{name}"),
            Self::Trigger(schema, name) => format!("trigger {schema}.{name}"),
            Self::Event(schema, name) => format!("event {schema}.{name}"),
            Self::Account { user, host, .. } => format!("account '{user}'@'{host}'"),
            Self::Rows(chunk) => format!("table {}.{}", chunk.table.schema, chunk.table.name),
        }
    }

    /// Queries for a definition that stays in the server. The first has no row if the member shows the definition, or does not have it.
    fn hashes(&self) -> Vec<String> {
        match self {
            Self::View(schema, name) => definitions::long_view(schema, name),
            Self::Procedure(schema, name) => definitions::long_routine("PROCEDURE", schema, name),
            Self::Function(schema, name) => definitions::long_routine("FUNCTION", schema, name),
            Self::Trigger(schema, name) => definitions::trigger(schema, name),
            Self::Event(schema, name) => definitions::event(schema, name),
            Self::Database(_) | Self::Table(..) | Self::Account { .. } | Self::Rows(_) => Vec::new(),
        }
    }

    /// Statements that show the whole object.
    fn statements(&self) -> Vec<String> {
        let show = |what: &str, schema: &str, name: &str| {
            vec![format!(
                "SHOW CREATE {what} {}.{}",
                identifier(schema),
                identifier(name)
            )]
        };
        match self {
            Self::Database(name) => vec![format!("SHOW CREATE DATABASE {}", identifier(name))],
            Self::Table(schema, name) => show("TABLE", schema, name),
            Self::View(schema, name) => show("VIEW", schema, name),
            Self::Procedure(schema, name) => show("PROCEDURE", schema, name),
            Self::Function(schema, name) => show("FUNCTION", schema, name),
            Self::Trigger(..) | Self::Event(..) => Vec::new(),
            Self::Account { user, host, password } => {
                let account = format!("{}@{}", literal(user), literal(host));
                let definition = password.then(|| format!("SHOW CREATE USER {account}"));
                let grants = format!("SHOW GRANTS FOR {account}");
                definition.into_iter().chain([grants]).collect()
            }
            Self::Rows(chunk) => vec![chunk.checksum()],
        }
    }

    /// One member's text of the object: equal texts are equal objects. `None`: the member does not have it.
    ///
    /// # Errors
    /// [`ReadError::TooLong`] when a row or a definition is too long to be hashed; else [`SqlError`]. After [`SqlError::TooLong`] the connection cannot be
    /// used any more.
    pub async fn read(&self, conn: &mut Conn) -> Result<Option<String>, ReadError> {
        if let Some(hashes) = self.hashed(conn).await? {
            return Ok(Some(hashes));
        }
        let statements = self.statements();
        if statements.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        for statement in statements {
            match within(READ_DEADLINE, rows(conn, &statement)).await {
                Ok(rows) => text.push_str(&lines(rows)?),
                Err(SqlError::Mysql(mysql_async::Error::Server(error))) if ABSENT.contains(&error.code) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self {
            Self::Table(..) => text = without_auto_increment(&text),
            Self::Rows(_) if counts(&text).is_none() => {
                return Err(ReadError::TooLong("a row is longer than max_allowed_packet".into()));
            }
            _ => {}
        }
        Ok(Some(text))
    }

    async fn hashed(&self, conn: &mut Conn) -> Result<Option<String>, ReadError> {
        let mut text = String::new();
        for query in self.hashes() {
            let rows = within(READ_DEADLINE, rows(conn, &query)).await?;
            text.push_str(&lines(rows)?);
            if text.is_empty() {
                break;
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Number of rows in a checksum; `None` if some of them were not hashed.
pub fn counts(checksum: &str) -> Option<u64> {
    let mut cells = checksum.split('\t');
    let (rows, hashed) = (cells.next()?, cells.next()?);
    (rows == hashed).then(|| rows.parse().ok()).flatten()
}

/// Rows as text. NULL in place of a hash or of a definition is no text that could be the same at another member.
fn lines(rows: Vec<Row>) -> Result<String, ReadError> {
    let mut text = String::new();
    for row in rows {
        let columns = row.columns_ref().iter().enumerate();
        let is_null = |at: usize| matches!(row.as_ref(at), Some(Value::NULL));
        if columns
            .into_iter()
            .any(|(at, column)| is_whole(&column.name_str()) && is_null(at))
        {
            let why = "its definition is longer than max_allowed_packet, or the server does not show it";
            return Err(ReadError::TooLong(why.into()));
        }
        text.push_str(&line(row));
    }
    Ok(text)
}

/// Whether a column has a definition, as `SHOW CREATE` names it, or the hash of one.
fn is_whole(column: &str) -> bool {
    column == HASH || column.starts_with("Create ")
}

fn line(row: Row) -> String {
    let cells: Vec<String> = row
        .unwrap()
        .into_iter()
        .map(|cell| match cell {
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.as_sql(true),
        })
        .collect();
    format!("{}\n", cells.join("\t"))
}

/// The value of the AUTO_INCREMENT counter differs by design: members take their values in turns.
fn without_auto_increment(definition: &str) -> String {
    let options = definition.rfind("\n) ").unwrap_or_default();
    let Some(begin) = definition[options..].find(" AUTO_INCREMENT=").map(|at| options + at) else {
        return definition.into();
    };
    let digits = begin + " AUTO_INCREMENT=".len();
    let end = definition[digits..]
        .find(|c: char| !c.is_ascii_digit())
        .map_or(definition.len(), |at| digits + at);
    format!("{}{}", &definition[..begin], &definition[end..])
}

/// All definitions and accounts that one member has, without those of the system. `app` is the account whose password every agent sets.
///
/// # Errors
/// [`SqlError`].
pub async fn list(conn: &mut Conn, app: Option<&str>) -> Result<BTreeSet<Object>, SqlError> {
    let query = format!(
        "SELECT 'database', SCHEMA_NAME, '' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN ({SYSTEM_SCHEMAS}) \
         UNION ALL SELECT LOWER(TABLE_TYPE), TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN ({SYSTEM_SCHEMAS}) \
         UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN ({SYSTEM_SCHEMAS}) \
         UNION ALL SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN ({SYSTEM_SCHEMAS}) \
         UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA NOT IN ({SYSTEM_SCHEMAS}) \
         UNION ALL SELECT 'account', User, Host FROM mysql.user"
    );
    let mut objects = BTreeSet::new();
    for row in within(READ_DEADLINE, rows(conn, &query)).await? {
        let (kind, first, second): (String, String, String) =
            mysql_async::from_row_opt(row).map_err(|error| SqlError::Outdated(error.to_string()))?;
        let object = match kind.as_str() {
            "database" => Object::Database(first),
            "base table" => Object::Table(first, second),
            "view" => Object::View(first, second),
            "procedure" => Object::Procedure(first, second),
            "function" => Object::Function(first, second),
            "trigger" => Object::Trigger(first, second),
            "event" => Object::Event(first, second),
            "account" if is_ours(&first, &second) => continue,
            "account" => Object::Account {
                password: !(app == Some(first.as_str()) && second == "%"),
                user: first,
                host: second,
            },
            other => {
                tracing::debug!(kind = other, "not compared");
                continue;
            }
        };
        objects.insert(object);
    }
    Ok(objects)
}

/// Whether the member shows the operator its triggers and events. An agent of an earlier version does not give the account the privileges for that, and
/// without them there seem to be none.
///
/// # Errors
/// [`SqlError`].
pub async fn shows_triggers(conn: &mut Conn) -> Result<bool, SqlError> {
    let query = format!(
        "SELECT 1 FROM mysql.user WHERE User = {} AND Host = '%' AND Trigger_priv = 'Y' AND Event_priv = 'Y'",
        literal(accounts::OPERATOR)
    );
    Ok(!within(READ_DEADLINE, rows(conn, &query)).await?.is_empty())
}

/// Accounts that mysqld makes for itself, or that every agent sets at every start, each with a salt of its own.
fn is_ours(user: &str, host: &str) -> bool {
    user.starts_with("mysql.")
        || user.starts_with("multimaster_")
        || user == accounts::ROOT && matches!(host, "localhost" | "%")
}

/// Reads what a comparison of a table's rows needs.
///
/// # Errors
/// [`SqlError`].
pub async fn describe(conn: &mut Conn, schema: &str, name: &str) -> Result<Table, SqlError> {
    let (schema_is, name_is) = (literal(schema), literal(name));
    let columns = format!(
        "SELECT c.COLUMN_NAME, c.DATA_TYPE, c.EXTRA LIKE '%VIRTUAL GENERATED%', s.SEQ_IN_INDEX, t.AVG_ROW_LENGTH \
         FROM information_schema.COLUMNS c \
         JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
         LEFT JOIN information_schema.STATISTICS s ON s.TABLE_SCHEMA = c.TABLE_SCHEMA AND s.TABLE_NAME = c.TABLE_NAME \
         AND s.COLUMN_NAME = c.COLUMN_NAME AND s.INDEX_NAME = 'PRIMARY' \
         WHERE c.TABLE_SCHEMA = {schema_is} AND c.TABLE_NAME = {name_is} ORDER BY c.ORDINAL_POSITION"
    );
    let mut table = Table {
        schema: schema.into(),
        name: name.into(),
        columns: Vec::new(),
        key: Vec::new(),
        row_bytes: 0,
    };
    let mut key = Vec::new();
    for row in within(READ_DEADLINE, rows(conn, &columns)).await? {
        let (name, data_type, is_virtual, in_key, row_bytes): (String, String, bool, Option<u32>, Option<u64>) =
            mysql_async::from_row_opt(row).map_err(|error| SqlError::Outdated(error.to_string()))?;
        let column = Column::new(name, &data_type);
        if let Some(place) = in_key {
            key.push((place, column.clone()));
        }
        // Its values follow from the other columns, and reading them may be slow.
        if !is_virtual {
            table.columns.push(column);
        }
        table.row_bytes = row_bytes.unwrap_or_default();
    }
    key.sort();
    table.key = key.into_iter().map(|(_, column)| column).collect();
    Ok(table)
}

/// The key of the first row after this many rows of a chunk on one member; `None` if the member has fewer rows.
///
/// # Errors
/// [`SqlError`].
pub async fn key_after(conn: &mut Conn, chunk: &Chunk, rows_before: u64) -> Result<Option<Key>, SqlError> {
    let found = within(READ_DEADLINE, rows(conn, &chunk.key_after(rows_before))).await?;
    let Some(row) = found.into_iter().next() else {
        return Ok(None);
    };
    let cell =
        |cell| mysql_async::from_value_opt::<String>(cell).map_err(|error| SqlError::Outdated(error.to_string()));
    row.unwrap().into_iter().map(cell).collect::<Result<Key, _>>().map(Some)
}

/// The whole of a table, as one chunk.
pub fn whole(table: Arc<Table>) -> Chunk {
    Chunk {
        table,
        after: None,
        upto: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_counter_stands_is_no_difference() {
        let definition = "t\tCREATE TABLE `t` (\n  `id` int COMMENT ' AUTO_INCREMENT=1',\n) ENGINE=InnoDB AUTO_INCREMENT=12 COMMENT=' AUTO_INCREMENT=3'\n";
        assert_eq!(
            without_auto_increment(definition),
            "t\tCREATE TABLE `t` (\n  `id` int COMMENT ' AUTO_INCREMENT=1',\n) ENGINE=InnoDB COMMENT=' AUTO_INCREMENT=3'\n"
        );
        assert_eq!(without_auto_increment("CREATE TABLE"), "CREATE TABLE");
    }

    #[test]
    fn rows_that_were_not_hashed_are_no_checksum() {
        assert_eq!(counts("0\t0\tNULL\n"), Some(0));
        assert_eq!(counts("12\t12\t99\n"), Some(12));
        assert_eq!(counts("12\t11\t99\n"), None);
    }

    #[test]
    fn no_definition_is_not_the_same_as_no_definition() {
        for column in [
            "hash",
            "Create Procedure",
            "Create Function",
            "Create View",
            "Create Table",
        ] {
            assert!(is_whole(column), "{column}");
        }
        // NULL has a meaning there.
        for column in ["EXECUTE_AT", "ENDS", "SUM(...)", "Created", "sql_mode"] {
            assert!(!is_whole(column), "{column}");
        }
    }

    #[test]
    fn accounts_that_agents_set_are_left_out() {
        for (user, host, ours) in [
            ("mysql.sys", "localhost", true),
            ("multimaster_agent", "%", true),
            ("root", "%", true),
            ("root", "10.%", false),
            ("bob", "%", false),
        ] {
            assert_eq!(is_ours(user, host), ours, "{user}@{host}");
        }
    }
}
