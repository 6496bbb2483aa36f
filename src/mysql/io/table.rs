//! What a server says of a table.

use mysql_async::Conn;

use super::connection::{SqlError, ask, column};
use crate::mysql::quote::literal;
use crate::mysql::rows::{Column, Table};

/// Asks a server.
///
/// # Errors
/// [`SqlError`]; [`SqlError::Outdated`] when there is no such table.
pub async fn read(conn: &mut Conn, schema: &str, name: &str) -> Result<Table, SqlError> {
    let of = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(name));
    let query = format!(
        "SELECT COLUMN_NAME AS name, DATA_TYPE AS type, CHARACTER_SET_NAME AS charset, GENERATION_EXPRESSION <> '' AS made \
         FROM information_schema.COLUMNS WHERE {of} ORDER BY ORDINAL_POSITION"
    );
    let columns: Vec<Column> = ask(conn, &query)
        .await?
        .iter()
        .map(|row| Column {
            name: column(row, "name").unwrap_or_default(),
            data_type: column::<String>(row, "type").unwrap_or_default().to_lowercase(),
            character_set: column(row, "charset"),
            generated: column::<i64>(row, "made") == Some(1),
        })
        .collect();
    if columns.is_empty() {
        return Err(SqlError::Outdated(format!("there is no table {schema}.{name}")));
    }
    let query = format!(
        "SELECT INDEX_NAME AS name, GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX SEPARATOR '/') AS columns \
         FROM information_schema.STATISTICS WHERE {of} AND NON_UNIQUE = 0 GROUP BY INDEX_NAME \
         HAVING COUNT(COLUMN_NAME) = COUNT(*) AND COUNT(SUB_PART) = 0 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME"
    );
    let indexes = ask(conn, &query).await?;
    let has_primary_key = indexes.first().and_then(|row| column::<String>(row, "name")).as_deref() == Some("PRIMARY");
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let unique = indexes
        .iter()
        .filter_map(|row| column::<String>(row, "columns")?.split('/').map(place).collect())
        .collect();
    Ok(Table {
        schema: schema.into(),
        name: name.into(),
        columns,
        unique,
        has_primary_key,
    })
}
