//! Conflicts: recorded, decided by policy or by a person, settled, compared.

use std::collections::BTreeMap;

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::conflicts::{ConflictingRow, Record, Sides, Stage, related};
use multimaster::decide::observed::{Observed, SqlError};
use multimaster::decide::step::{Action, Remedy, Step};
use multimaster::decide::{Decision, decide};
use multimaster::mysql::rows::RowKey;
use multimaster::mysql::transaction::Cell;
use multimaster::names::ANNOTATION_SETTLE;

use crate::fixture::{
    at, channel, condition, executed, fence, gtid, link, member_status, pod, server, steps, unreachable, uuid, whole,
};

/// The eleventh transaction of a member: in nobody's `executed` but its own.
fn eleventh(ordinal: u8) -> String {
    format!("{}:11", uuid(ordinal))
}

fn key() -> RowKey {
    RowKey {
        schema: "app".into(),
        table: "orders".into(),
        columns: vec![("id".into(), Cell::Number("7".into()))],
    }
}

fn record(observer: u8, origin: u8) -> Record {
    Record {
        observer: uuid(observer),
        gtid: eleventh(origin),
        seen: at(i64::from(observer)),
        stage: Stage::Waiting,
        rows: vec![ConflictingRow {
            id: key().id(),
            key: key(),
            mine: Some("m".into()),
            theirs: Some("t".into()),
        }],
        for_a_person: None,
        winner: None,
        known: executed().union(&gtid(&eleventh(observer))),
        kept: None,
    }
}

/// Members 0 and 1 inserted the same key: 1 stands at the row of 0, and 0 at the row of 1, which has passed 2.
fn conflict() -> Observed {
    let mut observed = whole();
    for (ordinal, held) in [(0, 0), (1, 1), (2, 1)] {
        server(&mut observed, ordinal).executed = executed().union(&gtid(&eleventh(held)));
    }
    stop(&mut observed, 1, 0);
    stop(&mut observed, 0, 1);
    observed
}

fn stop(observed: &mut Observed, observer: u8, origin: u8) {
    let link = link(observed, observer);
    link.applier_running = false;
    link.blocked = Some(eleventh(origin));
    link.applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry '7' for key 'orders.PRIMARY'".into(),
    });
}

fn recorded() -> Observed {
    let mut observed = conflict();
    server(&mut observed, 0).conflicts = vec![record(0, 1)];
    server(&mut observed, 1).conflicts = vec![record(1, 0)];
    observed
}

fn preferring(mut observed: Observed, prefer: &[u8]) -> Observed {
    observed.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: prefer.into(),
    };
    observed
}

fn annotated(mut observed: Observed, text: &str) -> Observed {
    observed.cluster.metadata.annotations = Some(BTreeMap::from([(ANNOTATION_SETTLE.to_owned(), text.to_owned())]));
    observed
}

fn settled(decision: &Decision) -> (u8, Remedy, Option<u8>) {
    match steps(decision)[..] {
        [
            Step::Member {
                ordinal,
                action: Action::Settle { remedy, winner, .. },
                ..
            },
        ] => (*ordinal, *remedy, *winner),
        _ => panic!("{:?}", decision.steps),
    }
}

#[test]
fn it_is_recorded_first_whatever_the_policy() {
    for observed in [conflict(), preferring(conflict(), &[1])] {
        let decision = decide(&observed, at(60));
        let [
            Step::Member {
                ordinal: 0,
                action: Action::Examine { upstream: 2, gtid },
                ..
            },
        ] = steps(&decision)[..]
        else {
            panic!("{:?}", decision.steps)
        };
        assert_eq!(*gtid, eleventh(1));
        assert_eq!(decision.status.conflicts, 2);
        assert_eq!(member_status(&decision, 0).state, MemberState::Halted);
    }
}

