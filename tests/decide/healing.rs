//! `healing: Bypass`: the ring closes around absent members, and takes them back.

use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::{Channel, Observed, Probe, Receiver, Server, SqlError, WitnessProbe};
use multimaster::decide::step::{Action, PodAction, StartAt, Step};
use multimaster::decide::{Decision, decide};
use multimaster::wire::agent::{Origin, Phase};

use crate::fixture::{
    at, channel, condition, executed, fence, gtid, link, member_status, pod, report, server, settle, steps,
    unreachable, uuid, whole,
};

/// The node of this member is gone: nobody hears of it any more.
pub fn lose(observed: &mut Observed, ordinal: u8) {
    unreachable(observed, ordinal);
    pod(observed, ordinal).ready = false;
    for member in &mut observed.members {
        if let Probe::Reached(server) = &mut member.server {
            for channel in server
                .channels
                .iter_mut()
                .filter(|link| link.name == format!("from-{ordinal}"))
            {
                channel.receiver = Receiver::Connecting;
                channel.seconds_since_contact = Some(9);
            }
        }
    }
}

/// What the steps of a decision do to the servers, as far as these tests need it.
fn carry_out(observed: &mut Observed, decision: &Decision) {
    let channel_of = |server: &mut Server, upstream: &u8| {
        let name = format!("from-{upstream}");
        server.channels.iter().position(|channel| channel.name == name).unwrap()
    };
    for step in &decision.steps {
        match step {
            Step::Pod {
                ordinal,
                action: PodAction::Serve,
                ..
            } => pod(observed, *ordinal).serving = true,
            Step::Pod {
                ordinal,
                action: PodAction::Withdraw { .. },
                ..
            } => pod(observed, *ordinal).serving = false,
            Step::Member {
                ordinal,
                action: Action::Attach { upstream, .. },
                ..
            } => server(observed, *ordinal).channels.push(channel(*upstream)),
            Step::Member {
                ordinal,
                action: Action::StopReceiver { upstream },
                ..
            } => {
                let server = server(observed, *ordinal);
                let at = channel_of(server, upstream);
                server.channels[at].receiver = Receiver::Off;
            }
            Step::Member {
                ordinal,
                action: Action::Detach { upstream, .. },
                ..
            } => {
                let server = server(observed, *ordinal);
                let at = channel_of(server, upstream);
                server.channels.remove(at);
            }
            Step::Member {
                ordinal,
                action: Action::Clone { .. },
                ..
            } => report(observed, *ordinal).phase = Phase::Cloning { donor: "donor".into() },
            Step::Member {
                ordinal,
                action: Action::Fence,
                ..
            } => server(observed, *ordinal).super_read_only = true,
            Step::Member {
                ordinal,
                action: Action::Open,
                ..
            } => server(observed, *ordinal).super_read_only = false,
            _ => {}
        }
    }
}

/// Passes, one a second, until nothing is done any more; the risky steps in their order.
pub fn run(observed: &mut Observed, from: i64) -> Vec<Step> {
    let mut done = Vec::new();
    for seconds in from..from + 30 {
        let decision = settle(observed, seconds);
        carry_out(observed, &decision);
        done.extend(decision.steps.into_iter().filter(Step::is_risky));
    }
    done
}

/// A whole ring that has lost member 1 and closed around it.
pub fn healed() -> Observed {
    let mut observed = whole();
    lose(&mut observed, 1);
    run(&mut observed, 60);
    observed
}

/// The lost member's server answers again, as it was but fenced or not.
pub fn thaw(observed: &mut Observed, ordinal: u8, fenced: bool) {
    let there = whole();
    observed.members[usize::from(ordinal)] = there.members[usize::from(ordinal)].clone();
    pod(observed, ordinal).serving = false;
    server(observed, ordinal).super_read_only = fenced;
}

