//! From nothing to an open ring; and never from an empty volume when there was one before.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, Phase, conditions};
use multimaster::decide::decide;
use multimaster::decide::observed::Probe;
use multimaster::decide::step::{Action, ClusterAction, PodAction, StartAt, Step};
use multimaster::wire::agent::Origin;

use crate::fixture::{
    at, channel, condition, fence, gtid, member_status, new, pod, report, server, settle, steps, uuid, whole,
};

#[test]
fn nothing_is_founded_before_all_have_reported() {
    let mut observed = new();
    observed.members[2].agent = Probe::Unreachable("starting".into());
    let decision = decide(&observed, at(0));
    assert!(steps(&decision).is_empty());
    assert_eq!(decision.status.epoch, 0);
    assert_eq!(decision.status.phase, Phase::Creating);
    assert_eq!(
        condition(&decision, conditions::READY).reason,
        Reason::Founding.as_ref()
    );
}

#[test]
fn a_new_ring_is_founded_linked_opened_and_served_in_bounded_steps() {
    let mut observed = new();
    for pass in 0..40 {
        let decision = settle(&mut observed, pass);
        for step in decision.steps {
            match step {
                Step::Cluster(ClusterAction::Apply) => {}
                Step::Member {
                    ordinal,
                    action: Action::Found,
                    ..
                } => {
                    assert_eq!(observed.epoch(), 0);
                    report(&mut observed, ordinal).origin = Origin::Founded;
                }
                Step::Member {
                    ordinal,
                    action: Action::Attach { upstream, start },
                    ..
                } => {
                    assert_eq!(start, StartAt::AutoPosition);
                    server(&mut observed, ordinal).channels.push(channel(upstream));
                }
                Step::Member {
                    ordinal,
                    action: Action::Open,
                    ..
                } => {
                    assert_eq!(observed.epoch(), 1, "the epoch is written before anything opens");
                    server(&mut observed, ordinal).super_read_only = false;
                    pod(&mut observed, ordinal).ready = true;
                }
                Step::Pod {
                    ordinal,
                    action: PodAction::Serve,
                    ..
                } => pod(&mut observed, ordinal).serving = true,
                Step::Pod {
                    ordinal,
                    action: PodAction::ServeReads,
                    ..
                } => pod(&mut observed, ordinal).reads = true,
                step => panic!("{step:?} has no place here"),
            }
        }
    }
    let decision = settle(&mut observed, 41);
    assert!(steps(&decision).is_empty());
    assert_eq!(decision.status.phase, Phase::Running);
    assert_eq!(decision.status.ring, "0→1→2→0");
    assert_eq!(condition(&decision, conditions::READY).status, "True");
}

#[test]
fn an_operator_that_died_while_founding_goes_on() {
    let mut observed = new();
    report(&mut observed, 0).origin = Origin::Founded;
    let decision = decide(&observed, at(0));
    assert_eq!(steps(&decision), [&Step::member(1, uuid(1), Action::Found)]);
    assert_eq!(decision.status.epoch, 0);
}

#[test]
fn old_volumes_are_not_founded_anew() {
    let mut observed = new();
    for ordinal in [1, 2] {
        report(&mut observed, ordinal).origin = Origin::Founded;
        server(&mut observed, ordinal).executed = gtid(&format!("{}:1-5", uuid(1)));
    }
    assert_eq!(settle(&mut observed, 0).status.epoch, 1);
    // Once those with data are attached and open.
    for ordinal in [1, 2] {
        let server = server(&mut observed, ordinal);
        server.super_read_only = false;
        server.channels.push(channel(ordinal - 1));
        pod(&mut observed, ordinal).serving = true;
    }
    let decision = decide(&observed, at(1));
    assert_eq!(
        steps(&decision),
        [&Step::member(0, uuid(0), Action::Clone { donor: 1 })]
    );
}

#[test]
fn ordinal_0_alone_with_an_empty_volume_does_not_serve() {
    let mut observed = whole();
    for ordinal in [1, 2] {
        observed.members[ordinal].pod = None;
        observed.members[ordinal].agent = Probe::NoAddress;
        observed.members[ordinal].server = Probe::NoAddress;
    }
    fence(&mut observed, 0);
    report(&mut observed, 0).origin = Origin::Empty;
    report(&mut observed, 0).server_uuid = Some("ffffffff-0000-0000-0000-000000000000".into());
    server(&mut observed, 0).uuid = "ffffffff-0000-0000-0000-000000000000".into();
    server(&mut observed, 0).executed = gtid("");
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let status = member_status(&decision, 0);
    assert_eq!(status.state, MemberState::Empty);
    assert!(
        status.message.as_ref().unwrap().contains("waits for demo-1"),
        "{status:?}"
    );
    assert_eq!(
        status.server_uuid,
        Some(uuid(0)),
        "the life that held data is remembered"
    );
}

#[test]
fn all_volumes_lost_is_said_and_nothing_is_founded() {
    let mut observed = whole();
    for ordinal in 0..3 {
        fence(&mut observed, ordinal);
        report(&mut observed, ordinal).origin = Origin::Empty;
        server(&mut observed, ordinal).executed = gtid("");
    }
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(
        condition(&decision, conditions::READY).reason,
        Reason::DataLost.as_ref()
    );
}

#[test]
fn of_two_empty_neighbours_the_downstream_is_rebuilt_first() {
    let mut observed = whole();
    for ordinal in [1, 2] {
        fence(&mut observed, ordinal);
        report(&mut observed, ordinal).origin = Origin::Empty;
        server(&mut observed, ordinal).channels.clear();
    }
    // A copy of 0, its upstream, would leave 1 with transactions that 2, in a larger ring a copy of yet another member, can get from nobody.
    let decision = decide(&observed, at(60));
    assert_eq!(
        steps(&decision),
        [&Step::member(2, uuid(2), Action::Clone { donor: 0 })]
    );
    assert!(member_status(&decision, 1).message.as_ref().unwrap().contains("demo-2"));
    report(&mut observed, 2).origin = Origin::Cloned;
    server(&mut observed, 2).channels.push(channel(1));
    server(&mut observed, 2).super_read_only = false;
    pod(&mut observed, 2).serving = true;
    let decision = decide(&observed, at(70));
    assert_eq!(
        steps(&decision),
        [&Step::member(1, uuid(1), Action::Clone { donor: 2 })]
    );
}

/// Kubernetes says when a pod comes. A thousand clusters that wait for theirs would otherwise take the API server's time from all others.
#[test]
fn a_cluster_without_pods_is_looked_at_less_often() {
    let mut observed = new();
    let seconds = |observed: &_| decide(observed, at(0)).requeue.as_secs_f64();
    for member in &mut observed.members {
        (member.pod, member.agent, member.server) = (None, Probe::NoAddress, Probe::NoAddress);
    }
    assert_eq!(seconds(&observed), 5.0);
    let other = new().members.remove(0);
    observed.members[0].pod = other.pod;
    assert!(seconds(&observed) <= 1.0);
    let mut slow = observed.clone();
    slow.cluster.spec.failure_detection.period_seconds = 30;
    slow.members[0].pod = None;
    assert_eq!(seconds(&slow), 30.0, "a person wants it less often still");
}