#[test]
fn it_is_not_examined_while_its_upstream_cannot_be_read() {
    let mut observed = conflict();
    link(&mut observed, 0).applier_running = true;
    link(&mut observed, 0).applier_error = None;
    unreachable(&mut observed, 0);
    assert!(
        !steps(&decide(&observed, at(60)))
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::Examine { .. })))
    );
}

/// It was opened just now, and a channel of an earlier ring came to stand at a conflict before it was behind the Service.
#[test]
fn a_halted_member_that_has_no_clients_yet_does_not_serve() {
    let mut observed = whole();
    for (labelled, status) in [(true, "True"), (false, "False")] {
        pod(&mut observed, 1).serving = labelled;
        server(&mut observed, 1).channels = vec![channel(0), channel(2)];
        let left_over = &mut server(&mut observed, 1).channels[1];
        left_over.applier_running = false;
        left_over.blocked = Some(eleventh(2));
        left_over.applier_error = Some(SqlError {
            number: 1062,
            text: "Duplicate entry".into(),
        });
        let decision = decide(&observed, at(60));
        assert_eq!(member_status(&decision, 1).state, MemberState::Halted);
        assert_eq!(condition(&decision, conditions::READY).status, status);
        let available = &condition(&decision, conditions::AVAILABLE).message;
        assert_eq!(available.contains("demo-1"), labelled, "{available}");
    }
}

#[test]
fn halt_waits_for_a_person_and_says_what_to_type() {
    let decision = decide(&recorded(), at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let free = condition(&decision, conditions::CONFLICT_FREE);
    assert_eq!(
        (free.status.as_str(), free.reason.as_str()),
        ("False", Reason::ApplierStopped.as_ref())
    );
    let id = key().id();
    for words in [
        "app.orders (id=7)",
        &format!("{ANNOTATION_SETTLE}={id}=demo-"),
        "demo-0 and demo-1",
    ] {
        assert!(free.message.contains(words), "{words}: {}", free.message);
    }
}

#[test]
fn a_person_names_the_winner() {
    let id = key().id();
    let decision = decide(&annotated(recorded(), &format!("{id}=demo-1")), at(60));
    assert_eq!(settled(&decision), (0, Remedy::Take, Some(1)));
    let decision = decide(
        &annotated(recorded(), &format!(" 00000000=demo-1 , {id} = demo-0")),
        at(60),
    );
    assert_eq!(settled(&decision), (0, Remedy::Keep, Some(0)));
}

#[test]
fn a_wrong_annotation_settles_nothing_and_is_named() {
    let id = key().id();
    for wrong in [
        "demo-0",
        &format!("{id}=demo-3"),
        &format!("{id}=demo-0,x"),
        &format!("{id}=other-0"),
    ] {
        let decision = decide(&annotated(recorded(), wrong), at(60));
        assert!(steps(&decision).is_empty(), "{wrong}: {:?}", decision.steps);
        let progressing = condition(&decision, conditions::PROGRESSING);
        assert_eq!(progressing.reason, Reason::InvalidAnnotation.as_ref(), "{wrong}");
        assert!(
            progressing.message.contains(ANNOTATION_SETTLE),
            "{}",
            progressing.message
        );
    }
}

#[test]
fn an_annotation_that_names_no_side_or_no_conflict_settles_nothing_and_is_told() {
    let id = key().id();
    for (orders, told) in [
        (format!("{id}=demo-2"), "names demo-2, which wrote none of its rows"),
        ("00000000=demo-1".into(), "00000000 is the id of no open conflict"),
    ] {
        let decision = decide(&annotated(recorded(), &orders), at(60));
        assert!(steps(&decision).is_empty(), "{orders}: {:?}", decision.steps);
        let message = &condition(&decision, conditions::CONFLICT_FREE).message;
        assert!(message.contains(told), "{message}");
        assert!(message.contains(&format!("settle={id}=demo-0")), "{message}");
    }
    // What was settled long ago is no mistake.
    let decision = decide(&annotated(whole(), "00000000=demo-1"), at(60));
    assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "True");
}

