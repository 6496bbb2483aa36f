//! The definition of an object as a server shows it, in parts that can be compared with those of another server.

use mysql_common::constants::SqlMode;

use super::goal::Part;
use super::tokens::{Token, brackets, items, tokens};

/// What a server shows as the definition of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// For people.
    pub text: String,
    /// Of everything but the counter of a table.
    whole: Vec<Token>,
    /// Of a table: columns, indexes, constraints and partitions.
    parts: Vec<(Part, Vec<Token>)>,
}

impl Definition {
    /// Reads what `SHOW CREATE TABLE` or another such statement shows. `None`: it cannot be read.
    pub fn read(text: &str) -> Option<Self> {
        let all = tokens(text, SqlMode::empty())?;
        let mut definition = Self {
            text: text.to_owned(),
            whole: all.clone(),
            parts: Vec::new(),
        };
        if let [create, table, ..] = all.as_slice()
            && create.is("CREATE")
            && table.is("TABLE")
        {
            let (inside, options) = brackets(&all)?;
            let partitions = options.iter().position(|token| token.is("PARTITION"));
            let (options, partitions) = options.split_at(partitions.unwrap_or(options.len()));
            let head = &all[..all.len() - options.len() - partitions.len()];
            definition.text = text_without_counter(text);
            definition.whole = [head, &without_counter(options), partitions].concat();
            definition.parts = items(inside).into_iter().filter_map(part).collect();
            definition.parts.extend(partitions_of(partitions));
        }
        Some(definition)
    }

    /// The definition of an object other than a table: its statement, and what holds beside it, for example the `sql_mode`.
    pub fn plain(text: &str, circumstances: &[String]) -> Self {
        let beside = circumstances.iter().map(|beside| Token::Text(beside.clone()));
        Self {
            text: text.to_owned(),
            whole: std::iter::once(Token::Text(text.to_owned())).chain(beside).collect(),
            parts: Vec::new(),
        }
    }

    /// The tokens of a part.
    pub fn part(&self, part: &Part) -> Option<&[Token]> {
        match part {
            Part::Whole => Some(&self.whole),
            part => {
                let mut parts = self.parts.iter();
                parts
                    .find(|(own, _)| is_same(own, part))
                    .map(|(_, tokens)| tokens.as_slice())
            }
        }
    }

    /// Names of the columns of a table, in their order.
    pub fn columns(&self) -> Vec<&str> {
        let columns = self.parts.iter().filter_map(|(part, _)| match part {
            Part::Column(name) => Some(name.as_str()),
            _ => None,
        });
        columns.collect()
    }
}

/// Names of columns, indexes, constraints and partitions are not case-sensitive (manual, "Identifier Case Sensitivity").
fn is_same(own: &Part, other: &Part) -> bool {
    match (own, other) {
        (Part::Column(own), Part::Column(other))
        | (Part::Index(own), Part::Index(other))
        | (Part::Constraint(own), Part::Constraint(other))
        | (Part::Partition(own), Part::Partition(other)) => own.to_lowercase() == other.to_lowercase(),
        (own, other) => own == other,
    }
}

/// A column, an index or a constraint, as `SHOW CREATE TABLE` lists them.
fn part(item: &[Token]) -> Option<(Part, Vec<Token>)> {
    let name = |at: usize| item.get(at).and_then(Token::name).map(str::to_owned);
    let part = match item.first()? {
        Token::Quoted(name) => Part::Column(name.clone()),
        token if token.is("PRIMARY") => Part::PrimaryKey,
        token if token.is("CONSTRAINT") => Part::Constraint(name(1)?),
        token if token.is("KEY") => Part::Index(name(1)?),
        token if token.is_any(&["UNIQUE", "FULLTEXT", "SPATIAL"]) => Part::Index(name(2)?),
        _ => return None,
    };
    Some((part, item.to_vec()))
}

/// `(PARTITION p0 VALUES ..., PARTITION p1 ...)` at the end of a definition; before it stand the expressions of PARTITION BY.
fn partitions_of(mut options: &[Token]) -> Vec<(Part, Vec<Token>)> {
    while let Some((inside, after)) = brackets(options) {
        if inside.first().is_some_and(|token| token.is("PARTITION")) {
            let named = items(inside).into_iter().filter_map(|item| {
                let name = item.get(1)?.name()?.to_owned();
                Some((Part::Partition(name), item.to_vec()))
            });
            return named.collect();
        }
        options = after;
    }
    Vec::new()
}

/// Options of a table without `AUTO_INCREMENT=n`, which is the table's counter.
fn without_counter(options: &[Token]) -> Vec<Token> {
    let Some(at) = options.iter().position(|token| token.is("AUTO_INCREMENT")) else {
        return options.to_vec();
    };
    [&options[..at], options.get(at + 3..).unwrap_or_default()].concat()
}

/// The same in the text, where it stands after the last bracket of the columns.
fn text_without_counter(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once(" AUTO_INCREMENT=") else {
        return text.to_owned();
    };
    format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::Definition;
    use crate::mysql::goal::Part;

    const TABLE: &str = "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `a, b` varchar(5) DEFAULT 'x)' COMMENT 'KEY `c`',\n  \
        `c` decimal(5,2) /*!80023 INVISIBLE */,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`c`),\n  KEY `k` ((lower(`a, b`))),\n  \
        CONSTRAINT `f` FOREIGN KEY (`c`) REFERENCES `o` (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=11 DEFAULT CHARSET=utf8mb4\n\
        /*!50100 PARTITION BY RANGE (`id`)\n(PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB,\n PARTITION p1 VALUES LESS THAN MAXVALUE ENGINE = InnoDB) */";

    #[test]
    fn a_table_has_parts() {
        let table = Definition::read(TABLE).unwrap();
        assert_eq!(table.columns(), ["id", "a, b", "c"]);
        for part in [
            Part::Column("ID".into()),
            Part::PrimaryKey,
            Part::Index("u".into()),
            Part::Index("K".into()),
            Part::Constraint("f".into()),
            Part::Partition("p1".into()),
            Part::Whole,
        ] {
            assert!(table.part(&part).is_some(), "{part}");
        }
        for part in [
            Part::Column("u".into()),
            Part::Index("c".into()),
            Part::Partition("p2".into()),
        ] {
            assert!(table.part(&part).is_none(), "{part}");
        }
        assert!(Definition::read("CREATE TABLE `t` (`a").is_none());
    }

    #[test]
    fn only_the_counter_makes_no_difference() {
        let whole = |text: &str| Definition::read(text).unwrap().part(&Part::Whole).unwrap().to_vec();
        assert_eq!(whole(TABLE), whole(&TABLE.replace("AUTO_INCREMENT=11 ", "")));
        assert!(!Definition::read(TABLE).unwrap().text.contains("=11"));
        for (from, to) in [
            ("AUTO_INCREMENT,", ","),
            ("'x)'", "'X)'"),
            ("(10)", "(11)"),
            ("utf8mb4", "latin1"),
        ] {
            assert_ne!(whole(TABLE), whole(&TABLE.replace(from, to)), "{from}");
        }
    }
}
