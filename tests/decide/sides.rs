//! Who wins where three members wrote the same row, and two of them met long before the third.

use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::conflicts::{ConflictingRow, Record, Sides, Stage};
use multimaster::mysql::rows::RowKey;

use crate::fixture::{at, executed, gtid, server, uuid, whole};

fn eleventh(member: u8) -> String {
    format!("{}:11", uuid(member))
}

/// `observer` stopped at the row of `origin`, and had the row of `had`. `knew`: whose rows, in the end.
fn record(observer: u8, origin: u8, had: u8, knew: &[u8], (stage, winner): (Stage, Option<u8>)) -> Record {
    about("t", observer, origin, had, knew, (stage, winner))
}

/// The same for the row of another table.
fn about(table: &str, observer: u8, origin: u8, had: u8, knew: &[u8], (stage, winner): (Stage, Option<u8>)) -> Record {
    let row = |member: u8| Some(format!("of {member}").into());
    let key = RowKey {
        schema: "d".into(),
        table: table.into(),
        columns: Vec::new(),
    };
    let knew = knew.iter().map(|member| gtid(&eleventh(*member)));
    Record {
        observer: uuid(observer),
        gtid: eleventh(origin),
        seen: at(0),
        stage,
        rows: vec![ConflictingRow {
            id: key.id(),
            key,
            mine: row(had),
            theirs: row(origin),
        }],
        for_a_person: None,
        winner,
        known: knew.fold(executed(), |known, gtid| known.union(&gtid)),
        kept: None,
    }
}

/// Members 0 and 2 met, and the row of 2 won. Member 1 was away; it met the row of 0 alone. Now its own row comes to member 2, which has its own and
/// not that of 0, although it has executed both.
#[test]
fn what_lost_at_a_member_is_not_what_it_has() {
    let mut observed = whole();
    observed.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![2],
    };
    let settled = (Stage::Settled, Some(2));
    server(&mut observed, 0).conflicts = vec![record(0, 2, 0, &[0], settled)];
    let third = Record {
        seen: at(20),
        ..record(1, 0, 1, &[0, 1], (Stage::Taken, Some(0)))
    };
    let last = Record {
        seen: at(30),
        ..record(2, 1, 2, &[0, 2], (Stage::Waiting, None))
    };
    server(&mut observed, 1).conflicts = vec![third.clone()];
    server(&mut observed, 2).conflicts = vec![record(2, 0, 2, &[0, 2], settled), last.clone()];
    let sides = Sides::of(&observed);
    assert_eq!((sides.winner(&third), sides.winner(&last)), (Some(2), Some(2)));
}

/// A transaction of member 0 wrote two rows. Member 2 stopped at it because of one of them, and won that; the other one it took from member 0.
#[test]
fn what_won_another_row_of_the_transaction_has_not_won_this_one() {
    let mut observed = whole();
    observed.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![2, 1, 0],
    };
    let third = Record {
        seen: at(20),
        ..record(1, 0, 1, &[0, 1], (Stage::Taken, Some(1)))
    };
    let last = Record {
        seen: at(30),
        ..record(2, 1, 0, &[0, 2], (Stage::Waiting, None))
    };
    server(&mut observed, 1).conflicts = vec![third];
    let other_row = about("u", 2, 0, 2, &[0, 2], (Stage::Settled, Some(2)));
    server(&mut observed, 2).conflicts = vec![other_row, last.clone()];
    assert_eq!(Sides::of(&observed).winner(&last), Some(1));
}