/// A transaction is taken whole.
#[test]
fn two_winners_of_one_transaction_are_told() {
    let mut observed = recorded();
    let record = &mut server(&mut observed, 0).conflicts[0];
    record.rows.push(ConflictingRow {
        id: "ffffffff".into(),
        ..record.rows[0].clone()
    });
    // An older side of one of its rows decides nothing then.
    server(&mut observed, 1).conflicts[0].seen = at(-10);
    let order = format!("{}=demo-0,ffffffff=demo-1", key().id());
    let observed = annotated(observed, &order);
    assert_eq!(
        Sides::of(&observed).winner(&server(&mut observed.clone(), 0).conflicts[0]),
        None
    );
    let message = condition(&decide(&observed, at(60)), conditions::CONFLICT_FREE)
        .message
        .clone();
    assert!(
        message.contains("names several members for the rows of this one"),
        "{message}"
    );
}

#[test]
fn both_sides_are_settled_for_the_same_winner() {
    for (prefer, at_0, at_1) in [
        (&[0][..], (0, Remedy::Keep, Some(0)), (1, Remedy::Take, Some(0))),
        (&[2, 1], (0, Remedy::Take, Some(1)), (1, Remedy::Keep, Some(1))),
        (&[2], (0, Remedy::Keep, Some(0)), (1, Remedy::Take, Some(0))),
    ] {
        let mut observed = preferring(recorded(), prefer);
        assert_eq!(settled(&decide(&observed, at(60))), at_0, "{prefer:?}");
        let link = link(&mut observed, 0);
        link.applier_running = true;
        link.applier_error = None;
        server(&mut observed, 0).executed = executed().union(&gtid(&eleventh(0))).union(&gtid(&eleventh(1)));
        server(&mut observed, 0).conflicts[0].stage = Stage::Taken;
        server(&mut observed, 0).conflicts[0].winner = at_0.2;
        assert_eq!(settled(&decide(&observed, at(60))), at_1, "{prefer:?}");
    }
}

/// The row at the third member is that of the first side, not its own: that it is preferred itself means nothing.
#[test]
fn a_later_member_follows_what_was_decided_at_the_first() {
    let mut observed = preferring(whole(), &[2, 0, 1]);
    stop(&mut observed, 2, 1);
    let mut first = record(1, 0);
    first.stage = Stage::Settled;
    first.winner = Some(0);
    server(&mut observed, 1).conflicts = vec![first];
    let mut third = record(2, 1);
    third.known = third.known.union(&gtid(&eleventh(0)));
    server(&mut observed, 2).conflicts = vec![third];
    assert_eq!(settled(&decide(&observed, at(60))), (2, Remedy::Take, Some(0)));
    // One that was written after its member knew is a conflict of its own.
    server(&mut observed, 1).conflicts[0].known = executed();
    server(&mut observed, 2).conflicts = vec![record(2, 1)];
    assert_eq!(settled(&decide(&observed, at(60))), (2, Remedy::Keep, Some(2)));
}

/// Every member has executed what was settled, so that says nothing of what was written later.
#[test]
fn a_settled_conflict_does_not_decide_the_next_one_of_its_row() {
    for (policy, expected) in [(ConflictPolicy::Halt, None), (ConflictPolicy::Prefer, Some(2))] {
        let mut observed = whole();
        observed.cluster.spec.conflicts = Conflicts {
            policy,
            prefer: vec![0, 2, 1],
        };
        let all = executed().union(&gtid(&eleventh(0))).union(&gtid(&eleventh(1)));
        for ordinal in [1, 2] {
            let mut settled = record(ordinal, 0);
            (settled.stage, settled.winner, settled.known) = (Stage::Settled, Some(0), all.clone());
            server(&mut observed, ordinal).conflicts = vec![settled];
        }
        let mut next = record(2, 1);
        next.gtid = format!("{}:12", uuid(1));
        (next.seen, next.known) = (at(30), all);
        server(&mut observed, 2).conflicts.push(next.clone());
        assert_eq!(Sides::of(&observed).winner(&next), expected, "{policy:?}");
    }
}