#[test]
fn the_ring_closes_around_a_lost_member() {
    let mut observed = whole();
    lose(&mut observed, 1);
    let decision = settle(&mut observed, 60);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 1,
            action: PodAction::Withdraw { .. },
            ..
        }]
    ));
    assert_eq!(decision.status.epoch, 1, "not yet: it may be back in a moment");
    carry_out(&mut observed, &decision);

    let decision = settle(&mut observed, 65);
    assert_eq!(decision.status.epoch, 2);
    assert!(member_status(&decision, 1).bypassed);
    assert_eq!(
        steps(&decision)[..],
        [&Step::member(
            2,
            uuid(2),
            Action::Attach {
                upstream: 0,
                start: StartAt::AutoPosition
            }
        )]
    );
    carry_out(&mut observed, &decision);
    let done = run(&mut observed, 66);
    assert!(
        matches!(
            done[..],
            [
                Step::Member {
                    ordinal: 2,
                    action: Action::StopReceiver { upstream: 1 },
                    ..
                },
                Step::Member {
                    ordinal: 2,
                    action: Action::Detach { upstream: 1, .. },
                    ..
                }
            ]
        ),
        "{done:?}"
    );
    let decision = decide(&observed, at(120));
    assert_eq!(decision.status.ring, "0→2→0");
    assert_eq!(condition(&decision, conditions::RING_CLOSED).status, "True");
    assert_eq!(condition(&decision, conditions::READY).status, "False");
    assert_eq!(condition(&decision, conditions::DEGRADED).status, "True");
}

#[test]
fn what_the_lost_member_had_sent_is_applied_before_its_channel_goes() {
    let mut observed = whole();
    lose(&mut observed, 1);
    link(&mut observed, 2).retrieved = gtid(&format!("{}:1-12", uuid(1)));
    let done = run(&mut observed, 60);
    assert!(
        matches!(
            done[..],
            [
                Step::Member {
                    action: Action::Attach { .. },
                    ..
                },
                Step::Member {
                    action: Action::StopReceiver { .. },
                    ..
                }
            ]
        ),
        "{done:?}"
    );
    // Its applier stopped without an error: somebody stopped it, and it has work to do.
    link(&mut observed, 2).applier_running = false;
    let decision = decide(&observed, at(100));
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 2,
            action: Action::Start { upstream: 1 },
            ..
        }]
    ));
    // It stands at a conflict: that is seen, and its relay logs stay.
    link(&mut observed, 2).applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
    let decision = decide(&observed, at(100));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "False");

    let link = link(&mut observed, 2);
    (link.applier_running, link.applier_error) = (true, None);
    server(&mut observed, 2).executed = executed().union(&gtid(&format!("{}:1-12", uuid(1))));
    assert!(matches!(
        run(&mut observed, 101)[..],
        [Step::Member {
            action: Action::Detach { upstream: 1, .. },
            ..
        }]
    ));
}

#[test]
fn the_old_channel_stays_until_the_new_link_replicates() {
    let mut observed = whole();
    lose(&mut observed, 1);
    settle(&mut observed, 60);
    let decision = settle(&mut observed, 66);
    carry_out(&mut observed, &decision);
    server(&mut observed, 2).channels[1].receiver = Receiver::Connecting;
    assert!(steps(&decide(&observed, at(67))).is_empty());
}

#[test]
fn nobody_is_bypassed_on_the_word_of_the_operator_alone() {
    let reached: [fn(&mut Observed); 3] = [
        // The downstream goes on hearing of it.
        |observed| link(observed, 2).seconds_since_contact = Some(0),
        // An agent that was asked to look got an answer.
        |observed| {
            link(observed, 2).seconds_since_contact = Some(9);
            observed.members[1].witness_probes = vec![WitnessProbe { by: 0, answered: true }];
        },
        // It refused: too many connections, or a wrong password.
        |observed| observed.members[1].server = Probe::Alive("Too many connections".into()),
    ];
    for reached in reached {
        let mut observed = whole();
        unreachable(&mut observed, 1);
        pod(&mut observed, 1).ready = false;
        reached(&mut observed);
        for seconds in 60..120 {
            let decision = settle(&mut observed, seconds);
            assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
            assert_eq!(decision.status.epoch, 1);
        }
    }
}

/// The only other member is out of the ring, and follows the one that does not answer.
#[test]
fn a_member_that_is_out_of_the_ring_bears_witness_too() {
    let mut observed = healed();
    thaw(&mut observed, 1, true);
    unreachable(&mut observed, 0);
    pod(&mut observed, 0).ready = false;
    link(&mut observed, 2).source_uuid = Some(uuid(1));
    for channel in &mut server(&mut observed, 2).channels {
        (channel.receiver, channel.seconds_since_contact) = (Receiver::Connecting, Some(9));
    }
    for seconds in 100..160 {
        let decision = settle(&mut observed, seconds);
        assert_eq!(member_status(&decision, 0).state, MemberState::Suspect);
        assert_eq!(decision.status.epoch, 2);
    }
}

