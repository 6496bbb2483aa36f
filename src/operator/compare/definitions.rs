//! Definitions that stay in the server: the queries that make a hash of them. Pure.
//!
//! MySQL cannot hash what `SHOW CREATE` shows, so the hash is of columns of `information_schema`. Their texts are utf8mb3: a character beyond U+FFFF is a
//! question mark there. So what is short, and can be shown, is compared as it is shown.

use super::chunks::sum;
use crate::mysql::quote::literal;

/// Name of the column with the hash of a definition. NULL there: the server did not make one, because the text is longer than `max_allowed_packet`.
pub const HASH: &str = "hash";

/// Bytes of a definition of a routine or a view. A longer one is hashed.
const LONG: usize = 64 * 1024;

/// A procedure or a function with a long definition: `kind` is its type. No row: it is short, or there is none.
pub fn long_routine(kind: &str, schema: &str, name: &str) -> Vec<String> {
    let parameters = format!(
        "FROM information_schema.PARAMETERS WHERE SPECIFIC_SCHEMA = {} AND SPECIFIC_NAME = {} AND ROUTINE_TYPE = '{kind}'",
        literal(schema),
        literal(name)
    );
    let parameter = "SHA2(CONCAT_WS(',', ORDINAL_POSITION, IFNULL(PARAMETER_MODE, ''), HEX(IFNULL(PARAMETER_NAME, '')), \
                     SHA2(DTD_IDENTIFIER, 256), IFNULL(CHARACTER_SET_NAME, ''), IFNULL(COLLATION_NAME, '')), 256)";
    vec![
        format!(
            "SELECT SHA2(ROUTINE_DEFINITION, 256) AS {HASH}, EXTERNAL_LANGUAGE, IS_DETERMINISTIC, SQL_DATA_ACCESS, SECURITY_TYPE, SQL_MODE, \
             SHA2(ROUTINE_COMMENT, 256), DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
             FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {} AND ROUTINE_NAME = {} AND ROUTINE_TYPE = '{kind}' \
             AND LENGTH(ROUTINE_DEFINITION) + (SELECT IFNULL(SUM(LENGTH(DTD_IDENTIFIER) + IFNULL(LENGTH(PARAMETER_NAME), 0)), 0) {parameters}) \
             > {LONG}",
            literal(schema),
            literal(name)
        ),
        format!("SELECT COUNT(*), {} {parameters}", sum(parameter)),
    ]
}

/// A view with a long definition. No row: it is short, or there is none.
pub fn long_view(schema: &str, name: &str) -> Vec<String> {
    let this = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(name));
    let column = "SHA2(CONCAT_WS(',', ORDINAL_POSITION, HEX(COLUMN_NAME)), 256)";
    vec![
        format!(
            "SELECT SHA2(VIEW_DEFINITION, 256) AS {HASH}, CHECK_OPTION, DEFINER, SECURITY_TYPE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION \
             FROM information_schema.VIEWS WHERE {this} AND LENGTH(VIEW_DEFINITION) > {LONG}"
        ),
        format!(
            "SELECT COUNT(*), {} FROM information_schema.COLUMNS WHERE {this}",
            sum(column)
        ),
    ]
}

/// A trigger. `SHOW CREATE TRIGGER` shows when it was created, too, which each member has by itself.
pub fn trigger(schema: &str, name: &str) -> Vec<String> {
    vec![format!(
        "SELECT SHA2(ACTION_STATEMENT, 256) AS {HASH}, EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER, SQL_MODE, DEFINER, \
         CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
         FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} AND TRIGGER_NAME = {}",
        literal(schema),
        literal(name)
    )]
}

/// An event, without what differs by design: a replica disables it, and its start, its last run and its time zone are not always replicated.
pub fn event(schema: &str, name: &str) -> Vec<String> {
    vec![format!(
        "SELECT SHA2(EVENT_DEFINITION, 256) AS {HASH}, EVENT_TYPE, EXECUTE_AT, INTERVAL_VALUE, INTERVAL_FIELD, ENDS, ON_COMPLETION, SQL_MODE, DEFINER, \
         SHA2(EVENT_COMMENT, 256), CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
         FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {} AND EVENT_NAME = {}",
        literal(schema),
        literal(name)
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_query_asks_for_a_text_of_a_definition() {
        let queries = [
            long_routine("PROCEDURE", "shop", "p"),
            long_view("shop", "v"),
            trigger("shop", "t"),
            event("shop", "e"),
        ];
        for query in queries.concat() {
            let (columns, from) = query.split_once(" FROM ").unwrap();
            for text in ["_DEFINITION", "ACTION_STATEMENT", "_COMMENT", "DTD_IDENTIFIER"] {
                let hashed = columns.matches(&format!("{text}, 256)")).count();
                assert_eq!(columns.matches(text).count(), hashed, "{query}");
            }
            assert_eq!(
                columns.contains("SHA2("),
                columns.contains("SUM(") || columns.contains(" AS hash,"),
                "{query}"
            );
            // An aggregate of texts would be cut at group_concat_max_len.
            assert!(!query.contains("GROUP_CONCAT") && from.contains("'shop'"), "{query}");
        }
    }

    #[test]
    fn what_differs_by_design_is_left_out() {
        let queries = [trigger("shop", "t"), event("shop", "e")].concat();
        for own in ["STATUS", "STARTS", "LAST_", "CREATED", "ORIGINATOR", "TIME_ZONE"] {
            assert!(!queries.iter().any(|query| query.contains(own)), "{own}: {queries:?}");
        }
    }

    #[test]
    fn names_are_quoted() {
        let queries = [
            long_routine("FUNCTION", "a'b", r"c\"),
            long_view("a'b", r"c\"),
            trigger("a'b", r"c\"),
            event("a'b", r"c\"),
        ];
        for queries in queries {
            assert!(
                queries[0].contains(r"'a\'b'") && queries[0].contains(r"'c\\'"),
                "{queries:?}"
            );
        }
    }
}
