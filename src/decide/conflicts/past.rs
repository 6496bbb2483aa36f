//! What a member's own binary log says of a row since the row was copied aside: whether a late write changed it last, and how it was before that.

/// What happened to the row of one key. `I`: an image of the row. Changes have numbers that grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past<I> {
    /// The row before the first change; `None`: it was not there.
    first: (usize, Option<I>),
    /// The row after the last change that was not late.
    right: Option<(usize, Option<I>)>,
    /// The row after the last change, and whether that was late.
    last: (usize, Option<I>, bool),
}

impl<I: Clone> Past<I> {
    /// The first change that is known. A change is late if a losing side wrote it before that side knew of the conflict.
    pub fn new(number: usize, before: Option<I>, after: Option<I>, is_late: bool) -> Self {
        Self {
            first: (number, before),
            right: (!is_late).then(|| (number, after.clone())),
            last: (number, after, is_late),
        }
    }

    /// What happened to the row as one: before, after, or both together. Two texts may be one key for the server.
    pub fn join(&mut self, other: Self) {
        if other.first.0 < self.first.0 {
            self.first = other.first;
        }
        let number = |right: &Option<(usize, Option<I>)>| right.as_ref().map(|(number, _)| *number);
        if number(&other.right) > number(&self.right) {
            self.right = other.right;
        }
        if other.last.0 > self.last.0 {
            self.last = other.last;
        }
    }

    /// Whatever was there is another image now. Whether a row was there is known no better than before.
    pub fn forget(&mut self, image: &I) {
        let right = self.right.as_mut().map(|(_, row)| row);
        for row in [&mut self.first.1, &mut self.last.1].into_iter().chain(right) {
            *row = row.take().map(|_| image.clone());
        }
    }

    /// The rows that are kept.
    pub fn rows(&self) -> impl Iterator<Item = &I> {
        [
            Some(&self.first.1),
            self.right.as_ref().map(|(_, row)| row),
            Some(&self.last.1),
        ]
        .into_iter()
        .flatten()
        .flatten()
    }

    /// The last change was late, and without the late writes there would be another row, or one at all.
    pub fn is_late(&self) -> bool {
        self.last.2 && (self.right().is_some() || self.present().is_some())
    }

    /// The row as it would be without the late writes; `None`: it would not be there.
    pub fn right(&self) -> Option<&I> {
        let (_, row) = self.right.as_ref().unwrap_or(&self.first);
        row.as_ref()
    }

    /// The row as the last change left it.
    pub fn present(&self) -> Option<&I> {
        self.last.1.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::Past;

    /// Changes as `before>after`; `-`: no row; with a `!`: late.
    fn past(changes: &str) -> Past<String> {
        let row = |text: &str| (text != "-").then(|| text.to_owned());
        let changes = changes.split_whitespace().enumerate().map(|(number, change)| {
            let (before, after) = change.trim_end_matches('!').split_once('>').unwrap();
            Past::new(number, row(before), row(after), change.ends_with('!'))
        });
        let joined = changes.reduce(|mut past, change| {
            past.join(change);
            past
        });
        joined.unwrap()
    }

    #[test]
    fn late_writes_do_not_count() {
        for (changes, is_late, right, present) in [
            // The transaction that lost is taken.
            ("a>b!", true, "a", "b"),
            ("a>b! b>a", false, "a", "a"),
            // A client of the winner changed the row between two late writes.
            ("a>b! b>a a>c c>d!", true, "c", "d"),
            ("->b!", true, "-", "b"),
            ("a>-!", true, "a", "-"),
            // It was deleted before, and is not there: there is nothing to write again.
            ("a>- ->b! b>-!", false, "-", "-"),
            ("a>b! b>-", false, "-", "-"),
            ("a>b", false, "b", "b"),
        ] {
            let past = past(changes);
            let text = |row: Option<&String>| row.map_or("-", String::as_str).to_owned();
            assert_eq!(
                (past.is_late(), text(past.right()), text(past.present())),
                (is_late, right.to_owned(), present.to_owned()),
                "{changes}"
            );
        }
    }

    #[test]
    fn what_is_forgotten_is_known_again_after_the_next_change() {
        let mut past = past("a>b! b>a");
        past.forget(&"?".to_owned());
        assert_eq!(
            (past.right().unwrap(), past.present().unwrap()),
            (&"?".to_owned(), &"?".to_owned())
        );
        past.join(Past::new(7, Some("?".into()), Some("c".into()), true));
        assert_eq!(
            (past.right().unwrap(), past.present().unwrap()),
            (&"?".to_owned(), &"c".to_owned())
        );
        past.join(Past::new(8, Some("c".into()), Some("d".into()), false));
        assert_eq!(past.right().unwrap(), "d");
    }

    #[test]
    fn two_texts_of_one_key_are_joined_in_any_order() {
        let of = |number, before: Option<&'static str>, after, is_late| Past::new(number, before, after, is_late);
        let (upper, lower) = (of(2, None, Some("A"), false), of(1, Some("a"), None, false));
        for (mut one, other) in [(upper.clone(), lower.clone()), (lower, upper)] {
            one.join(other);
            one.join(of(3, Some("A"), Some("B"), true));
            assert_eq!(
                (one.is_late(), one.right(), one.present()),
                (true, Some(&"A"), Some(&"B"))
            );
        }
    }
}