/// A look that was late neither condemns nor clears. Pods that do not run are facts all the same.
#[test]
fn an_operator_that_looked_late_proves_nothing() {
    let mut observed = whole();
    lose(&mut observed, 1);
    settle(&mut observed, 60);
    observed.looked_late = true;
    for seconds in 61..90 {
        let decision = settle(&mut observed, seconds);
        assert_eq!(member_status(&decision, 1).state, MemberState::Suspect);
        assert_eq!(decision.status.epoch, 1);
    }
    observed.looked_late = false;
    assert_eq!(settle(&mut observed, 90).status.epoch, 2);

    let mut observed = whole();
    lose(&mut observed, 1);
    observed.looked_late = true;
    settle(&mut observed, 60);
    observed.looked_late = false;
    assert_eq!(
        settle(&mut observed, 66).status.epoch,
        1,
        "its absence counts from here"
    );
    assert_eq!(settle(&mut observed, 71).status.epoch, 2);

    let mut observed = whole();
    unreachable(&mut observed, 1);
    pod(&mut observed, 1).running = false;
    observed.looked_late = true;
    assert_eq!(member_status(&decide(&observed, at(60)), 1).state, MemberState::Pending);
}

#[test]
fn an_agent_that_was_asked_to_look_is_a_witness() {
    for by in [0, 1] {
        let mut observed = whole();
        unreachable(&mut observed, 1);
        link(&mut observed, 2).seconds_since_contact = Some(2);
        observed.members[1].witness_probes = vec![WitnessProbe { by, answered: false }];
        let decision = decide(&observed, at(60));
        assert_eq!(member_status(&decision, 1).state, MemberState::Failed, "by {by}");
    }
}

#[test]
fn a_member_whose_volume_is_full_is_gone_around_though_its_heartbeats_go_on() {
    let mut observed = whole();
    observed.members[1].server = Probe::Unreachable("no answer".into());
    link(&mut observed, 2).seconds_since_contact = Some(0);
    observed.members[1].witness_probes = vec![WitnessProbe { by: 0, answered: true }];
    report(&mut observed, 1).volume_full = true;
    let decision = settle(&mut observed, 60);
    let status = member_status(&decision, 1);
    assert_eq!(status.state, MemberState::Failed);
    assert!(
        status.message.as_ref().unwrap().contains("spec.storage.size"),
        "{status:?}"
    );
    assert!(decision.steps.iter().any(|step| matches!(
        step,
        Step::Pod {
            ordinal: 1,
            action: PodAction::Withdraw { .. },
            ..
        }
    )));
    assert!(member_status(&settle(&mut observed, 66), 1).bypassed);

    // It still answers: then it also writes.
    let mut observed = whole();
    report(&mut observed, 1).volume_full = true;
    assert!(steps(&decide(&observed, at(60))).is_empty());
}

#[test]
fn healing_wait_waits() {
    let mut observed = whole();
    observed.cluster.spec.replication.healing = Some(multimaster::api::Healing::Wait);
    settle(&mut observed, 0);
    lose(&mut observed, 1);
    assert!(run(&mut observed, 60).is_empty());
    assert_eq!(decide(&observed, at(120)).status.epoch, 1);
}

#[test]
fn two_lost_members_leave_one_that_is_alone_and_serves() {
    let mut observed = whole();
    lose(&mut observed, 1);
    lose(&mut observed, 2);
    run(&mut observed, 60);
    let decision = decide(&observed, at(120));
    assert_eq!(decision.status.ring, "0");
    assert_eq!(decision.status.epoch, 2, "both at once");
    assert_eq!(member_status(&decision, 0).state, MemberState::Serving);
    assert_eq!(condition(&decision, conditions::RING_CLOSED).message, "demo-0 is alone");
    assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");
}

#[test]
fn a_member_that_thaws_under_clients_is_fenced_before_anything_else() {
    let mut observed = healed();
    thaw(&mut observed, 1, false);
    let decision = settle(&mut observed, 120);
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 1,
                action: Action::Fence,
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
    assert!(
        !decision
            .steps
            .iter()
            .any(|step| matches!(step.on_pod(), Some(PodAction::Serve)))
    );
}

