//! What a schema change wants to be there, or to be gone, when it is done.
//!
//! Source: MySQL 9.7 manual, "Data Definition Statements" and "Account Management Statements".

use super::alter_table;
use super::goal::{Goal, Object, Part, gone, index, named, there};
use super::tokens::{Token, items};

/// What is so when the statement is done: all of it, or the statement failed. `None`: the statement does something else as well, for example with
/// rows, or it is not known here.
pub fn goals(statement: &[Token], schema: &str) -> Option<Vec<Goal>> {
    let (first, rest) = statement.split_first()?;
    let goals = match first {
        token if token.is("CREATE") => created(rest, schema)?,
        token if token.is("DROP") => dropped(rest, schema)?,
        token if token.is("ALTER") && rest.first()?.is("TABLE") => alter_table::goals(&rest[1..], schema)?,
        _ => return None,
    };
    (!goals.is_empty()).then_some(goals)
}

/// So many accounts of a statement are looked at.
const MOST_ACCOUNTS: usize = 10;

/// The accounts that a statement about accounts names, for example GRANT or ALTER USER.
pub fn accounts(statement: &[Token]) -> Vec<Object> {
    let is_about_accounts = match statement {
        [first, ..] if first.is_any(&["GRANT", "REVOKE"]) => true,
        [first, second, ..] => match first {
            first if first.is("SET") => second.is_any(&["PASSWORD", "DEFAULT"]),
            first => first.is_any(&["CREATE", "ALTER", "DROP", "RENAME"]) && second.is_any(&["USER", "ROLE"]),
        },
        _ => false,
    };
    let mut found = Vec::new();
    for three in statement.windows(3).filter(|_| is_about_accounts) {
        if let [user, Token::Sign('@'), host] = three
            && let (Some(user), Some(host)) = (account_word(user), account_word(host))
        {
            let account = Object::Account(user, host);
            if !found.contains(&account) && found.len() < MOST_ACCOUNTS {
                found.push(account);
            }
        }
    }
    found
}

/// What may stand between CREATE and the kind of object.
const BEFORE: [&str; 12] = [
    "OR",
    "REPLACE",
    "ALGORITHM",
    "DEFINER",
    "SQL",
    "SECURITY",
    "INVOKER",
    "UNIQUE",
    "FULLTEXT",
    "SPATIAL",
    "AGGREGATE",
    "TEMPORARY",
];
const KINDS: [&str; 11] = [
    "TABLE",
    "DATABASE",
    "SCHEMA",
    "VIEW",
    "PROCEDURE",
    "FUNCTION",
    "TRIGGER",
    "EVENT",
    "INDEX",
    "USER",
    "ROLE",
];

fn created(rest: &[Token], schema: &str) -> Option<Vec<Goal>> {
    // DEFINER, ALGORITHM, SQL SECURITY, UNIQUE and others stand before it. A user's name may be a word, too: it follows DEFINER =.
    let after_sign = |at: usize| at > 0 && matches!(rest[at - 1], Token::Sign('=' | '@'));
    let at = (0..rest.len()).find(|at| !after_sign(*at) && rest[*at].is_any(&KINDS))?;
    let is_known = |at: usize| after_sign(at) || rest[at].is_any(&BEFORE) || !matches!(rest[at], Token::Word(_));
    if !(0..at).all(is_known) {
        return None;
    }
    let (before, kind, rest) = (&rest[..at], &rest[at], skip(&rest[at + 1..], &["IF", "NOT", "EXISTS"]));
    // A temporary table is not replicated, and a loadable function has a file.
    if before.iter().any(|token| token.is("TEMPORARY"))
        || kind.is("FUNCTION") && rest.iter().any(|token| token.is("SONAME"))
    {
        return None;
    }
    // CREATE TABLE ... SELECT: rows follow, of which the definition says nothing (MySQL bug 104153).
    if let [.., start, transaction] = rest
        && start.is("START")
        && transaction.is("TRANSACTION")
    {
        return None;
    }
    if kind.is("INDEX") {
        let name = rest.first()?.name()?.to_owned();
        let on = rest.iter().position(|token| token.is("ON"))?;
        let (table, _) = named(&rest[on + 1..], schema)?;
        return Some(vec![there(&Object::Table(table.0, table.1), Part::Index(name))]);
    }
    if kind.is_any(&["USER", "ROLE"]) {
        // Its list of roles has commas, too.
        if rest.windows(2).any(|two| two[0].is("DEFAULT") && two[1].is("ROLE")) {
            return None;
        }
        let accounts = items(rest).into_iter().map(account);
        return accounts.map(|account| Some(there(&account?, Part::Whole))).collect();
    }
    Some(vec![there(&object(kind, rest, schema)?, Part::Whole)])
}

fn dropped(rest: &[Token], schema: &str) -> Option<Vec<Goal>> {
    let (kind, rest) = rest.split_first()?;
    // DROP USER: that there is no such account means that something else is missing, too.
    if !kind.is_any(&KINDS) || kind.is_any(&["USER", "ROLE"]) {
        return None;
    }
    let rest = skip(rest, &["IF", "EXISTS"]);
    if kind.is("INDEX") {
        let (name, rest) = rest.split_first()?;
        let (on, rest) = rest.split_first()?;
        let (table, _) = named(rest, schema)?;
        let goal = gone(&Object::Table(table.0, table.1), index(name.name()?));
        return on.is("ON").then(|| vec![goal]);
    }
    let objects = items(rest).into_iter().map(|item| object(kind, item, schema));
    objects.map(|object| Some(gone(&object?, Part::Whole))).collect()
}

/// The tokens after these keywords, if all of them stand here.
fn skip<'a>(tokens: &'a [Token], keywords: &[&str]) -> &'a [Token] {
    let stand_here =
        tokens.len() >= keywords.len() && tokens.iter().zip(keywords).all(|(token, keyword)| token.is(keyword));
    if stand_here { &tokens[keywords.len()..] } else { tokens }
}

fn object(kind: &Token, tokens: &[Token], schema: &str) -> Option<Object> {
    if kind.is_any(&["DATABASE", "SCHEMA"]) {
        return Some(Object::Database(tokens.first()?.name()?.to_owned()));
    }
    let ((schema, name), _) = named(tokens, schema)?;
    let of = match kind {
        kind if kind.is("TABLE") => Object::Table,
        kind if kind.is("VIEW") => Object::View,
        kind if kind.is("PROCEDURE") => Object::Procedure,
        kind if kind.is("FUNCTION") => Object::Function,
        kind if kind.is("TRIGGER") => Object::Trigger,
        kind if kind.is("EVENT") => Object::Event,
        _ => return None,
    };
    Some(of(schema, name))
}

/// An account at the beginning of a list's item: `'user'@'host'`, or a name alone.
fn account(tokens: &[Token]) -> Option<Object> {
    let user = account_word(tokens.first()?)?;
    let host = match tokens.get(1) {
        Some(Token::Sign('@')) => account_word(tokens.get(2)?)?,
        _ => "%".to_owned(),
    };
    Some(Object::Account(user, host))
}

fn account_word(token: &Token) -> Option<String> {
    match token {
        Token::Text(text) => Some(text.replace("\\'", "'").replace("\\\\", "\\")),
        token => token.name().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
