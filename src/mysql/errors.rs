//! Errors of MySQL that pass: they come from the moment in which a transaction was applied, not from the transaction. Some of them last until a
//! person makes room or changes a setting; then, too, the same transaction can be applied.

/// Numbers and names: MySQL 9.7 Error Message Reference.
const PASSING: [u32; 22] = [
    1021, // ER_DISK_FULL
    1026, // ER_ERROR_ON_WRITE
    1037, // ER_OUTOFMEMORY
    1038, // ER_OUT_OF_SORTMEMORY
    1041, // ER_OUT_OF_RESOURCES
    1053, // ER_SERVER_SHUTDOWN
    1114, // ER_RECORD_FILE_FULL: also when the volume is full
    1205, // ER_LOCK_WAIT_TIMEOUT
    1206, // ER_LOCK_TABLE_FULL
    1213, // ER_LOCK_DEADLOCK
    1297, // ER_GET_TEMPORARY_ERRMSG
    1317, // ER_QUERY_INTERRUPTED
    1613, // ER_XA_RBTIMEOUT
    1614, // ER_XA_RBDEADLOCK
    1637, // ER_TOO_MANY_CONCURRENT_TRXS
    1799, // ER_INNODB_ONLINE_LOG_TOO_BIG
    1878, // ER_TEMP_FILE_WRITE_FAILURE
    3015, // ER_ENGINE_OUT_OF_MEMORY
    3019, // ER_INNODB_UNDO_LOG_FULL
    3024, // ER_QUERY_TIMEOUT
    3572, // ER_LOCK_NOWAIT
    3675, // ER_DISK_FULL_NOWAIT
];

/// What the texts of errors of files and storage engines have when the volume is full (ENOSPC is 28).
const NO_SPACE: [&str; 3] = ["No space left on device", "Got error 28 ", "errno: 28 "];

/// Whether a later attempt at the same transaction may succeed although nothing was done to rows or definitions.
pub fn passes(number: u32, text: &str) -> bool {
    PASSING.binary_search(&number).is_ok() || NO_SPACE.iter().any(|words| text.contains(words))
}

/// Errors of a session, not of its statement: the login, the connection, the state of the server.
const OF_A_SESSION: [u32; 16] = [
    1040, // ER_CON_COUNT_ERROR
    1045, // ER_ACCESS_DENIED_ERROR
    1129, // ER_HOST_IS_BLOCKED
    1130, // ER_HOST_NOT_PRIVILEGED
    1158, // ER_NET_READ_ERROR
    1159, // ER_NET_READ_INTERRUPTED
    1160, // ER_NET_ERROR_ON_WRITE
    1161, // ER_NET_WRITE_INTERRUPTED
    1203, // ER_TOO_MANY_USER_CONNECTIONS
    1226, // ER_USER_LIMIT_REACHED
    1290, // ER_OPTION_PREVENTS_STATEMENT: super_read_only
    1836, // ER_READ_ONLY_MODE
    3032, // ER_SERVER_OFFLINE_MODE
    3159, // ER_SECURE_TRANSPORT_REQUIRED
    3168, // ER_SERVER_ISNT_AVAILABLE
    4031, // ER_CLIENT_INTERACTION_TIMEOUT
];

/// Whether the same statement would fail the same way in another session at another time.
pub fn is_final(number: u32, text: &str) -> bool {
    !passes(number, text) && OF_A_SESSION.binary_search(&number).is_err()
}

/// The words of a statement after which a password, or its hash, can stand.
const SECRET_FOLLOWS: [&str; 3] = ["IDENTIFIED ", "IDENTIFIED\n", "OPTIONS"];

/// What went wrong, by the text of an applier's error, which begins with the place in the binary log.
pub fn gist(text: &str) -> &str {
    let place = text.split_once("end_log_pos ");
    place
        .and_then(|(_, rest)| rest.split_once("; "))
        .map_or(text, |(_, gist)| gist)
}

/// The text of an applier's error without passwords. MySQL quotes the whole statement that failed.
pub fn without_secrets(text: &str) -> String {
    match text.find("Query: '") {
        Some(at) => format!("{}{}", &text[..at], beginning(&text[at..])),
        None => text.to_owned(),
    }
}

/// A statement up to where a password can stand in it.
pub fn beginning(statement: &str) -> String {
    let upper = statement.to_ascii_uppercase();
    let is_of_accounts = ["USER", "SERVER", "GRANT"].iter().any(|word| upper.contains(word));
    let secrets = SECRET_FOLLOWS.iter().filter_map(|word| upper.find(word));
    match secrets.min().filter(|_| is_of_accounts) {
        Some(end) => format!("{}...", &statement[..end]),
        None => statement.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{OF_A_SESSION, PASSING, beginning, gist, is_final, passes, without_secrets};

    #[test]
    fn an_error_is_told_without_its_place() {
        let place = "Worker 1 failed executing transaction 'u:7' at source log binlog.000002, end_log_pos 930; ";
        for (text, expected) in [
            (
                format!("{place}Could not execute Write_rows event on table d.t; Duplicate entry"),
                "Could not execute Write_rows event on table d.t; Duplicate entry",
            ),
            ("Got fatal error 1236".into(), "Got fatal error 1236"),
            (place.into(), ""),
        ] {
            assert_eq!(gist(&text), expected);
        }
    }

    #[test]
    fn a_lock_passes_and_a_duplicate_key_does_not() {
        assert!(PASSING.is_sorted() && OF_A_SESSION.is_sorted());
        assert!(is_final(1146, "") && is_final(1210, "") && is_final(1236, ""));
        assert!(!is_final(1205, "") && !is_final(1045, ""));
        for number in PASSING {
            assert!(passes(number, ""), "{number}");
        }
        assert!(passes(
            1030,
            "Got error 28 - 'No space left on device' from storage engine"
        ));
        for number in [
            0, 1007, 1032, 1050, 1060, 1062, 1091, 1146, 1396, 1410, 1452, 3030, 13121,
        ] {
            assert!(!passes(number, "Duplicate entry '28' for key 't.PRIMARY'"), "{number}");
        }
    }

    #[test]
    fn no_password_is_in_an_error() {
        let full =
            "Could not execute Write_rows event on table shop.user_options; Got error 28 - 'No space left on device'";
        assert_eq!(without_secrets(full), full);
        let failed = "Error 'Operation CREATE USER failed for 'u'@'%'' on query. Default database: ''. Query: '";
        assert_eq!(
            without_secrets(&format!("{failed}create user u identified with p AS '$A$''")),
            format!("{failed}create user u ...")
        );
        for (statement, expected) in [
            ("ALTER TABLE t ADD c INT COMMENT 'IDENTIFIED BY'", None),
            (
                "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (PASSWORD 'x')",
                Some("CREATE SERVER s FOREIGN DATA WRAPPER mysql ..."),
            ),
        ] {
            assert_eq!(beginning(statement), expected.unwrap_or(statement));
        }
    }
}