#[test]
fn what_is_stranded_on_a_returned_member_flows_before_it_opens() {
    let mut observed = healed();
    thaw(&mut observed, 1, true);
    // It took two writes that nobody read, and missed one.
    let (stranded, missed) = (gtid(&format!("{}:11-12", uuid(1))), gtid(&format!("{}:11", uuid(0))));
    server(&mut observed, 1).executed = executed().union(&stranded);
    for ordinal in [0, 2] {
        server(&mut observed, ordinal).executed = executed().union(&missed);
    }
    assert!(run(&mut observed, 120).is_empty());
    let decision = decide(&observed, at(150));
    assert_eq!(member_status(&decision, 1).state, MemberState::CatchingUp);
    assert!(member_status(&decision, 1).bypassed);

    server(&mut observed, 1).executed = executed().union(&stranded).union(&missed);
    let done = run(&mut observed, 151);
    assert!(
        matches!(
            done[..],
            [
                Step::Member {
                    ordinal: 2,
                    action: Action::Attach { upstream: 1, .. },
                    ..
                },
                Step::Member {
                    ordinal: 2,
                    action: Action::StopReceiver { upstream: 0 },
                    ..
                },
                Step::Member {
                    ordinal: 2,
                    action: Action::Detach { upstream: 0, .. },
                    ..
                },
                Step::Member {
                    ordinal: 1,
                    action: Action::Open,
                    ..
                }
            ]
        ),
        "{done:?}"
    );
    let decision = decide(&observed, at(200));
    assert_eq!((decision.status.epoch, decision.status.ring.as_str()), (3, "0→1→2→0"));
    assert_eq!(condition(&decision, conditions::READY).status, "True");
}

#[test]
fn a_member_is_not_taken_back_while_its_downstream_could_not_replicate_from_it() {
    let mut observed = healed();
    thaw(&mut observed, 1, true);
    server(&mut observed, 1).executed = executed().union(&gtid(&format!("{}:11", uuid(1))));
    server(&mut observed, 1).purged = gtid(&format!("{}:11", uuid(1)));
    assert!(run(&mut observed, 120).is_empty());
    assert!(member_status(&decide(&observed, at(150)), 1).bypassed);
}

#[test]
fn a_member_that_flaps_is_held_out() {
    let mut observed = healed();
    thaw(&mut observed, 1, true);
    run(&mut observed, 90);
    assert_eq!(decide(&observed, at(119)).status.ring, "0→1→2→0");
    lose(&mut observed, 1);
    run(&mut observed, 120);
    thaw(&mut observed, 1, true);
    run(&mut observed, 150);
    let decision = decide(&observed, at(179));
    assert!(member_status(&decision, 1).bypassed);
    assert!(
        member_status(&decision, 1)
            .message
            .as_ref()
            .unwrap()
            .contains("held out until"),
        "{:?}",
        member_status(&decision, 1)
    );
    run(&mut observed, 190);
    assert_eq!(decide(&observed, at(221)).status.ring, "0→1→2→0");
}

#[test]
fn all_down_and_an_empty_first_one_back_does_not_serve() {
    let mut observed = whole();
    for ordinal in 0..3 {
        observed.members[usize::from(ordinal)].pod = None;
        unreachable(&mut observed, ordinal);
    }
    assert!(
        run(&mut observed, 60).is_empty(),
        "there is nobody to close a ring around"
    );
    thaw(&mut observed, 0, true);
    report(&mut observed, 0).origin = Origin::Empty;
    server(&mut observed, 0).executed = gtid("");
    assert!(run(&mut observed, 90).is_empty());
    // One with data is alone at first, and the empty one is made its copy.
    thaw(&mut observed, 2, true);
    server(&mut observed, 2).channels = vec![Channel {
        receiver: Receiver::Connecting,
        ..channel(1)
    }];
    let done = run(&mut observed, 120);
    assert!(
        done.iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 2,
                action: Action::Open,
                ..
            }
        )),
        "{done:?}"
    );
    assert!(
        done.iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 0,
                action: Action::Clone { donor: 2 },
                ..
            }
        )),
        "{done:?}"
    );
    assert!(!done.iter().any(|step| matches!(
        step,
        Step::Member {
            ordinal: 0,
            action: Action::Open,
            ..
        }
    )));
}

