//! Which writes of a losing side are late. In all cases member 0 wins.

use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::conflicts::{ConflictingRow, Late, Record, Sides, Stage};
use multimaster::decide::observed::Observed;
use multimaster::mysql::rows::RowKey;

use crate::fixture::{at, executed, gtid, server, uuid, whole};

fn nth(member: u8, number: u8) -> String {
    format!("{}:{number}", uuid(member))
}

/// `rows`: a letter each; with a `=` the row is the same on both sides. `knew`: transactions.
fn record(observer: u8, transaction: (u8, u8), seen: i64, rows: &str, knew: &[(u8, u8)]) -> Record {
    let row = |name: &str| ConflictingRow {
        id: name.trim_end_matches('=').into(),
        key: RowKey {
            schema: "d".into(),
            table: "t".into(),
            columns: Vec::new(),
        },
        mine: Some("m".into()),
        theirs: Some(if name.ends_with('=') { "m" } else { "t" }.into()),
    };
    let knew = knew.iter().map(|(member, number)| gtid(&nth(*member, *number)));
    Record {
        observer: uuid(observer),
        gtid: nth(transaction.0, transaction.1),
        seen: at(seen),
        stage: Stage::Taken,
        rows: rows.split_whitespace().map(row).collect(),
        for_a_person: None,
        winner: Some(0),
        known: knew.fold(executed(), |known, gtid| known.union(&gtid)),
        kept: None,
    }
}

fn observed(records: &[Record]) -> Observed {
    let mut observed = whole();
    observed.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0, 1, 2],
    };
    for ordinal in 0..3 {
        let own = records.iter().filter(|record| record.observer == uuid(ordinal));
        server(&mut observed, ordinal).conflicts = own.cloned().collect();
    }
    observed
}

/// Whether each of these changes is late: transaction, row.
fn of(records: &[Record], changes: &[((u8, u8), &str)]) -> Vec<bool> {
    let observed = observed(records);
    let late = Late::of(&observed, &Sides::of(&observed), records);
    let changes = changes.iter();
    changes
        .map(|((member, number), row)| late.is(&nth(*member, *number), row))
        .collect()
}

/// 1 has taken the transaction of 0. That of 1 was taken at 2 before anybody knew of 0, and 2 has just stopped at that of 0.
#[test]
fn a_side_that_wins_is_never_late() {
    let mut early = record(2, (1, 11), 1, "x", &[(2, 11), (1, 11)]);
    early.winner = Some(1);
    let mut just = record(2, (0, 11), 3, "x", &[(2, 11), (1, 11)]);
    (just.stage, just.winner) = (Stage::Waiting, None);
    let records = [record(1, (0, 11), 2, "x", &[(1, 11), (0, 11)]), early, just];
    let changes = [((0, 11), "x"), ((1, 11), "x"), ((2, 11), "x")];
    assert_eq!(of(&records, &changes), [false, true, true]);
    // Without a winner nobody loses.
    let observed = whole();
    let mut open = record(1, (0, 11), 1, "x", &[(1, 11)]);
    open.winner = None;
    let open = [open];
    assert!(Late::of(&observed, &Sides::of(&observed), &open).losers().is_empty());
}

/// 0 wrote x and then y, each in a transaction; 1 wrote both in one. Clients of 1 change x when 1 has taken the first, and y before it has taken the
/// second.
#[test]
fn what_a_side_wrote_in_knowledge_of_the_winners_row_is_not_late() {
    let records = [
        record(1, (0, 11), 1, "x y=", &[(1, 11)]),
        record(1, (0, 12), 3, "y", &[(1, 11), (1, 12), (1, 13), (0, 11)]),
        record(0, (1, 11), 2, "x y", &[(0, 11), (0, 12), (1, 11), (1, 12), (1, 13)]),
    ];
    let changes = [((1, 11), "x"), ((1, 11), "y"), ((1, 12), "x"), ((1, 13), "y")];
    assert_eq!(of(&records, &changes), [true, true, false, true]);
}

/// The row was deleted everywhere before the first conflict was settled, and both inserted it again. 1 changed it while it stood at the second.
#[test]
fn a_side_that_meets_the_winner_again_has_written_in_ignorance_again() {
    let first = record(1, (0, 11), 1, "x", &[(1, 11), (0, 11)]);
    let other = record(0, (1, 11), 2, "x", &[(0, 11), (1, 11)]);
    let mut again = record(1, (0, 13), 5, "x", &[(0, 11), (1, 11), (1, 12), (1, 13), (0, 13)]);
    let back = record(0, (1, 12), 4, "x", &[(0, 11), (1, 11), (0, 13), (1, 12)]);
    let changes = [((1, 12), "x"), ((1, 13), "x"), ((1, 14), "x")];
    let records = [first.clone(), other.clone(), back.clone(), again.clone()];
    assert_eq!(of(&records, &changes), [true, true, false]);
    again.stage = Stage::Waiting;
    let mut back = back;
    back.known = back.known.union(&gtid(&nth(1, 13)));
    let records = [first, other, back, again];
    assert_eq!(of(&records, &changes), [true, true, false]);
}

