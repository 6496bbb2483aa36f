//! The tokens of SQL text: as much of MySQL's lexical structure as it takes to see what a statement names, and to compare two definitions.

use mysql_common::constants::SqlMode;

/// The version of MySQL whose executable comments are read, as such a comment writes it.
const VERSION: u32 = 90_799;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A keyword, an identifier without quotes, or a number.
    Word(String),
    /// An identifier in quotes, without them.
    Quoted(String),
    /// A string, without its quotes.
    Text(String),
    /// Any other character.
    Sign(char),
}

impl Token {
    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether it is one of these keywords.
    pub fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// The identifier, if it can be one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            Self::Text(_) | Self::Sign(_) => None,
        }
    }
}

/// The tokens of a statement that was run under this `sql_mode`. Comments are left out; what stands in an executable comment (`/*!80023 ... */`)
/// is read. `None`: a quote or a comment does not end, or a comment is for a later version of MySQL.
///
/// Source: MySQL 9.7 manual, "Language Structure".
pub fn tokens(text: &str, mode: SqlMode) -> Option<Vec<Token>> {
    let mut rest = text;
    let mut tokens = Vec::new();
    let mut is_in_comment = false;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("/*!") {
            let digits = after.chars().take_while(char::is_ascii_digit).count();
            if digits > 0 && after[..digits].parse::<u32>().ok()? > VERSION {
                return None;
            }
            is_in_comment = true;
            rest = &after[digits..];
        } else if is_in_comment && rest.starts_with("*/") {
            is_in_comment = false;
            rest = &rest[2..];
        } else if let Some(after) = rest.strip_prefix("/*") {
            rest = &after[after.find("*/")? + 2..];
        } else if first == '#' || is_line_comment(rest) {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if matches!(first, '\'' | '"' | '`') {
            let is_identifier = first == '`' || first == '"' && mode.contains(SqlMode::MODE_ANSI_QUOTES);
            let escapes = !is_identifier && !mode.contains(SqlMode::MODE_NO_BACKSLASH_ESCAPES);
            let (inside, after) = quoted(&rest[1..], first, escapes)?;
            tokens.push(match is_identifier {
                true => Token::Quoted(inside),
                false => Token::Text(inside),
            });
            rest = after;
        } else if is_of_word(first) {
            let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    (!is_in_comment).then_some(tokens)
}

/// `-- ` begins a comment only before a space or a control character.
fn is_line_comment(text: &str) -> bool {
    let after = text.strip_prefix("--").map(|after| after.chars().next());
    after.is_some_and(|next| next.is_none_or(|next| next.is_whitespace() || next.is_control()))
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || c > '\u{7f}'
}

/// What stands before the closing quote, and what follows it. Escape sequences stay as they are written: two texts are only compared.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<(String, &str)> {
    let mut inside = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let after = &text[at + c.len_utf8()..];
        if c == '\\' && escapes {
            inside.push(c);
            inside.push(chars.next()?.1);
        } else if c == quote && after.starts_with(quote) {
            inside.push(c);
            chars.next();
        } else if c == quote {
            return Some((inside, after));
        } else {
            inside.push(c);
        }
    }
    None
}

/// Splits tokens at the commas that stand outside of brackets.
pub fn items(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0_u32;
    tokens
        .split(|token| {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && *token == Token::Sign(',')
        })
        .collect()
}

/// The tokens inside the first brackets, and those after them.
pub fn brackets(tokens: &[Token]) -> Option<(&[Token], &[Token])> {
    let open = tokens.iter().position(|token| *token == Token::Sign('('))?;
    let mut depth = 0_u32;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&tokens[open + 1..at], &tokens[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Token, brackets, items, tokens};
    use mysql_common::constants::SqlMode;

    fn read(text: &str) -> Option<String> {
        let tokens = tokens(text, SqlMode::empty())?;
        Some(tokens.iter().map(|token| format!("{token:?} ")).collect())
    }

    fn shown(text: &str, mode: SqlMode) -> Vec<String> {
        let tokens = tokens(text, mode).unwrap();
        let show = |token: &Token| match token {
            Token::Word(word) => word.clone(),
            Token::Quoted(name) => format!("`{name}`"),
            Token::Text(text) => format!("'{text}'"),
            Token::Sign(sign) => sign.to_string(),
        };
        tokens.iter().map(show).collect()
    }

    #[test]
    fn what_a_text_is_made_of() {
        let all = SqlMode::MODE_ANSI_QUOTES | SqlMode::MODE_NO_BACKSLASH_ESCAPES;
        for (text, mode, expected) in [
            ("a.`b c`", SqlMode::empty(), vec!["a", ".", "`b c`"]),
            ("`a``b` 'it''s' \"x\"", SqlMode::empty(), vec!["`a`b`", "'it's'", "'x'"]),
            (r"'a\'b' 'c\\'", SqlMode::empty(), vec![r"'a\'b'", r"'c\\'"]),
            (r#"'a\' "b""c""#, all, vec![r"'a\'", "`b\"c`"]),
            (
                "a /* , ' */ b -- ' \n c # \"\nd",
                SqlMode::empty(),
                vec!["a", "b", "c", "d"],
            ),
            ("1--1", SqlMode::empty(), vec!["1", "-", "-", "1"]),
            (
                "a /*!80023 INVISIBLE */, b",
                SqlMode::empty(),
                vec!["a", "INVISIBLE", ",", "b"],
            ),
            ("a /*! b */", SqlMode::empty(), vec!["a", "b"]),
            ("größe 'ß'", SqlMode::empty(), vec!["größe", "'ß'"]),
            ("'u'@'%'", SqlMode::empty(), vec!["'u'", "@", "'%'"]),
        ] {
            assert_eq!(shown(text, mode), expected, "{text}");
        }
        for text in ["'a", "`a", r"'a\'", "/* a", "/*! a", "/*!99999 a */", "\"", "'\\"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn brackets_hold_their_commas() {
        let list = tokens("a (b, c(d)), e", SqlMode::empty()).unwrap();
        assert_eq!(items(&list).len(), 2);
        let (inside, after) = brackets(&list).unwrap();
        assert_eq!((inside.len(), after.len()), (6, 2));
        assert!(brackets(&list[..3]).is_none());
        assert!(brackets(&list[..1]).is_none());
    }
}