/// Members 0, 1 and 2 inserted the row. 1 has taken that of 0; 2 stands at that of 1, and has its own.
#[test]
fn a_third_side_writes_its_own_row_again_only_if_it_wins() {
    for (prefer, expected) in [
        (&[0, 1, 2][..], (2, Remedy::Take, Some(0))),
        (&[1, 0, 2], (2, Remedy::Take, Some(1))),
        (&[2, 1, 0], (2, Remedy::Keep, Some(2))),
    ] {
        let mut observed = preferring(whole(), prefer);
        stop(&mut observed, 2, 1);
        let mut first = record(1, 0);
        (first.stage, first.winner) = (Stage::Taken, Some(0));
        server(&mut observed, 1).conflicts = vec![first];
        let mut third = record(2, 1);
        third.rows[0].mine = Some("of 2".into());
        server(&mut observed, 2).conflicts = vec![third];
        assert_eq!(settled(&decide(&observed, at(60))), expected, "{prefer:?}");
    }
}

/// Members 0 and 2 met first, and 0 won. 1 is preferred to both, and has its own row when it stops at that of 0.
#[test]
fn a_side_that_is_met_later_can_win_all_of_it() {
    let mut observed = preferring(whole(), &[1]);
    stop(&mut observed, 1, 0);
    let mut first = record(0, 2);
    (first.stage, first.winner) = (Stage::Taken, Some(0));
    first.rows[0].mine = Some("of 0".into());
    server(&mut observed, 0).conflicts = vec![first.clone()];
    server(&mut observed, 1).conflicts = vec![record(1, 0)];
    assert_eq!(settled(&decide(&observed, at(60))), (1, Remedy::Keep, Some(1)));
    assert_eq!(Sides::of(&observed).winner(&first), Some(1));
}

/// Member 1 has taken a transaction of 0, which wins, and which made way for its row b. Member 2 has neither met b nor c.
#[test]
fn what_the_winner_had_to_make_way_for_is_contested_everywhere() {
    let row = |id: &str, mine: Option<&str>, theirs: Option<&str>| ConflictingRow {
        id: id.into(),
        key: key(),
        mine: mine.map(Into::into),
        theirs: theirs.map(Into::into),
    };
    let (mut taken, mut kept) = (record(1, 0), record(2, 1));
    (taken.winner, kept.winner) = (Some(0), Some(0));
    taken.rows = vec![
        row("a", Some("1"), Some("0")),
        row("b", Some("1"), None),
        // Of another side.
        row("c", Some("1"), Some("1")),
    ];
    kept.rows = vec![
        row("a", Some("0"), Some("1")),
        row("b", None, None),
        row("c", None, None),
    ];
    let records = [taken, kept];
    let ids = |ordinal: u8| {
        let mut ids: Vec<&str> = Sides::of(&whole())
            .contested(&whole(), &uuid(ordinal), &records)
            .into_iter()
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(2), ["a", "b"]);
    assert_eq!(ids(0), ["a", "b"]);
}

