//! Foreign keys that reference what a transaction changes.

use mysql_async::Conn;

use crate::mysql::io::connection::{SqlError, ask, required};
use crate::mysql::quote::literal;

/// Foreign keys that a person is told of.
const MOST_TOLD: usize = 3;

/// Schema and name of a table.
pub(super) type TableName = (String, String);

/// A foreign key, whatever its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The table that it references, `schema.name`.
    pub(super) parent: String,
    /// The table that it belongs to, `schema.name`.
    pub(super) child: String,
    /// Its name.
    pub(super) name: String,
}

/// Every foreign key, of any schema, that references one of these tables; a table may reference itself.
pub(super) async fn of(conn: &mut Conn, tables: &[TableName]) -> Result<Vec<Reference>, SqlError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = tables
        .iter()
        .map(|(schema, table)| format!("({}, {})", literal(schema), literal(table)))
        .collect();
    let query = format!(
        "SELECT CONCAT(UNIQUE_CONSTRAINT_SCHEMA, '.', REFERENCED_TABLE_NAME) AS parent, CONCAT(CONSTRAINT_SCHEMA, '.', TABLE_NAME) AS child, \
         CONSTRAINT_NAME AS name FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE (UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME) IN ({}) ORDER BY parent, child, name",
        names.join(", ")
    );
    let rows = ask(conn, &query).await?;
    rows.iter()
        .map(|row| {
            Ok(Reference {
                parent: required(row, "parent")?,
                child: required(row, "child")?,
                name: required(row, "name")?,
            })
        })
        .collect()
}

/// Why a transaction that changes referenced tables is not taken; `None` where nothing references them.
///
/// With `replica_exec_mode=IDEMPOTENT` a row of a referenced table that is in the way is replaced by DELETE and INSERT, logged under the
/// transaction's own GTID with foreign keys checked (MySQL 9.7.4). The members behind carry out the foreign key's action: children go that
/// nobody deleted.
pub(super) fn why_not_taken(references: &[Reference]) -> Option<String> {
    let told: Vec<String> = references
        .iter()
        .take(MOST_TOLD)
        .map(|it| format!("{} is referenced by {} (foreign key {})", it.parent, it.child, it.name))
        .collect();
    let more = match references.len().saturating_sub(told.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!told.is_empty()).then(|| {
        format!(
            "it changes a table that a foreign key references, and taking it could delete or change the referencing rows at other members: {}{more}",
            told.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Reference, why_not_taken};

    #[test]
    fn the_first_foreign_keys_are_named_and_the_others_counted() {
        let reference = |number: usize| Reference {
            parent: "shop.customer".into(),
            child: format!("billing.t{number}"),
            name: format!("fk{number}"),
        };
        assert_eq!(why_not_taken(&[]), None);
        let why = why_not_taken(&[reference(1)]).unwrap();
        assert!(
            why.ends_with("shop.customer is referenced by billing.t1 (foreign key fk1)"),
            "{why}"
        );
        let many: Vec<Reference> = (0..50).map(reference).collect();
        let why = why_not_taken(&many).unwrap();
        assert!(why.ends_with("billing.t2 (foreign key fk2) and 47 more"), "{why}");
    }
}
