//! How links are attached again: from the stored channel, from status, from the oldest log; never from "now".

use multimaster::api::Positioning;
use multimaster::api::reasons::Reason;
use multimaster::api::status::conditions;
use multimaster::decide::decide;
use multimaster::decide::observed::{Observed, Receiver, SqlError};
use multimaster::decide::step::{Action, StartAt, Step};

use crate::fixture::{at, condition, executed, fence, gtid, link, report, server, settle, steps, uuid, whole};

fn file_position() -> Observed {
    let mut observed = whole();
    observed.cluster.spec.replication.positioning = Positioning::FilePosition;
    settle(&mut observed, 10);
    observed
}

fn attach(start: StartAt) -> Step {
    Step::member(1, uuid(1), Action::Attach { upstream: 0, start })
}

fn position(file: &str, offset: u64) -> StartAt {
    StartAt::Position {
        file: file.into(),
        offset,
    }
}

#[test]
fn a_stored_channel_that_is_stopped_is_started() {
    for mut observed in [whole(), file_position()] {
        link(&mut observed, 1).receiver = Receiver::Off;
        link(&mut observed, 1).applier_running = false;
        let expected = Step::member(1, uuid(1), Action::Start { upstream: 0 });
        assert_eq!(steps(&decide(&observed, at(60))), [&expected]);
    }
}

#[test]
fn a_link_whose_place_applications_have_is_attached_at_another_port() {
    let crowded = |number: u32, port: u16, has_place: bool| {
        let mut observed = whole();
        report(&mut observed, 0).has_place_for_links = has_place;
        let link = link(&mut observed, 1);
        link.receiver = Receiver::Connecting;
        link.source_port = port;
        let text = "Error connecting to source 'x@demo-0:3306'. Message: Too many connections".into();
        link.receiver_error = Some(SqlError { number, text });
        observed
    };
    let mut observed = crowded(1040, 3306, true);
    let decided = decide(&observed, at(60));
    let [
        Step::Member {
            action: Action::Detach { upstream: 0, why },
            ..
        },
    ] = steps(&decided)[..]
    else {
        panic!("{:?}", steps(&decided));
    };
    assert_eq!(
        why,
        "applications hold every connection of demo-0, and its administrative port is free"
    );
    // Nothing that it has retrieved is lost.
    link(&mut observed, 1).retrieved = gtid(&format!("{}:1-1000000", uuid(0)));
    let none: [&Step; 0] = [];
    assert_eq!(steps(&decide(&observed, at(60))), none);
    // The member that it leads to was made anew by an agent of an earlier version.
    let back = crowded(1045, 33062, false);
    let decided = decide(&back, at(60));
    assert!(matches!(
        steps(&decided)[..],
        [Step::Member {
            action: Action::Detach { upstream: 0, .. },
            ..
        }]
    ));
    // Another error, a link that is there already, an agent of an earlier version.
    for observed in [
        crowded(2003, 3306, true),
        crowded(1040, 33062, true),
        crowded(1040, 3306, false),
    ] {
        assert_eq!(steps(&decide(&observed, at(60))), none);
    }
}

/// Stopping a receiver does not clear the error of its last attempt to connect.
#[test]
fn a_receiver_that_was_stopped_while_it_could_not_connect_is_started() {
    for (number, text) in [
        (
            2003,
            "Error reconnecting to source 'x@demo-0:3306'. Message: Can't connect to MySQL server",
        ),
        (
            1045,
            "Error connecting to source 'x@demo-0:3306'. Message: Access denied",
        ),
    ] {
        let mut observed = whole();
        link(&mut observed, 1).receiver = Receiver::Off;
        let text = text.into();
        link(&mut observed, 1).receiver_error = Some(SqlError { number, text });
        let expected = Step::member(1, uuid(1), Action::Start { upstream: 0 });
        assert_eq!(steps(&decide(&observed, at(60))), [&expected]);
    }
    // Another replica with its server UUID has come to its source: a copy of its volume, or a server_id that a person has given twice.
    let mut observed = whole();
    link(&mut observed, 1).receiver = Receiver::Off;
    link(&mut observed, 1).receiver_error = Some(SqlError {
        number: 13114,
        text: "Got fatal error 1236 from source when reading data from binary log: 'A replica with the same server_uuid/server_id as this replica \
               has connected to the source; the first event 'binlog.000001' at 4'"
            .into(),
    });
    let expected = Step::member(1, uuid(1), Action::Start { upstream: 0 });
    assert_eq!(steps(&decide(&observed, at(60))), [&expected]);
    // This one would stop again.
    let mut observed = whole();
    link(&mut observed, 1).receiver = Receiver::Off;
    link(&mut observed, 1).receiver_error = Some(SqlError {
        number: 13114,
        text: "Got fatal error 1236 from source when reading data from binary log".into(),
    });
    assert!(steps(&decide(&observed, at(60))).is_empty());
}

#[test]
fn a_channel_that_is_gone_is_attached_by_gtid_or_at_the_recorded_position() {
    let mut observed = whole();
    server(&mut observed, 1).channels.clear();
    assert_eq!(steps(&decide(&observed, at(60))), [&attach(StartAt::AutoPosition)]);

    let mut observed = file_position();
    server(&mut observed, 1).channels.clear();
    let decision = settle(&mut observed, 60);
    assert_eq!(steps(&decision), [&attach(position("binlog.000002", 1000))]);
    // An operator that dies now must find it again.
    assert_eq!(
        steps(&settle(&mut observed, 61)),
        [&attach(position("binlog.000002", 1000))]
    );
}