#[test]
fn what_the_operator_wrote_itself_is_always_taken() {
    let mut observed = whole();
    stop(&mut observed, 1, 0);
    link(&mut observed, 1).blocked = Some(format!("{}:multimaster:3", uuid(0)));
    assert_eq!(settled(&decide(&observed, at(60))), (1, Remedy::Take, Some(0)));

    // It has met a row as its winner did not have it, and the operator ended before it was taken.
    let met = Record {
        gtid: format!("{}:multimaster:3", uuid(0)),
        stage: Stage::Settling,
        winner: Some(0),
        ..record(1, 0)
    };
    server(&mut observed, 1).conflicts = vec![met];
    assert_eq!(settled(&decide(&observed, at(60))), (1, Remedy::Take, Some(0)));

    // Unless it was tried, and could not be.
    let why = "a row takes a statement that is too long";
    server(&mut observed, 1).conflicts = vec![Record {
        gtid: format!("{}:multimaster:3", uuid(0)),
        for_a_person: Some(why.into()),
        ..record(1, 0)
    }];
    let decision = decide(&preferring(observed, &[0]), at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert!(condition(&decision, conditions::CONFLICT_FREE).message.contains(why));
}

/// A client of member 2, which is preferred, has deleted the row before it was re-asserted.
#[test]
fn who_meets_what_was_re_asserted_does_not_win_because_of_that() {
    let mut observed = preferring(recorded(), &[2, 0, 1]);
    let met = Record {
        gtid: format!("{}:multimaster:3", uuid(0)),
        winner: Some(0),
        ..record(2, 0)
    };
    server(&mut observed, 2).conflicts = vec![met.clone()];
    let sides = Sides::of(&observed);
    for record in [&record(0, 1), &record(1, 0), &met] {
        assert_eq!(sides.winner(record), Some(0), "{}", record.gtid);
    }
}

/// The last steps about it did not end.
#[test]
fn what_waits_holds_up_nothing_else() {
    let mut observed = preferring(recorded(), &[0]);
    assert!(matches!(settled(&decide(&observed, at(60))), (_, _, Some(0))));
    observed.conflicts_wait = true;
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    observed.update_revision = Some("b".into());
    fence(&mut observed, 2);
    assert!(!steps(&decide(&observed, at(60))).is_empty());
}

#[test]
fn the_creation_of_what_is_there_is_skipped() {
    let mut observed = recorded();
    server(&mut observed, 0).conflicts[0].stage = Stage::Identical;
    assert_eq!(settled(&decide(&observed, at(60))), (0, Remedy::Skip, None));
}

#[test]
fn what_only_a_person_can_settle_is_left_and_said() {
    let mut observed = preferring(recorded(), &[0]);
    for ordinal in [0, 1] {
        server(&mut observed, ordinal).conflicts[0].for_a_person = Some("it has no primary key".into());
    }
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert!(
        condition(&decision, conditions::CONFLICT_FREE)
            .message
            .contains("no primary key")
    );
}

/// Only `act` sees triggers; what it recorded holds whatever a policy or an annotation says.
#[test]
fn what_waits_for_a_person_is_shown_with_both_sides() {
    let why = "the trigger orders_bd would fire";
    let id = key().id();
    let by_policy = preferring(recorded(), &[0]);
    let by_order = annotated(recorded(), &format!("{id}=demo-0"));
    for mut observed in [by_policy, by_order] {
        for ordinal in [0, 1] {
            server(&mut observed, ordinal).conflicts[0].for_a_person = Some(why.into());
        }
        let decision = decide(&observed, at(60));
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        let free = condition(&decision, conditions::CONFLICT_FREE);
        assert_eq!(
            (free.status.as_str(), free.reason.as_str()),
            ("False", Reason::ApplierStopped.as_ref())
        );
        for words in [
            why,
            "demo-0 and demo-1 both wrote app.orders (id=7)",
            &id,
            &eleventh(0),
            "for a person",
        ] {
            assert!(free.message.contains(words), "{words}: {}", free.message);
        }
    }
}

#[test]
fn what_a_person_mended_unequally_can_be_settled_by_naming_a_winner_and_it_says_so() {
    let mut observed = taken();
    observed.cluster.spec.conflicts = Conflicts::default();
    for ordinal in [0, 1] {
        let record = &mut server(&mut observed, ordinal).conflicts[0];
        record.winner = None;
        record.for_a_person = Some("the rows are not equal".into());
    }
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let told = &condition(&decision, conditions::CONFLICT_FREE).message;
    let order = format!("{ANNOTATION_SETTLE}={}=demo-0", key().id());
    assert!(told.contains("not equal") && told.contains(&order), "{told}");
    let decision = decide(&annotated(observed, &format!("{}=demo-0", key().id())), at(60));
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                action: Action::CompareRows { reassert: true, .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_person_can_say_that_it_is_settled_once_its_transaction_is_executed() {
    let order = format!("{}=settled", key().id());
    let decision = decide(&annotated(recorded(), &order), at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let told = &condition(&decision, conditions::CONFLICT_FREE).message;
    assert!(
        told.contains("says settled, and its transaction is not executed yet"),
        "{told}"
    );

    let mut observed = taken();
    // Whose rows can be compared and made equal is not left to a word that may be an old one.
    let decision = decide(&annotated(observed.clone(), &order), at(60));
    let compares = |step: &&Step| matches!(step.on_member(), Some(Action::CompareRows { .. }));
    assert!(steps(&decision).iter().any(compares), "{:?}", decision.steps);
    for ordinal in [0, 1] {
        let record = &mut server(&mut observed, ordinal).conflicts[0];
        record.for_a_person = Some("there is no table".into());
    }
    let told = decide(&observed, at(60));
    let told = &condition(&told, conditions::CONFLICT_FREE).message;
    assert!(told.contains(&format!(" or {order} if its rows are right")), "{told}");
    let mut observed = annotated(observed, &order);
    for ordinal in [0, 1] {
        let decision = decide(&observed, at(60));
        let [step] = steps(&decision)[..] else {
            panic!("{:?}", decision.steps)
        };
        let (observer, gtid) = (uuid(ordinal), eleventh(1 - ordinal));
        let settles = Action::NoteSettled { observer, gtid };
        assert_eq!(*step, Step::member(ordinal, uuid(ordinal), settles));
        server(&mut observed, ordinal).conflicts[0].stage = Stage::Settled;
    }
    assert!(steps(&decide(&observed, at(60))).is_empty());
    // Its observer is no more: any member that has the record settles it, and it is the only one that is open.
    let mut left = server(&mut observed, 0).conflicts[0].clone();
    left.stage = Stage::Taken;
    left.for_a_person = Some("there is no table".into());
    left.observer = "99999999-0000-0000-0000-000000000000".into();
    server(&mut observed, 1).conflicts.push(left.clone());
    let decision = decide(&observed, at(60));
    let (observer, gtid) = (left.observer, left.gtid);
    let settles = Action::NoteSettled { observer, gtid };
    assert_eq!(steps(&decision), [&Step::member(1, uuid(1), settles)]);
}

/// Both have taken the other's transaction.
fn taken() -> Observed {
    let mut observed = preferring(whole(), &[0]);
    let all = executed().union(&gtid(&eleventh(0))).union(&gtid(&eleventh(1)));
    for (observer, origin) in [(0, 1), (1, 0)] {
        let mut record = record(observer, origin);
        record.stage = Stage::Taken;
        record.winner = Some(0);
        record.known = all.clone();
        server(&mut observed, observer).conflicts = vec![record];
    }
    for ordinal in 0..3 {
        server(&mut observed, ordinal).executed = all.clone();
    }
    observed
}

#[test]
fn rows_are_compared_when_every_member_has_what_the_sides_wrote() {
    let mut observed = taken();
    let decision = decide(&observed, at(60));
    let [
        Step::Member {
            ordinal: 0,
            action: Action::CompareRows {
                conflicts,
                reassert: true,
            },
            ..
        },
    ] = steps(&decision)[..]
    else {
        panic!("{:?}", decision.steps)
    };
    assert_eq!(conflicts.len(), 2);
    let free = condition(&decision, conditions::CONFLICT_FREE);
    assert_eq!(
        (free.status.as_str(), free.reason.as_str()),
        ("False", Reason::Settling.as_ref())
    );

    server(&mut observed, 2).executed = executed();
    assert!(steps(&decide(&observed, at(60))).is_empty());
}

#[test]
fn rows_that_a_person_has_to_make_equal_are_compared_when_nothing_else_is_due_and_no_more_often_than_that() {
    let mut observed = preferring(taken(), &[0]);
    for ordinal in 0..3 {
        for record in &mut server(&mut observed, ordinal).conflicts {
            record.for_a_person = Some("it was mended by hand".into());
        }
    }
    let decision = decide(&observed, at(60));
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                action: Action::CompareRows { .. },
                ..
            }]
        ),
        "{decision:?}"
    );
    let period = observed.cluster.spec.failure_detection.period_seconds;
    assert_eq!(decision.requeue, std::time::Duration::from_secs(period.into()));
    // A member that waits for its restart does not wait for this.
    crate::fixture::pod(&mut observed, 2).revision = Some("old".into());
    observed.update_revision = Some("new".into());
    for ordinal in 0..2 {
        crate::fixture::pod(&mut observed, ordinal).revision = Some("new".into());
    }
    let decision = decide(&observed, at(61));
    let compares = |step: &&Step| matches!(step.on_member(), Some(Action::CompareRows { .. }));
    assert_eq!(steps(&decision).into_iter().find(compares), None, "{decision:?}");
}

