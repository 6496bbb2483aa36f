//! What a statement wants: an object, or a part of it, that is there or gone when the statement is done.

use std::fmt;

use super::quote::{identifier, literal};
use super::tokens::Token;

/// An object that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A schema.
    Database(String),
    /// A table, by schema and name.
    Table(String, String),
    /// A view, by schema and name.
    View(String, String),
    /// A stored procedure, by schema and name.
    Procedure(String, String),
    /// A stored function, by schema and name.
    Function(String, String),
    /// A trigger, by schema and name.
    Trigger(String, String),
    /// An event, by schema and name.
    Event(String, String),
    /// A user or a role, by user and host.
    Account(String, String),
}

impl Object {
    /// The statement that shows its definition.
    pub fn show(&self) -> String {
        let kind = match self {
            Self::Database(_) => "DATABASE",
            Self::Table(..) => "TABLE",
            Self::View(..) => "VIEW",
            Self::Procedure(..) => "PROCEDURE",
            Self::Function(..) => "FUNCTION",
            Self::Trigger(..) => "TRIGGER",
            Self::Event(..) => "EVENT",
            Self::Account(..) => "USER",
        };
        format!("SHOW CREATE {kind} {self}")
    }

    /// The query for the bytes of its definition, in the column `bytes`; `None`: it has no part that could be very long. Without an object there is no
    /// row.
    pub fn length(&self) -> Option<String> {
        let (column, table, kind, schema, name) = match self {
            Self::Database(_) | Self::Table(..) | Self::Account(..) => return None,
            Self::View(schema, name) => ("VIEW_DEFINITION", "VIEWS", "TABLE", schema, name),
            Self::Procedure(schema, name) | Self::Function(schema, name) => {
                ("ROUTINE_DEFINITION", "ROUTINES", "ROUTINE", schema, name)
            }
            Self::Trigger(schema, name) => ("ACTION_STATEMENT", "TRIGGERS", "TRIGGER", schema, name),
            Self::Event(schema, name) => ("EVENT_DEFINITION", "EVENTS", "EVENT", schema, name),
        };
        Some(format!(
            "SELECT MAX(LENGTH({column})) AS bytes FROM information_schema.{table} WHERE {kind}_SCHEMA = {} AND {kind}_NAME = {}",
            literal(schema),
            literal(name)
        ))
    }
}

/// As SQL names it.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(name) => f.write_str(&identifier(name)),
            Self::Account(user, host) => write!(f, "{}@{}", literal(user), literal(host)),
            Self::Table(schema, name)
            | Self::View(schema, name)
            | Self::Procedure(schema, name)
            | Self::Function(schema, name)
            | Self::Trigger(schema, name)
            | Self::Event(schema, name) => write!(f, "{}.{}", identifier(schema), identifier(name)),
        }
    }
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// A column of a table.
    Column(String),
    /// An index other than the primary key.
    Index(String),
    /// The primary key.
    PrimaryKey,
    /// A foreign key or a check.
    Constraint(String),
    /// A partition.
    Partition(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the definition"),
            Self::Column(name) => write!(f, "the column {}", identifier(name)),
            Self::Index(name) => write!(f, "the index {}", identifier(name)),
            Self::PrimaryKey => f.write_str("the primary key"),
            Self::Constraint(name) => write!(f, "the constraint {}", identifier(name)),
            Self::Partition(name) => write!(f, "the partition {}", identifier(name)),
        }
    }
}

/// One thing that is so when the statement is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Which object.
    pub object: Object,
    /// Which part of it.
    pub part: Part,
    /// Whether it is there then, or gone.
    pub is_there: bool,
}

pub(super) fn there(object: &Object, part: Part) -> Goal {
    Goal {
        object: object.clone(),
        part,
        is_there: true,
    }
}

pub(super) fn gone(object: &Object, part: Part) -> Goal {
    Goal {
        is_there: false,
        ..there(object, part)
    }
}

pub(super) fn index(name: &str) -> Part {
    match name.eq_ignore_ascii_case("PRIMARY") {
        true => Part::PrimaryKey,
        false => Part::Index(name.to_owned()),
    }
}

/// `name` or `schema.name`, and what follows.
pub(super) fn named<'a>(tokens: &'a [Token], schema: &str) -> Option<((String, String), &'a [Token])> {
    let first = tokens.first()?.name()?.to_owned();
    match tokens.get(1) {
        Some(Token::Sign('.')) => Some(((first, tokens.get(2)?.name()?.to_owned()), &tokens[3..])),
        _ => Some(((schema.to_owned(), first), &tokens[1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::Object;

    #[test]
    fn what_users_write_at_any_length_has_its_length_asked_for() {
        let (schema, name) = ("a'b".to_owned(), r"c\".to_owned());
        for object in [
            Object::View(schema.clone(), name.clone()),
            Object::Procedure(schema.clone(), name.clone()),
            Object::Function(schema.clone(), name.clone()),
            Object::Trigger(schema.clone(), name.clone()),
            Object::Event(schema.clone(), name.clone()),
        ] {
            let query = object.length().unwrap();
            assert!(
                query.contains(r"_SCHEMA = 'a\'b'") && query.contains(r"_NAME = 'c\\'"),
                "{query}"
            );
        }
        assert_eq!(Object::Table(schema, name).length(), None);
    }
}
