//! The tables `multimaster.conflicts` and `multimaster.conflict_rows`. Agents make them at every start, unlogged.
//!
//! Members of two versions share the tables (`docs/ring.md`, "Versions side by side"): columns are only added, at the end and with a default.

use crate::mysql::quote::literal;

/// The newest format of a record that this version reads. It is the default of the column `version`, so an INSERT need not name the column.
pub const VERSION: u32 = 1;

/// Statements that create the schema, the first version of the table of conflicts, and the table of images. [`ADDED`] has the later columns of the
/// first.
const CREATE: [&str; 3] = [
    "CREATE DATABASE IF NOT EXISTS multimaster CHARACTER SET utf8mb4;",
    "CREATE TABLE IF NOT EXISTS multimaster.conflicts (\
     observer CHAR(36) CHARACTER SET ascii NOT NULL COMMENT 'server UUID of the member that could not apply it', \
     gtid VARCHAR(100) CHARACTER SET ascii NOT NULL COMMENT 'the transaction', \
     member VARCHAR(63) NOT NULL COMMENT 'the member that could not apply it', \
     origin VARCHAR(63) NULL COMMENT 'the member that took it from a client', \
     error INT UNSIGNED NOT NULL, message TEXT NOT NULL, \
     committed_at DATETIME(6) NULL COMMENT 'UTC, at the origin', seen_at DATETIME(6) NOT NULL COMMENT 'UTC', \
     stage VARCHAR(16) CHARACTER SET ascii NOT NULL, changes JSON NOT NULL COMMENT 'rows: key, mine, theirs', \
     for_a_person TEXT NULL COMMENT 'why nobody else can settle it', winner TINYINT UNSIGNED NULL COMMENT 'ordinal', \
     known LONGTEXT NOT NULL COMMENT 'gtid_executed of the observer', kept_file VARCHAR(255) NULL, kept_offset BIGINT UNSIGNED NULL, \
     settled_at DATETIME(6) NULL COMMENT 'UTC', PRIMARY KEY (observer, gtid), KEY (stage), KEY (settled_at)) ENGINE=InnoDB;",
    "CREATE TABLE IF NOT EXISTS multimaster.conflict_rows (\
     observer CHAR(36) CHARACTER SET ascii NOT NULL COMMENT 'as in conflicts', \
     gtid VARCHAR(100) CHARACTER SET ascii NOT NULL COMMENT 'as in conflicts', \
     sha256 CHAR(64) CHARACTER SET ascii NOT NULL COMMENT 'of the image, as in changes', \
     piece INT UNSIGNED NOT NULL COMMENT 'pieces in this order are the image', \
     image LONGTEXT NOT NULL COMMENT 'JSON', PRIMARY KEY (observer, gtid, sha256, piece)) ENGINE=InnoDB;",
];

/// Names and definitions of the columns that were added later, oldest first.
const ADDED: [(&str, &str); 1] = [(
    "version",
    "INT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'format of the record'",
)];

/// Lines of an init file that make the table and add the columns that it lacks. A table that lacks none is not altered.
pub fn create() -> Vec<String> {
    let mut lines: Vec<String> = CREATE.map(str::to_owned).into();
    for (column, definition) in ADDED {
        // MySQL has no ADD COLUMN IF NOT EXISTS.
        let alter = format!("ALTER TABLE multimaster.conflicts ADD COLUMN {column} {definition}");
        lines.extend([
            format!(
                "SET @statement = IF(EXISTS (SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'multimaster' \
                 AND TABLE_NAME = 'conflicts' AND COLUMN_NAME = {}), 'DO 0', {});",
                literal(column),
                literal(&alter)
            ),
            "PREPARE add_column FROM @statement;".into(),
            "EXECUTE add_column;".into(),
            "DEALLOCATE PREPARE add_column;".into(),
        ]);
    }
    lines
}
