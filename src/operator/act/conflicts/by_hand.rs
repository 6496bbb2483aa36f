//! What a person is told who has to get an applier past a transaction: `docs/ring.md`, "By hand".

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::quote::literal;

/// Rows that a person is told what to do about.
const MOST_TOLD: usize = 3;
/// Bytes of a statement that is told: a condition has an end.
const LONGEST: usize = 400;

/// Rows that keep a transaction from being applied.
pub(super) struct InTheWay {
    /// For the record.
    pub(super) rows: Vec<ConflictingRow>,
    /// What makes way.
    pub(super) mending: Vec<Mending>,
}

/// What makes way for one row of a transaction.
pub(super) enum Mending {
    /// This statement: the row that it inserts is there.
    Delete(String),
    /// A row with this key: it changes or deletes it, and it is not there.
    Insert(String),
    /// Another value in the unique index that this row and the transaction's exclude each other by.
    Change(String),
}

impl InTheWay {
    /// The statements that get the applier past the transaction, without a cascade.
    pub(super) fn way_out(&self, member: &str, channel: &str, is_fenced: bool) -> String {
        let (mut logged, mut unlogged) = (Vec::new(), Vec::new());
        if is_fenced {
            logged.push("set spec.paused to true; SET GLOBAL super_read_only = OFF".to_owned());
        }
        let mut told = 0;
        for mending in &self.mending {
            let (statements, statement) = match mending {
                Mending::Delete(statement) => (&mut unlogged, statement.clone()),
                Mending::Insert(key) => (&mut unlogged, format!("INSERT the row {key}")),
                Mending::Change(key) => (&mut logged, format!("UPDATE the unique value of the row {key}")),
            };
            // Half a statement would be another one.
            if told < MOST_TOLD && statement.len() <= LONGEST {
                statements.push(statement);
                told += 1;
            }
        }
        if told < self.mending.len() {
            let more = self.mending.len() - told;
            unlogged.push(format!(
                "make way for {more} more rows in the table multimaster.conflicts"
            ));
        }
        if !unlogged.is_empty() {
            unlogged.insert(0, "SET sql_log_bin = 0, foreign_key_checks = 0".into());
        }
        let start = format!("START REPLICA SQL_THREAD FOR CHANNEL {}", literal(channel));
        let statements = [logged, unlogged, vec![start]].concat();
        format!(
            "Get past it at {member}, as root: {} (docs/ring.md, By hand)",
            statements.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{InTheWay, Mending};

    fn way_out(mending: Vec<Mending>, is_fenced: bool) -> String {
        let rows = Vec::new();
        let told = InTheWay { rows, mending }.way_out("demo-1", "from-0", is_fenced);
        let statements = told.strip_prefix("Get past it at demo-1, as root: ").unwrap();
        let statements = statements.strip_suffix(" (docs/ring.md, By hand)").unwrap();
        statements.into()
    }

    #[test]
    fn what_is_to_reach_other_members_comes_before_what_is_not() {
        let delete = || Mending::Delete("DELETE FROM t WHERE id = 5".into());
        let change = || Mending::Change("d.t (id=6)".into());
        let insert = || Mending::Insert("d.t (id=7)".into());
        let start = "START REPLICA SQL_THREAD FOR CHANNEL 'from-0'";
        let aside = "SET sql_log_bin = 0, foreign_key_checks = 0";
        for (mending, is_fenced, expected) in [
            (vec![], false, vec![start]),
            (
                vec![change()],
                false,
                vec!["UPDATE the unique value of the row d.t (id=6)", start],
            ),
            (
                vec![delete(), change(), insert()],
                true,
                vec![
                    "set spec.paused to true",
                    "SET GLOBAL super_read_only = OFF",
                    "UPDATE the unique value of the row d.t (id=6)",
                    aside,
                    "DELETE FROM t WHERE id = 5",
                    "INSERT the row d.t (id=7)",
                    start,
                ],
            ),
            (
                vec![
                    Mending::Delete(format!("DELETE FROM t WHERE id = '{}'", "x".repeat(400))),
                    insert(),
                ],
                false,
                vec![
                    aside,
                    "INSERT the row d.t (id=7)",
                    "make way for 1 more rows in the table multimaster.conflicts",
                    start,
                ],
            ),
            (
                (0..5).map(|_| delete()).collect(),
                false,
                vec![
                    aside,
                    "DELETE FROM t WHERE id = 5",
                    "DELETE FROM t WHERE id = 5",
                    "DELETE FROM t WHERE id = 5",
                    "make way for 2 more rows in the table multimaster.conflicts",
                    start,
                ],
            ),
        ] {
            assert_eq!(way_out(mending, is_fenced), expected.join("; "));
        }
    }
}
