//! The clauses of `ALTER TABLE`.

use super::goal::{Goal, Object, Part, gone, index, named, there};
use super::tokens::{Token, brackets, items};

/// What `ALTER TABLE` wants; `rest` stands after these two words.
pub(super) fn goals(rest: &[Token], schema: &str) -> Option<Vec<Goal>> {
    let (table, rest) = named(rest, schema)?;
    let table = Object::Table(table.0, table.1);
    if let [drop, partition, names @ ..] = rest
        && drop.is("DROP")
        && partition.is("PARTITION")
    {
        let names = items(names).into_iter().map(|item| item.first()?.name());
        let goals = names.map(|name| Some(gone(&table, Part::Partition(name?.to_owned()))));
        return goals.collect();
    }
    let mut goals = Vec::new();
    for clause in items(rest) {
        for goal in of_clause(&table, clause)? {
            if !goals.contains(&goal) {
                goals.push(goal);
            }
        }
    }
    // It follows the clauses without a comma.
    let partitions = rest
        .windows(2)
        .any(|two| two[0].is("PARTITION") && two[1].is("BY") || two[0].is("REMOVE") && two[1].is("PARTITIONING"));
    if partitions {
        goals.push(there(&table, Part::Whole));
    }
    Some(goals)
}

/// Clauses that say how the table is changed, not what it becomes.
const MANNERS: [&str; 3] = ["ALGORITHM", "LOCK", "FORCE"];
/// Clauses whose outcome is seen by comparing the whole definition.
const SEEN_IN_WHOLE: [&str; 13] = [
    "MODIFY",
    "CHANGE",
    "ALTER",
    "ENGINE",
    "COMMENT",
    "CHARACTER",
    "CHARSET",
    "COLLATE",
    "CONVERT",
    "DEFAULT",
    "ROW_FORMAT",
    "KEY_BLOCK_SIZE",
    "AUTO_INCREMENT",
];

fn of_clause(table: &Object, clause: &[Token]) -> Option<Vec<Goal>> {
    let (verb, rest) = clause.split_first()?;
    match verb {
        verb if verb.is("ADD") => added(table, rest),
        verb if verb.is("DROP") => removed(table, rest),
        verb if verb.is("RENAME") && rest.first()?.is_any(&["INDEX", "KEY", "COLUMN"]) => {
            Some(vec![there(table, Part::Whole)])
        }
        verb if verb.is_any(&MANNERS) => Some(Vec::new()),
        verb if verb.is_any(&SEEN_IN_WHOLE) => Some(vec![there(table, Part::Whole)]),
        _ => None,
    }
}

fn added(table: &Object, rest: &[Token]) -> Option<Vec<Goal>> {
    let (first, after) = rest.split_first()?;
    if first.is("PARTITION") {
        let (list, _) = brackets(after)?;
        let names = items(list).into_iter().map(|item| item.get(1)?.name());
        return names
            .map(|name| Some(there(table, Part::Partition(name?.to_owned()))))
            .collect();
    }
    if first.is("CONSTRAINT") {
        // Without a name MySQL finds one, and the same statement twice makes two constraints.
        let (name, after) = after.split_first()?;
        return match after.first()? {
            kind if kind.is("PRIMARY") => Some(vec![there(table, Part::PrimaryKey)]),
            kind if kind.is("UNIQUE") => Some(vec![there(table, index(name.name()?))]),
            kind if kind.is_any(&["FOREIGN", "CHECK"]) => {
                Some(vec![there(table, Part::Constraint(name.name()?.to_owned()))])
            }
            _ => None,
        };
    }
    if first.is("PRIMARY") {
        return Some(vec![there(table, Part::PrimaryKey)]);
    }
    if first.is_any(&["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL"]) {
        let is_noise = |token: &&Token| token.is_any(&["INDEX", "KEY"]);
        let name = rest[1..].iter().find(|token| !is_noise(token))?;
        return Some(vec![there(table, index(name.name()?))]);
    }
    if first.is_any(&["FOREIGN", "CHECK"]) {
        return None;
    }
    let columns = if first.is("COLUMN") { after } else { rest };
    match columns.first()? {
        Token::Sign('(') => {
            let (list, _) = brackets(columns)?;
            let columns = items(list).into_iter().map(|column| added_column(table, column));
            Some(columns.collect::<Option<Vec<_>>>()?.concat())
        }
        _ => added_column(table, columns),
    }
}

fn added_column(table: &Object, column: &[Token]) -> Option<Vec<Goal>> {
    let (name, definition) = column.split_first()?;
    let mut goals = vec![there(table, Part::Column(name.name()?.to_owned()))];
    // Such a column brings an index, or a constraint.
    let brings = ["UNIQUE", "KEY", "REFERENCES", "CHECK"];
    if definition.iter().any(|token| token.is_any(&brings)) {
        goals.push(there(table, Part::Whole));
    }
    Some(goals)
}

fn removed(table: &Object, rest: &[Token]) -> Option<Vec<Goal>> {
    let (first, after) = rest.split_first()?;
    let name = |tokens: &[Token]| tokens.first()?.name().map(str::to_owned);
    let parts = match first {
        first if first.is("PRIMARY") => vec![Part::PrimaryKey],
        first if first.is_any(&["INDEX", "KEY"]) => vec![index(&name(after)?)],
        first if first.is("FOREIGN") => vec![Part::Constraint(name(after.get(1..)?)?)],
        first if first.is("CHECK") => vec![Part::Constraint(name(after)?)],
        first if first.is("CONSTRAINT") => vec![Part::Constraint(name(after)?), index(&name(after)?)],
        first if first.is("COLUMN") => vec![Part::Column(name(after)?)],
        _ => vec![Part::Column(name(rest)?)],
    };
    Some(parts.into_iter().map(|part| gone(table, part)).collect())
}
