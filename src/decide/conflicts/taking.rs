//! Taking a transaction: how each of its changes is carried out at a member that has other rows than the member that wrote it.

use std::collections::BTreeMap;

use crate::mysql::row_events::Form;

/// The row of a change before and after it, by key. `None`: there was no row, or there is none any more.
pub type Keys = (Option<String>, Option<String>);

/// The forms in which each change is carried out, in order. `there`: whether the member has the row of a key before the transaction. A key that is
/// not named there is one that the member does not have.
///
/// In the end every row that the transaction leaves behind is there, as it left it. A row that the transaction changes, and that the member does
/// not have, was deleted by the other side and stays deleted; if the change gives the row another key, the row is there under that key.
pub fn forms(changes: &[Keys], mut there: BTreeMap<String, bool>) -> Vec<Vec<Form>> {
    let mut forms = Vec::new();
    for (before, after) in changes {
        let mut has = |key: &String, now: bool| there.insert(key.clone(), now).unwrap_or(false);
        forms.push(match (before, after) {
            (None, Some(after)) => match has(after, true) {
                true => vec![Form::Overwrite],
                false => vec![Form::AsLogged],
            },
            (Some(before), None) => match has(before, false) {
                true => vec![Form::AsLogged],
                false => vec![],
            },
            (Some(before), Some(after)) if before == after => match has(before, true) {
                true => vec![Form::AsLogged],
                false => {
                    has(before, false);
                    vec![]
                }
            },
            (Some(before), Some(after)) => match (has(before, false), has(after, true)) {
                (true, false) => vec![Form::AsLogged],
                (true, true) => vec![Form::Delete, Form::Overwrite],
                (false, false) => vec![Form::Insert],
                (false, true) => vec![Form::Overwrite],
            },
            (None, None) => vec![],
        });
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::{Keys, forms};
    use crate::mysql::row_events::Form::{self, AsLogged, Delete, Insert, Overwrite};

    fn of(changes: &[(&str, &str)], there: &[&str]) -> Vec<Vec<Form>> {
        let key = |key: &str| (!key.is_empty()).then(|| key.to_owned());
        let changes: Vec<Keys> = changes
            .iter()
            .map(|(before, after)| (key(before), key(after)))
            .collect();
        forms(&changes, there.iter().map(|key| ((*key).to_owned(), true)).collect())
    }

    #[test]
    fn a_change_meets_a_row_or_none() {
        for (change, there, expected) in [
            (("", "1"), &[][..], vec![AsLogged]),
            (("", "1"), &["1"], vec![Overwrite]),
            (("1", "1"), &["1"], vec![AsLogged]),
            (("1", "1"), &[], vec![]),
            (("1", ""), &["1"], vec![AsLogged]),
            (("1", ""), &[], vec![]),
            (("1", "2"), &["1"], vec![AsLogged]),
            (("1", "2"), &["1", "2"], vec![Delete, Overwrite]),
            (("1", "2"), &["2"], vec![Overwrite]),
            (("1", "2"), &[], vec![Insert]),
        ] {
            assert_eq!(of(&[change], there), [expected], "{change:?} at {there:?}");
        }
    }

    #[test]
    fn a_change_sees_the_changes_before_it() {
        // A row that is inserted, changed and deleted again.
        assert_eq!(
            of(&[("", "1"), ("1", "1"), ("1", "")], &["1"]),
            [vec![Overwrite], vec![AsLogged], vec![AsLogged]]
        );
        // A row that was deleted by the other side stays so, until the transaction itself inserts it.
        assert_eq!(
            of(&[("1", "1"), ("1", ""), ("", "1"), ("1", "1")], &[]),
            [vec![], vec![], vec![AsLogged], vec![AsLogged]]
        );
        // Keys that move on by one.
        assert_eq!(
            of(&[("2", "3"), ("1", "2")], &["1", "2"]),
            [vec![AsLogged], vec![AsLogged]]
        );
    }
}