#[test]
fn a_recorded_position_counts_only_for_the_lives_it_was_recorded_for() {
    // The log is gone.
    let mut observed = file_position();
    server(&mut observed, 1).channels.clear();
    server(&mut observed, 0).binary_logs = vec!["binlog.000003".into()];
    assert_eq!(
        steps(&decide(&observed, at(60))),
        [&attach(position("binlog.000003", 4))]
    );

    // The upstream has a new life.
    let mut observed = file_position();
    server(&mut observed, 1).channels.clear();
    let new = "f0000000-0000-0000-0000-000000000000".to_owned();
    server(&mut observed, 0).uuid = new.clone();
    report(&mut observed, 0).server_uuid = Some(new.clone());
    assert_eq!(
        steps(&settle(&mut observed, 60)),
        [&attach(position("binlog.000001", 4))]
    );
    assert_eq!(
        steps(&settle(&mut observed, 61)),
        [&attach(position("binlog.000001", 4))]
    );

    // The downstream has a new life: it may lack what its earlier life had applied.
    let mut observed = file_position();
    fence(&mut observed, 1);
    server(&mut observed, 1).channels.clear();
    server(&mut observed, 1).uuid = new.clone();
    report(&mut observed, 1).server_uuid = Some(new.clone());
    report(&mut observed, 1).former_server_uuids = vec![uuid(1)];
    let expected = Step::member(
        1,
        new,
        Action::Attach {
            upstream: 0,
            start: position("binlog.000001", 4),
        },
    );
    assert_eq!(steps(&decide(&observed, at(60))), [&expected]);
}

#[test]
fn a_channel_that_reads_an_earlier_life_is_replaced_once_its_relay_logs_are_applied() {
    let mut observed = file_position();
    let new = "f0000000-0000-0000-0000-000000000000".to_owned();
    server(&mut observed, 0).uuid = new.clone();
    report(&mut observed, 0).server_uuid = Some(new.clone());
    report(&mut observed, 0).former_server_uuids = vec![uuid(0)];
    // The receiver reconnected by itself, to the right server at the wrong place.
    link(&mut observed, 1).source_uuid = Some(new);
    link(&mut observed, 1).retrieved = gtid(&format!("{}:1-11", uuid(0)));
    assert!(
        steps(&settle(&mut observed, 60)).is_empty(),
        "relay logs may hold the last copy"
    );
    link(&mut observed, 1).retrieved = executed();
    assert!(matches!(
        steps(&settle(&mut observed, 61))[..],
        [Step::Member {
            ordinal: 1,
            action: Action::Detach { .. },
            ..
        }]
    ));
    server(&mut observed, 1).channels.clear();
    assert_eq!(
        steps(&settle(&mut observed, 62)),
        [&attach(position("binlog.000001", 4))]
    );
}

#[test]
fn what_the_upstream_has_purged_is_never_skipped() {
    for mut observed in [whole(), file_position()] {
        server(&mut observed, 1).channels.clear();
        server(&mut observed, 0).purged = gtid(&format!("{}:1-11", uuid(2)));
        let decision = decide(&observed, at(60));
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        let closed = condition(&decision, conditions::RING_CLOSED);
        assert_eq!(closed.reason, Reason::PositionLost.as_ref());
        assert!(
            closed.message.contains(&format!("{}:11", uuid(2))),
            "{}",
            closed.message
        );
    }
}

#[test]
fn a_receiver_that_cannot_connect_is_left_to_retry() {
    let mut observed = whole();
    let link = link(&mut observed, 1);
    link.receiver = Receiver::Connecting;
    link.receiver_error = Some(SqlError {
        number: 2003,
        text: "Can't connect".into(),
    });
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    assert_eq!(decision.status.ring, "0✗1→2→0");
    assert!(
        condition(&decision, conditions::RING_CLOSED)
            .message
            .contains("2003: Can't connect")
    );
}

#[test]
fn positions_are_recorded_but_not_more_often_than_every_few_seconds() {
    let mut observed = file_position();
    let recorded = |observed: &Observed| {
        observed.cluster.status.as_ref().unwrap().member_statuses[1].links[0]
            .position
            .as_ref()
            .unwrap()
            .offset
    };
    link(&mut observed, 1).applied_offset = 2000;
    settle(&mut observed, 12);
    assert_eq!(recorded(&observed), 2000);
    link(&mut observed, 1).applied_offset = 2500;
    settle(&mut observed, 16);
    assert_eq!(recorded(&observed), 2000);
    settle(&mut observed, 17);
    assert_eq!(recorded(&observed), 2500);
    // A change of state is written at once, with the positions of that moment.
    link(&mut observed, 1).applied_offset = 3000;
    link(&mut observed, 2).receiver = Receiver::Connecting;
    settle(&mut observed, 18);
    assert_eq!(recorded(&observed), 3000);
}

#[test]
fn a_recorded_gtid_set_never_shrinks_within_a_life() {
    let mut observed = whole();
    server(&mut observed, 1).executed = gtid("");
    settle(&mut observed, 60);
    let status = &observed.cluster.status.as_ref().unwrap().member_statuses[1];
    assert_eq!(gtid(&status.gtid_executed), executed());
}

/// The receiver has not noticed yet that the server at the other end is another one.
#[test]
fn a_link_to_an_earlier_life_does_not_replicate() {
    let mut observed = whole();
    settle(&mut observed, 10);
    link(&mut observed, 1).source_uuid = Some("5a0d0b3e-0000-0000-0000-000000000000".into());
    let decision = decide(&observed, at(60));
    assert_eq!(condition(&decision, conditions::RING_CLOSED).status, "False");
    assert_eq!(condition(&decision, conditions::READY).status, "False");
}