/// A transaction of 1 changed x in knowledge of the row of 0, and y that 0 had deleted.
#[test]
fn a_row_of_a_transaction_is_not_late_because_another_one_is() {
    let records = [
        record(1, (0, 11), 1, "x", &[(1, 11), (0, 11)]),
        record(0, (1, 11), 2, "x y", &[(0, 11), (1, 11)]),
        record(0, (1, 14), 4, "y x=", &[(0, 11), (0, 13), (1, 11), (1, 14)]),
    ];
    assert_eq!(of(&records, &[((1, 14), "x"), ((1, 14), "y")]), [false, true]);
}

/// 1 stands at the transaction of 0. What its clients write meanwhile is known by the record of 0 only, which has stopped once more.
#[test]
fn until_a_side_has_taken_the_winners_row_it_writes_in_ignorance() {
    let mut stands = record(1, (0, 11), 1, "x", &[(1, 11)]);
    stands.stage = Stage::Waiting;
    let first = record(0, (1, 11), 2, "x", &[(0, 11), (1, 11)]);
    let mut second = record(0, (1, 13), 3, "y", &[(0, 11), (1, 11), (1, 12)]);
    second.stage = Stage::Settling;
    let records = [stands, first, second];
    assert_eq!(of(&records, &[((1, 12), "x"), ((0, 12), "x")]), [true, false]);
}

/// The transaction of 2 came to 1 when 1 had taken that of 0, and had changed the row since.
#[test]
fn a_third_side_tells_nothing_of_what_another_one_knew() {
    let records = [
        record(1, (0, 11), 1, "x", &[(1, 11), (0, 11)]),
        record(1, (2, 11), 3, "x", &[(1, 11), (0, 11), (1, 12)]),
        record(0, (2, 11), 2, "x", &[(0, 11), (2, 11)]),
    ];
    let changes = [((1, 11), "x"), ((1, 12), "x"), ((2, 11), "x")];
    assert_eq!(of(&records, &changes), [true, false, true]);
}

/// 1 and 2 had settled it between them, and 2 had re-asserted its row. Then came 0, which wins: what 2 had written for it is late, and what 2 writes
/// after it has taken the row of 0 is not.
#[test]
fn what_a_winner_of_before_has_re_asserted_is_late() {
    let tagged = |number: u8| format!("{}:multimaster:{number}", uuid(2));
    let mut met = record(2, (0, 11), 2, "x", &[(2, 11), (1, 11), (0, 11)]);
    met.known = met.known.union(&gtid(&tagged(1)));
    let records = [met, record(0, (1, 11), 1, "x", &[(0, 11), (1, 11)])];
    let observed = observed(&records);
    let late = Late::of(&observed, &Sides::of(&observed), &records);
    assert!(late.is(&tagged(1), "x"));
    assert!(!late.is(&tagged(2), "x"));
}

/// 0 has the row of 2, and meets that of 1. It wrote none itself, so it does not win, although it is preferred.
#[test]
fn who_has_only_the_row_of_another_is_no_side() {
    let had = |mut record: Record, mine: &str| {
        record.rows[0].mine = Some(mine.into());
        record
    };
    let mut first = had(record(1, (2, 11), 1, "x", &[(1, 11)]), "of 1");
    let mut bystander = had(record(0, (1, 11), 2, "x", &[(2, 11)]), "of 2");
    let mut last = had(record(2, (1, 11), 3, "x", &[(2, 11)]), "of 2");
    (first.winner, bystander.winner) = (Some(1), Some(1));
    (last.stage, last.winner) = (Stage::Waiting, None);
    let records = [first, bystander, last];
    let observed = observed(&records);
    let sides = Sides::of(&observed);
    for record in &records {
        assert_eq!(sides.winner(record), Some(1), "{record:?}");
    }
}

/// 0 has won against 1, and that is settled. 2 was away, and had met only the transaction of 1; its own one came to 1, which had the row of 0 by then.
#[test]
fn who_had_taken_the_winners_row_in_an_earlier_conflict_has_copied_it() {
    let mut settled = [
        record(1, (0, 11), 1, "x", &[(1, 11), (0, 11)]),
        record(0, (1, 11), 2, "x", &[(0, 11), (1, 11)]),
    ];
    for side in &mut settled {
        side.stage = Stage::Settled;
    }
    let own = record(1, (2, 11), 4, "x", &[(1, 11), (0, 11)]);
    let open = [record(2, (1, 11), 3, "x", &[(2, 11), (1, 11)]), own.clone()];
    let had = |records: &[Record], own: &Record| {
        let observed = observed(records);
        Sides::of(&observed).had_winning_rows(&observed, own)
    };
    assert!(had(&[settled.as_slice(), &open].concat(), &own));
    assert!(!had(&open, &own));
    // It stopped before it knew the row of 0.
    let early = record(1, (2, 11), 4, "x", &[(1, 11)]);
    assert!(!had(
        &[settled.as_slice(), &[open[0].clone(), early.clone()]].concat(),
        &early
    ));
    // That conflict was about one of two rows.
    let two = record(1, (2, 11), 4, "x y", &[(1, 11), (0, 11)]);
    assert!(!had(
        &[settled.as_slice(), &[open[0].clone(), two.clone()]].concat(),
        &two
    ));
    // 0 has written the row anew, and 1 has copied its own.
    let anew = [
        record(1, (2, 12), 5, "x", &[(1, 11), (0, 11), (1, 12)]),
        record(2, (0, 12), 6, "x", &[(2, 12), (1, 11), (0, 11)]),
    ];
    assert!(!had(&[settled.as_slice(), &anew].concat(), &anew[0]));
}
