//! Records of conflicts that a pass does not read, or cannot: no open one is forgotten.

use multimaster::api::reasons::Reason;
use multimaster::api::status::conditions;
use multimaster::api::{ConflictPolicy, Conflicts};
use multimaster::decide::conflicts::record::UnreadRecord;
use multimaster::decide::conflicts::{ConflictingRow, Record, Stage};
use multimaster::decide::observed::{Observed, SqlError};
use multimaster::decide::step::{Action, Step};
use multimaster::decide::{Decision, decide};
use multimaster::mysql::rows::RowKey;
use multimaster::mysql::transaction::Cell;

use crate::fixture::{at, condition, executed, gtid, link, server, steps, unreachable, uuid, whole};

/// The eleventh transaction of member 0, at which member 1 stands.
fn eleventh() -> String {
    format!("{}:11", uuid(0))
}

fn preferring(mut observed: Observed) -> Observed {
    observed.cluster.spec.conflicts = Conflicts {
        policy: ConflictPolicy::Prefer,
        prefer: vec![0],
    };
    observed
}

/// Member 1 stands at a transaction of member 0.
fn stopped() -> Observed {
    let mut observed = preferring(whole());
    server(&mut observed, 0).executed = executed().union(&gtid(&eleventh()));
    let link = link(&mut observed, 1);
    link.applier_running = false;
    link.blocked = Some(eleventh());
    link.applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry '7' for key 'orders.PRIMARY'".into(),
    });
    observed
}

fn record(observer: u8, gtid: &str, stage: Stage) -> Record {
    let key = RowKey {
        schema: "app".into(),
        table: "orders".into(),
        columns: vec![("id".into(), Cell::Number("7".into()))],
    };
    Record {
        observer: uuid(observer),
        gtid: gtid.into(),
        seen: at(0),
        stage,
        rows: vec![ConflictingRow {
            id: key.id(),
            key,
            mine: None,
            theirs: Some("t".into()),
        }],
        for_a_person: None,
        winner: Some(0),
        known: executed(),
        kept: None,
    }
}

fn unread(observer: u8, gtid: &str) -> UnreadRecord {
    UnreadRecord {
        observer: uuid(observer),
        gtid: gtid.into(),
        why: "version 2 of a record, and this operator knows 1".into(),
    }
}

fn free(decision: &Decision) -> (&str, &str, &str) {
    let free = condition(decision, conditions::CONFLICT_FREE);
    (&free.status, &free.reason, &free.message)
}

#[test]
fn what_is_only_counted_is_open_all_the_same() {
    let mut observed = whole();
    for ordinal in 0..3 {
        server(&mut observed, ordinal).conflicts = vec![record(1, &format!("{}:5", uuid(2)), Stage::Waiting)];
        server(&mut observed, ordinal).unread.more = 249;
    }
    let decision = decide(&observed, at(60));
    assert_eq!(decision.status.conflicts, 250);
    let (status, _, message) = free(&decision);
    assert_eq!(status, "False");
    assert!(message.contains("and 249 more"), "{message}");
}

#[test]
fn no_conflict_is_settled_while_its_other_side_may_be_among_those_that_are_only_counted() {
    let mut observed = stopped();
    server(&mut observed, 1).conflicts = vec![record(1, &eleventh(), Stage::Waiting)];
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Member {
            ordinal: 1,
            action: Action::Settle { .. },
            ..
        }]
    ));
    server(&mut observed, 2).unread.more = 1;
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let (_, _, message) = free(&decision);
    assert!(message.contains("no new one is settled"), "{message}");
}

#[test]
fn a_record_of_a_newer_version_is_told_left_alone_and_hides_no_other() {
    let mut observed = stopped();
    let older = format!("{}:3", uuid(0));
    server(&mut observed, 1).conflicts = vec![record(1, &older, Stage::Waiting)];
    for ordinal in 0..3 {
        server(&mut observed, ordinal).unread.records = vec![unread(1, &eleventh())];
    }
    let decision = decide(&observed, at(60));
    // The applier waits; what has become of the older one is noted.
    let [
        Step::Member {
            ordinal: 1,
            action: Action::NoteTaken { gtid, .. },
            ..
        },
    ] = steps(&decision)[..]
    else {
        panic!("{:?}", decision.steps)
    };
    assert_eq!(*gtid, older);
    assert_eq!(decision.status.conflicts, 2);
    let (status, reason, message) = free(&decision);
    assert_eq!((status, reason), ("False", Reason::ApplierStopped.as_ref()));
    for words in [
        &eleventh(),
        "demo-1 could not apply",
        "version 2 of a record",
        "app.orders",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_open_although_nothing_stands() {
    let mut observed = whole();
    server(&mut observed, 2).unread.records = vec![unread(1, &eleventh())];
    // Its observer has settled it; the other member has not heard of that yet.
    assert_eq!(free(&decide(&observed, at(60))).0, "True");
    server(&mut observed, 1).unread.records = vec![unread(1, &eleventh())];
    let decision = decide(&observed, at(60));
    assert_eq!(
        (free(&decision).0, free(&decision).1, decision.status.conflicts),
        ("False", Reason::Settling.as_ref(), 1)
    );
    unreachable(&mut observed, 1);
    assert_eq!(decide(&observed, at(60)).status.conflicts, 1);
}

#[test]
fn without_its_table_nobody_knows_the_conflicts_of_a_member() {
    let mut observed = whole();
    let why = "Table 'multimaster.conflicts' doesn't exist";
    server(&mut observed, 1).unread.table = Some(why.into());
    let decision = decide(&observed, at(60));
    let (status, reason, message) = free(&decision);
    assert_eq!((status, reason), ("Unknown", Reason::ConflictsUnreadable.as_ref()));
    assert!(message.contains("demo-1") && message.contains(why), "{message}");
    assert_eq!(condition(&decision, conditions::READY).status, "True");

    // What is known elsewhere is told.
    server(&mut observed, 2).conflicts = vec![record(2, &format!("{}:99", uuid(0)), Stage::Waiting)];
    let decision = decide(&observed, at(60));
    let (status, _, message) = free(&decision);
    assert_eq!(status, "False");
    assert!(message.contains("demo-2") && message.contains(why), "{message}");
}

#[test]
fn nothing_is_recorded_or_settled_where_the_table_cannot_be_read() {
    let mut observed = stopped();
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Member {
            ordinal: 1,
            action: Action::Examine { .. },
            ..
        }]
    ));
    server(&mut observed, 1).unread.table = Some("SELECT command denied".into());
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(decision.status.conflicts, 1);
}