#[test]
fn when_all_is_settled_nothing_is_done() {
    let mut observed = taken();
    for ordinal in [0, 1] {
        server(&mut observed, ordinal).conflicts[0].stage = Stage::Settled;
    }
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "True");
    assert_eq!(decision.status.conflicts, 0);
}

/// Another member has met and settled the same transaction; that says nothing of this one.
#[test]
fn an_applier_that_stands_is_told_whatever_others_have_recorded() {
    let mut observed = whole();
    stop(&mut observed, 2, 1);
    let mut first = record(0, 1);
    first.stage = Stage::Settled;
    server(&mut observed, 2).conflicts = vec![first];
    let decision = decide(&observed, at(60));
    assert_eq!(decision.status.conflicts, 1);
    assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "False");
}

#[test]
fn an_operator_that_died_in_between_goes_on() {
    // The transaction is executed, and the applier still stands. What clients write once it goes on, they write in knowledge of it.
    let mut observed = preferring(recorded(), &[0]);
    server(&mut observed, 0).executed = executed().union(&gtid(&eleventh(0))).union(&gtid(&eleventh(1)));
    server(&mut observed, 0).conflicts[0].stage = Stage::Settling;
    server(&mut observed, 1).channels = vec![channel(0)];
    let decision = decide(&observed, at(60));
    let notes = Action::NoteTaken {
        gtid: eleventh(1),
        winner: Some(0),
    };
    assert!(
        steps(&decision).contains(&&Step::member(0, uuid(0), notes)),
        "{:?}",
        decision.steps
    );
    let mut observed = taken();
    server(&mut observed, 1).conflicts[0].stage = Stage::Settling;
    let decision = decide(&observed, at(60));
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 1,
                action: Action::NoteTaken { winner: Some(0), .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}

#[test]
fn what_a_person_mended_is_compared_and_not_overwritten() {
    let mut observed = taken();
    observed.cluster.spec.conflicts = Conflicts::default();
    for ordinal in [0, 1] {
        server(&mut observed, ordinal).conflicts[0].winner = None;
    }
    let decision = decide(&observed, at(60));
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                action: Action::CompareRows { reassert: false, .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}

/// It would bring the conflict to the others.
#[test]
fn a_bypassed_member_that_stands_at_a_conflict_stays_out() {
    let mut observed = whole();
    observed.cluster.status.as_mut().unwrap().member_statuses[1].bypassed = true;
    fence(&mut observed, 1);
    server(&mut observed, 2).channels = vec![channel(0)];
    stop(&mut observed, 1, 0);
    server(&mut observed, 1).conflicts = vec![record(1, 0)];
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert!(member_status(&decision, 1).bypassed);
    assert_eq!(decision.status.ring, "0→2→0");
    // With a policy it is settled there, fenced as it is.
    let decision = decide(&preferring(observed, &[0]), at(60));
    assert_eq!(settled(&decision), (1, Remedy::Take, Some(0)));
}

#[test]
fn of_many_conflicts_some_are_told_and_those_for_a_person_first() {
    let mut observed = preferring(recorded(), &[0]);
    let mut many: Vec<Record> = (0..60)
        .map(|number| Record {
            gtid: format!("{}:{}", uuid(0), 100 + number),
            ..record(1, 0)
        })
        .collect();
    many[59].for_a_person = Some("another definition".into());
    server(&mut observed, 1).conflicts = many;
    let decision = decide(&observed, at(10));
    let message = &condition(&decision, conditions::CONFLICT_FREE).message;
    assert!(
        message.contains("for a person to mend: another definition"),
        "{message}"
    );
    assert!(
        message.ends_with("more, see the table multimaster.conflicts"),
        "{message}"
    );
    assert!(message.len() < 4096, "{}", message.len());
    assert!(decision.status.conflicts >= 60);
}

#[test]
fn what_waits_for_a_person_and_has_no_rows_is_examined_again() {
    let waits = |seconds: Option<i64>, record: Record| {
        let mut observed = conflict();
        link(&mut observed, 1).seconds_since_error = seconds;
        server(&mut observed, 0).conflicts = vec![Record {
            for_a_person: Some("no row was found".into()),
            ..self::record(0, 1)
        }];
        server(&mut observed, 1).conflicts = vec![record];
        observed
    };
    let statement = || Record {
        rows: Vec::new(),
        for_a_person: Some("it is a statement that failed here".into()),
        ..record(1, 0)
    };
    let examined = |observed: &Observed| {
        let decision = decide(observed, at(60));
        matches!(&steps(&decision)[..], [Step::Member { ordinal: 1, action: Action::Examine { upstream: 0, gtid }, .. }] if *gtid == eleventh(0))
    };
    for (seconds, expected) in [
        (0, true),
        (59, true),
        (60, true),
        (75, false),
        (89, false),
        (90, true),
        (-5, true),
    ] {
        assert_eq!(examined(&waits(Some(seconds), statement())), expected, "{seconds} s");
    }
    assert!(!examined(&waits(None, statement())));
    // Its rows say what is in the way, and a person is at it.
    let rows = Record {
        for_a_person: Some("a trigger would fire".into()),
        ..record(1, 0)
    };
    assert!(!examined(&waits(Some(0), rows)));
    // Nothing can be asked of the upstream.
    let mut observed = waits(Some(0), statement());
    unreachable(&mut observed, 0);
    assert!(!examined(&observed));
}

/// Of 100 conflicts of 1,000 rows each, all share a row with the next one: one group, whose first side decides.
#[test]
fn many_large_conflicts_are_one_by_the_rows_that_they_share() {
    let row = |number: usize| {
        let key = RowKey {
            columns: vec![("id".into(), Cell::Number(number.to_string()))],
            ..key()
        };
        ConflictingRow {
            id: key.id(),
            key,
            mine: None,
            theirs: Some("t".into()),
        }
    };
    let mut observed = preferring(whole(), &[2]);
    let records: Vec<Record> = (0..100)
        .map(|number: usize| Record {
            gtid: format!("{}:{}", uuid(u8::from(number == 0) * 2), 100 + number),
            seen: at(i64::try_from(number).unwrap()),
            rows: (number * 999..number * 999 + 1000).map(row).collect(),
            ..record(1, 0)
        })
        .collect();
    for ordinal in 0..3 {
        server(&mut observed, ordinal).conflicts.clone_from(&records);
    }
    let begin = std::time::Instant::now();
    let sides = Sides::of(&observed);
    eprintln!("100 conflicts of 1,000 rows: {:?}", begin.elapsed());
    assert_eq!(sides.open().count(), 100);
    // Member 2 wrote the first of them, and the others follow it.
    assert!(records.iter().all(|record| sides.winner(record) == Some(2)));
    for (number, expected) in [(0, 2), (50, 3), (99, 2)] {
        assert_eq!(sides.group(&records[number]).len(), expected);
        assert_eq!(related(&observed, &records[number]), sides.group(&records[number]));
    }
}
