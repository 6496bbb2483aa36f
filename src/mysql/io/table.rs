//! Reads the definition of a table from a server.

use mysql_async::Conn;

use super::connection::{SqlError, ask, optional, required};
use crate::mysql::column::Column;
use crate::mysql::quote::literal;
use crate::mysql::rows::{Part, RowKey, Table, Unique};
use crate::mysql::transaction::Cell;

/// Reads a table's columns and unique indexes.
///
/// # Errors
/// [`SqlError::Outdated`] when there is no such table, or a view in its place, which could call functions with the rights of this session; [`SqlError::Unreadable`] when its definition makes no sense, else as [`ask`].
pub async fn read(conn: &mut Conn, schema: &str, name: &str) -> Result<Table, SqlError> {
    let of = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(name));
    let query = format!("SELECT TABLE_TYPE AS type FROM information_schema.TABLES WHERE {of}");
    match ask(conn, &query)
        .await?
        .first()
        .map(|row| required::<String>(row, "type"))
        .transpose()?
        .as_deref()
    {
        Some("BASE TABLE") => {}
        Some(_) => return Err(SqlError::Outdated(format!("{schema}.{name} is a view"))),
        None => return Err(SqlError::Outdated(format!("there is no table {schema}.{name}"))),
    }
    let query = format!(
        "SELECT COLUMN_NAME AS name, DATA_TYPE AS type, CAST(COALESCE(CHARACTER_OCTET_LENGTH, 0) AS UNSIGNED) AS octets, \
         COALESCE(DATETIME_PRECISION, 0) AS fraction, CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, \
         COLUMN_TYPE LIKE '%unsigned%' AS is_unsigned, GENERATION_EXPRESSION <> '' AS made FROM information_schema.COLUMNS WHERE {of} ORDER BY ORDINAL_POSITION"
    );
    let rows = ask(conn, &query).await?;
    let columns = rows.iter().map(|row| {
        Ok(Column {
            name: required(row, "name")?,
            data_type: required::<String>(row, "type")?.to_lowercase(),
            octets: required(row, "octets")?,
            fraction: required(row, "fraction")?,
            character_set: optional(row, "charset")?,
            collation: optional(row, "collation")?,
            unsigned: required(row, "is_unsigned")?,
            generated: required(row, "made")?,
        })
    });
    let columns = columns.collect::<Result<Vec<_>, SqlError>>()?;
    let query = format!(
        "SELECT INDEX_NAME AS name, COLUMN_NAME AS part, SUB_PART AS prefix, EXPRESSION AS expression \
         FROM information_schema.STATISTICS WHERE {of} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX"
    );
    let mut unique: Vec<Unique> = Vec::new();
    for row in ask(conn, &query).await? {
        let index: String = required(&row, "name")?;
        let part = match optional::<String>(&row, "part")? {
            Some(name) => {
                let place = columns.iter().position(|column| column.name == name);
                let place =
                    place.ok_or_else(|| SqlError::Unreadable(format!("index {index} is over no column {name}")))?;
                match optional(&row, "prefix")? {
                    Some(length) => Part::Prefix(place, length),
                    None => Part::Column(place),
                }
            }
            None => Part::Expression(unescaped(&required::<String>(&row, "expression")?)),
        };
        match unique.last_mut().filter(|last| last.name == index) {
            Some(last) => last.parts.push(part),
            None => unique.push(Unique {
                name: index,
                parts: vec![part],
            }),
        }
    }
    let primary = unique.iter().position(|index| index.name == "PRIMARY");
    Ok(Table {
        schema: schema.into(),
        name: name.into(),
        columns,
        primary: primary.map(|place| unique.remove(place)),
        unique,
    })
}

/// Keys that one SELECT computes the weights of.
const AT_ONCE: usize = 200;

/// The same keys in a form in which two keys are equal if they are of one row: texts that are equal to the collation of their column, `a` and `A`
/// for example, become their weights.
///
/// # Errors
/// [`SqlError::Outdated`] when a key is not one of this table, else as [`ask`].
pub async fn identities(conn: &mut Conn, table: &Table, keys: &[&RowKey]) -> Result<Vec<RowKey>, SqlError> {
    let mut identities: Vec<RowKey> = keys.iter().map(|key| (*key).clone()).collect();
    for chunk in identities.chunks_mut(AT_ONCE) {
        let mut selects = Vec::new();
        for (number, key) in chunk.iter().enumerate() {
            for (place, weights) in table.weights(key).map_err(SqlError::Outdated)?.into_iter().enumerate() {
                selects.extend(
                    weights.map(|weights| format!("SELECT {number} AS number, {place} AS place, {weights} AS weights")),
                );
            }
        }
        if selects.is_empty() {
            continue;
        }
        for row in ask(conn, &selects.join(" UNION ALL ")).await? {
            let (number, place): (usize, usize) = (required(&row, "number")?, required(&row, "place")?);
            let column = chunk.get_mut(number).and_then(|key| key.columns.get_mut(place));
            let (_, cell) = column.ok_or_else(|| SqlError::Unreadable("weights of no key".into()))?;
            *cell = Cell::Bytes(required(&row, "weights")?);
        }
    }
    Ok(identities)
}

/// An expression as the server computes it: `information_schema.STATISTICS` has it with a backslash before quotes and backslashes.
fn unescaped(expression: &str) -> String {
    let mut chars = expression.chars();
    let mut text = String::with_capacity(expression.len());
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => chars.next().unwrap_or(c),
            c => c,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn an_expression_is_as_the_server_computes_it() {
        assert_eq!(unescaped(r"concat(`a`,_utf8mb4\'\\\'\')"), r"concat(`a`,_utf8mb4'\'')");
        assert_eq!(unescaped("lower(`a`)"), "lower(`a`)");
    }
}