#[test]
fn a_bypassed_member_takes_over_when_the_ring_itself_is_gone() {
    let mut observed = healed();
    for ordinal in [0, 2] {
        lose(&mut observed, ordinal);
        observed.members[usize::from(ordinal)].pod = None;
    }
    thaw(&mut observed, 1, true);
    link(&mut observed, 1).receiver = Receiver::Connecting;
    let done = run(&mut observed, 120);
    assert!(
        done.iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 1,
                action: Action::Open,
                ..
            }
        )),
        "{done:?}"
    );
    assert_eq!(decide(&observed, at(150)).status.ring, "1");
}

#[test]
fn one_that_lacks_its_own_writes_does_not_take_over() {
    let mut observed = healed();
    server(&mut observed, 0).executed = executed().union(&gtid(&format!("{}:11", uuid(1))));
    settle(&mut observed, 100);
    for ordinal in [0, 2] {
        lose(&mut observed, ordinal);
        observed.members[usize::from(ordinal)].pod = None;
    }
    thaw(&mut observed, 1, true);
    link(&mut observed, 1).receiver = Receiver::Connecting;
    let done = run(&mut observed, 120);
    assert!(
        done.iter().all(|step| matches!(
            step,
            Step::Member {
                ordinal: 1,
                action: Action::NewLife { .. },
                ..
            }
        )) && !done.is_empty(),
        "{done:?}"
    );
}

#[test]
fn a_foreign_volume_is_gone_around() {
    let mut observed = whole();
    let stranger = "f0000000-0000-0000-0000-000000000000";
    server(&mut observed, 1).uuid = stranger.into();
    report(&mut observed, 1).server_uuid = Some(stranger.into());
    report(&mut observed, 1).volume = None;
    server(&mut observed, 1).executed = gtid(&format!("{stranger}:1-5"));
    fence(&mut observed, 1);
    run(&mut observed, 60);
    let decision = decide(&observed, at(90));
    assert_eq!(member_status(&decision, 1).state, MemberState::Quarantined);
    assert_eq!(decision.status.ring, "0→2→0");
}

#[test]
fn a_second_return_catches_up_with_what_the_others_have_by_then() {
    let mut observed = healed();
    let later = |last: u8| gtid(&format!("{}:1-{last},{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    let write = |observed: &mut Observed, last: u8| {
        for ordinal in [0, 2] {
            server(observed, ordinal).executed = later(last);
        }
    };
    write(&mut observed, 20);
    thaw(&mut observed, 1, true);
    run(&mut observed, 120);
    // It is lost again before it joined; hours later it is back, with what it was to catch up with the first time.
    lose(&mut observed, 1);
    write(&mut observed, 99);
    run(&mut observed, 150);
    thaw(&mut observed, 1, true);
    server(&mut observed, 1).executed = later(20);
    assert!(run(&mut observed, 10_000).is_empty());
    assert!(member_status(&decide(&observed, at(10_030)), 1).bypassed);
}

#[test]
fn with_healing_wait_nobody_takes_over_the_ring() {
    let mut observed = healed();
    observed.cluster.spec.replication.healing = Some(multimaster::api::Healing::Wait);
    for ordinal in [0, 2] {
        lose(&mut observed, ordinal);
        observed.members[usize::from(ordinal)].pod = None;
    }
    thaw(&mut observed, 1, true);
    link(&mut observed, 1).receiver = Receiver::Connecting;
    assert!(run(&mut observed, 120).is_empty());
}

#[test]
fn a_member_that_is_being_cloned_is_neither_fenced_nor_in_the_way() {
    let mut observed = whole();
    // CLONE wants super_read_only off.
    report(&mut observed, 1).origin = Origin::Empty;
    report(&mut observed, 1).phase = Phase::Cloning { donor: "donor".into() };
    pod(&mut observed, 1).serving = false;
    settle(&mut observed, 60);
    let decision = settle(&mut observed, 66);
    assert_eq!(decision.status.ring, "0✗2→0", "the ring closes around it");
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 2,
                action: Action::Attach { upstream: 0, .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}
