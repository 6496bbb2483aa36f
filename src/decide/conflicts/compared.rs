//! What follows when the rows of a conflict were compared on all members of the ring.

use std::collections::BTreeSet;

use serde_json::Value;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rows are equal on all members: the conflict is settled.
    Settled,
    /// The member that wins writes its rows to the binary log again, for all members.
    Reassert,
    /// A person makes the rows equal. Why, and how.
    ForAPerson(String),
}

/// `images`: the rows of the conflict at each member of the ring, in the same order at each. `at`: which of them has the rows that win, with its
/// name. `winner_is_known`: whether any do. `is_late`: whether a late write changed one of its rows last.
pub fn outcome(
    images: &[Vec<Option<Value>>],
    (at, name): (usize, &str),
    winner_is_known: bool,
    is_late: bool,
) -> Outcome {
    let is_late = is_late && winner_is_known;
    if !is_late && images.windows(2).all(|two| two[0] == two[1]) {
        return Outcome::Settled;
    }
    if !winner_is_known {
        return Outcome::ForAPerson("it was mended by hand, and the rows are not equal on all members".into());
    }
    if let Some(columns) = unlike(images) {
        return Outcome::ForAPerson(format!(
            "its table does not have the same columns on all members ({columns}), so its rows cannot be made equal: make the definitions equal"
        ));
    }
    let own = images.get(at).map_or(&[][..], Vec::as_slice);
    let has = |member: &[Option<Value>], row: usize| member.get(row).is_some_and(Option::is_some);
    let differs = |row: usize| images.iter().any(|other| other.get(row) != own.get(row));
    if is_late || (0..own.len()).any(|row| has(own, row) && differs(row)) {
        return Outcome::Reassert;
    }
    // A DELETE without a row is not logged, so this member cannot say it to the others. Another one could; but a client may have written the row
    // again meanwhile, and the last copy of a write is never deleted.
    Outcome::ForAPerson(format!(
        "a row is not there at {name}, which wins, while other members have it: a client has deleted it, or it was mended by hand. Insert or delete \
         it where that is wrong, with sql_log_bin = 0 and foreign_key_checks = 0"
    ))
}

/// Columns that an image of a row has at one member, and not at another.
fn unlike(images: &[Vec<Option<Value>>]) -> Option<String> {
    let columns = |member: &[Option<Value>], row: usize| -> Option<BTreeSet<String>> {
        let image = member.get(row)?.as_ref()?;
        Some(image.as_object()?.keys().cloned().collect())
    };
    let rows = images.iter().map(Vec::len).max()?;
    (0..rows).find_map(|row| {
        let mut all = images.iter().filter_map(|member| columns(member, row));
        let first = all.next()?;
        let other = all.find(|other| *other != first)?;
        let differing: Vec<String> = first.symmetric_difference(&other).cloned().collect();
        Some(differing.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, outcome};
    use serde_json::{Value, json};

    /// Members separated by `/`, rows by spaces; `-`: no row.
    fn of(images: &str, winner_is_known: bool, is_late: bool) -> &'static str {
        let row = |text: &str| (text != "-").then(|| Value::from(text));
        let member = |text: &str| text.split_whitespace().map(row).collect();
        let images: Vec<Vec<Option<Value>>> = images.split('/').map(member).collect();
        match outcome(&images, (0, "demo-0"), winner_is_known, is_late) {
            Outcome::Settled => "settled",
            Outcome::Reassert => "reassert",
            Outcome::ForAPerson(why) if why.contains("demo-0") => "missing",
            Outcome::ForAPerson(_) => "person",
        }
    }

    #[test]
    fn rows_with_other_columns_are_not_written_again_for_ever() {
        let images = |second: Value| vec![vec![Some(json!({"id": 1, "v": 2}))], vec![Some(second)]];
        let of = |second| outcome(&images(second), (0, "demo-0"), true, false);
        assert_eq!(of(json!({"id": 1, "v": 3})), Outcome::Reassert);
        let told = of(json!({"id": 1, "v": 2, "w": null}));
        assert!(
            matches!(&told, Outcome::ForAPerson(why) if why.contains("(w)")),
            "{told:?}"
        );
    }

    #[test]
    fn equal_rows_settle_it_and_others_are_re_asserted_if_somebody_wins() {
        for (images, winner_is_known, is_late, expected) in [
            ("a b / a b / a b", true, false, "settled"),
            ("- / - / -", true, false, "settled"),
            ("a", true, false, "settled"),
            ("a / a / a", false, true, "settled"),
            // Equal, and yet the loser's: a late write has gone everywhere.
            ("a / a / a", true, true, "reassert"),
            ("a b / a b / a c", true, false, "reassert"),
            ("a / a / -", true, false, "reassert"),
            ("- a / - b / - a", true, false, "reassert"),
            ("- / a / -", true, false, "missing"),
            ("- a - / - a - / b a c", true, false, "missing"),
            ("- / a / -", true, true, "reassert"),
            ("a / b / a", false, false, "person"),
        ] {
            assert_eq!(of(images, winner_is_known, is_late), expected, "{images}");
        }
    }
}
