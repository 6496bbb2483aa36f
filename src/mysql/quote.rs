//! Values inside SQL text.

/// A string literal, quotes included. It is right only in a session whose `sql_mode` lacks `NO_BACKSLASH_ESCAPES`.
///
/// Every session of the operator ([`crate::mysql::io::connection::connect`]) and of the agents, and the init file, set a `sql_mode` without it.
pub fn literal(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\0' => quoted.push_str("\\0"),
            // Ctrl-Z ends a file for some clients.
            '\u{1a}' => quoted.push_str("\\Z"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// An identifier in back quotes.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::{identifier, literal};

    #[test]
    fn nothing_ends_a_literal_early() {
        assert_eq!(literal("plain"), "'plain'");
        assert_eq!(literal("a'b"), r"'a\'b'");
        assert_eq!(literal(r"a\"), r"'a\\'");
        assert_eq!(literal("two\nlines; -- \r"), r"'two\nlines; -- \r'");
        assert_eq!(literal(""), "''");
        assert_eq!(identifier("a`b"), "`a``b`");
    }
}
