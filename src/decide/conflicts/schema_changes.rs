//! Two members carry out the same schema change, each before it knows of the other. The second one fails where it arrives, because what it wants
//! is so already. If that is the same on both sides, nothing is left to do. `docs/schema-changes.md`.

use crate::mysql::definition::Definition;
use crate::mysql::goal::{Goal, Object, Part};
use crate::mysql::tokens::Token;

/// Errors that say that what a statement wants is so already. Names: MySQL 9.7 Error Message Reference.
const ALREADY: [u32; 21] = [
    1007, // ER_DB_CREATE_EXISTS
    1008, // ER_DB_DROP_EXISTS
    1050, // ER_TABLE_EXISTS_ERROR
    1051, // ER_BAD_TABLE_ERROR
    1060, // ER_DUP_FIELDNAME
    1061, // ER_DUP_KEYNAME
    1068, // ER_MULTIPLE_PRI_KEY
    1091, // ER_CANT_DROP_FIELD_OR_KEY
    1304, // ER_SP_ALREADY_EXISTS
    1305, // ER_SP_DOES_NOT_EXIST
    1359, // ER_TRG_ALREADY_EXISTS
    1360, // ER_TRG_DOES_NOT_EXIST
    1396, // ER_CANNOT_USER
    1507, // ER_DROP_PARTITION_NON_EXISTENT
    1517, // ER_SAME_NAME_PARTITION
    1537, // ER_EVENT_ALREADY_EXISTS
    1539, // ER_EVENT_DOES_NOT_EXIST
    1826, // ER_FK_DUP_NAME
    3821, // ER_CHECK_CONSTRAINT_NOT_FOUND
    3822, // ER_CHECK_CONSTRAINT_DUP_NAME
    3940, // ER_CONSTRAINT_NOT_FOUND
];

/// Whether a statement that fails like this may want what is so already.
pub fn is_already_so(error: u32) -> bool {
    ALREADY.binary_search(&error).is_ok()
}

/// Functions whose value is the same at every member for a row that is the same.
const SAME_EVERYWHERE: [&str; 6] = ["JSON_OBJECT", "JSON_ARRAY", "CAST", "CONVERT", "CONCAT", "COALESCE"];

/// Why the statement is not skipped, as far as this goal goes; `None`: it is the same on both sides. `here`, `there`: the definitions of its object
/// at the member that could not carry it out and at its upstream, with the members' names; `None`: there is no such object.
pub fn differs(goal: &Goal, here: (&str, Option<&Definition>), there: (&str, Option<&Definition>)) -> Option<String> {
    let part = |definition: Option<&Definition>| definition.and_then(|it| it.part(&goal.part)).map(<[Token]>::to_vec);
    let what = match goal.part {
        Part::Whole => goal.object.to_string(),
        _ => format!("{} of {}", goal.part, goal.object),
    };
    let (own, other) = (part(here.1), part(there.1));
    if !goal.is_there {
        // The upstream may have made another one since: that comes next.
        return own.is_some().then(|| format!("{what} is still there at {}", here.0));
    }
    if own.is_none() || own != other {
        return Some(format!(
            "{what} is not the same: {} has {}, {} has {}",
            here.0,
            shown(here.1),
            there.0,
            shown(there.1)
        ));
    }
    if !matches!(goal.part, Part::Column(_)) {
        return None;
    }
    if own.as_deref().is_some_and(has_values_of_its_own) {
        return Some(format!(
            "{what} is the same, but each member gave its present rows values of its own (AUTO_INCREMENT, the time, or an expression)"
        ));
    }
    // Row events go by the position of columns.
    let (here_columns, there_columns) = (here.1.map(Definition::columns)?, there.1.map(Definition::columns)?);
    let common = |columns: &[&str], others: &[&str]| -> Vec<String> {
        let columns = columns.iter().map(|name| name.to_lowercase());
        let others: Vec<String> = others.iter().map(|name| name.to_lowercase()).collect();
        columns.filter(|name| others.contains(name)).collect()
    };
    (common(&here_columns, &there_columns) != common(&there_columns, &here_columns)).then(|| {
        format!(
            "the columns of {} are not in the same order: {} has {}, {} has {}",
            goal.object,
            here.0,
            here_columns.join(", "),
            there.0,
            there_columns.join(", ")
        )
    })
}

/// So many characters of a definition are shown.
const MOST_SHOWN: usize = 1000;

/// A definition for people.
fn shown(definition: Option<&Definition>) -> String {
    definition.map_or("none".into(), |definition| {
        definition.text.chars().take(MOST_SHOWN).collect()
    })
}

/// Whether each member gives the rows that are there values of its own when such a column is added.
fn has_values_of_its_own(column: &[Token]) -> bool {
    if column.iter().any(|token| token.is("AUTO_INCREMENT")) {
        return true;
    }
    let Some(default) = column.iter().position(|token| token.is("DEFAULT")) else {
        return false;
    };
    let is_call = |two: &[Token]| matches!(two, [Token::Word(name), Token::Sign('(')] if !SAME_EVERYWHERE.iter().any(|known| name.eq_ignore_ascii_case(known)));
    match column.get(default + 1..) {
        Some([Token::Sign('('), ..]) => column[default + 1..].windows(2).any(is_call),
        Some([value, ..]) => value.is("CURRENT_TIMESTAMP"),
        _ => false,
    }
}

/// What the statement of an account is about, for people: the account at both sides.
pub fn missing(object: &Object, here: (&str, bool), there: (&str, bool)) -> String {
    let has = |there: bool| if there { "has it" } else { "does not have it" };
    format!(
        "the account {object}: {} {}, {} {}",
        here.0,
        has(here.1),
        there.0,
        has(there.1)
    )
}

#[cfg(test)]
mod tests;
