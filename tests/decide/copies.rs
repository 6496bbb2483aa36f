//! What becomes of a copy: a restored ring, and one copy in a living ring.

use multimaster::api::Healing;
use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::{Observed, Probe, Problem, Receiver, SqlError};
use multimaster::decide::step::{Action, ClusterAction, Step};
use multimaster::wire::agent::{Mark, Phase};

use crate::fixture::{
    channel, claim, condition, executed, fence, gtid, link, mark, member_status, report, server, settle, steps,
    unreachable, uuid, whole,
};
use crate::ownership::{adopt, marked, say};
/// The volume of this member is a copy of that of a cluster of another name.
fn copied(observed: &mut Observed, ordinal: u8) {
    fence(observed, ordinal);
    let theirs = Mark {
        name: "other".into(),
        ..mark(ordinal)
    };
    say(observed, ordinal, Some(theirs));
}

/// The whole ring was restored into another namespace, with its Secrets.
fn restored() -> Observed {
    let mut observed = whole();
    observed.cluster.status = None;
    for ordinal in 0..3 {
        fence(&mut observed, ordinal);
        let theirs = Mark {
            namespace: "production".into(),
            cluster_uid: "theirs".into(),
            ..mark(ordinal)
        };
        say(&mut observed, ordinal, Some(theirs));
        let channel = link(&mut observed, ordinal);
        channel.source_host = channel.source_host.replace("default", "production");
        channel.receiver = Receiver::Off;
        channel.applier_running = false;
    }
    observed
}

#[test]
fn a_restored_copy_does_nothing_and_says_what_it_is() {
    let mut observed = restored();
    for seconds in 0..20 {
        let decision = settle(&mut observed, seconds);
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        assert_eq!(decision.status.epoch, 0);
        let ready = condition(&decision, conditions::READY);
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "CopiedVolume")
        );
        let way_out = "kubectl annotate -n default mmc demo --overwrite multimaster.dev/adopt=theirs";
        assert!(
            ready.message.contains("production") && ready.message.contains(way_out),
            "{}",
            ready.message
        );
        for ordinal in 0..3 {
            assert_eq!(member_status(&decision, ordinal).state, MemberState::Quarantined);
            assert_eq!(member_status(&decision, ordinal).server_uuid, None);
        }
    }
    // A person has opened it by hand.
    server(&mut observed, 2).super_read_only = false;
    let decision = settle(&mut observed, 30);
    let fences = |step: &&Step| matches!(step.on_member(), Some(Action::Fence)) && step.ordinal() == Some(2);
    assert_eq!(
        steps(&decision).iter().filter(|step| fences(step)).count(),
        1,
        "{:?}",
        decision.steps
    );
    assert_eq!(steps(&decision).len(), 1, "{:?}", decision.steps);
}

#[test]
fn an_adopted_copy_gets_new_lives_and_links_of_its_own() {
    let mut observed = restored();
    adopt(&mut observed, "theirs");
    for ordinal in 0..3 {
        let (at, ours, new_life) = marked(&observed).unwrap();
        assert_eq!((at, &ours, new_life), (ordinal, &mark(ordinal), true));
        // What the agent then reports.
        say(&mut observed, ordinal, Some(ours));
        let life = uuid(ordinal + 3);
        report(&mut observed, ordinal).former_server_uuids = vec![uuid(ordinal)];
        report(&mut observed, ordinal).server_uuid = Some(life.clone());
        server(&mut observed, ordinal).uuid = life;
    }
    let decision = settle(&mut observed, 10);
    assert_eq!(decision.status.epoch, 1);
    for ordinal in 0..3_u8 {
        let upstream = (ordinal + 2) % 3;
        link(&mut observed, ordinal).retrieved = gtid(&format!("{}:11", uuid(7)));
        let due = |observed: &mut Observed, seconds| {
            let decision = settle(observed, seconds);
            let step = decision.steps.iter().find(|step| step.is_risky()).unwrap();
            (step.ordinal().unwrap(), step.on_member().unwrap().clone())
        };
        let first = due(&mut observed, 20);
        assert_eq!(first, (ordinal, Action::StartApplier { upstream }));
        link(&mut observed, ordinal).applier_running = true;
        server(&mut observed, ordinal).executed = gtid(&format!(
            "{}:1-10,{}:1-10,{}:1-10,{}:11",
            uuid(0),
            uuid(1),
            uuid(2),
            uuid(7)
        ));
        let (at, action) = due(&mut observed, 21);
        assert!(at == ordinal && matches!(action, Action::Detach { .. }), "{action:?}");
        server(&mut observed, ordinal).channels.clear();
        let (at, action) = due(&mut observed, 22);
        assert!(at == ordinal && matches!(action, Action::Attach { .. }), "{action:?}");
        let mut attached = channel(upstream);
        attached.source_uuid = Some(uuid(upstream + 3));
        server(&mut observed, ordinal).channels.push(attached);
    }
}

/// A receiver that somebody has started all the same.
#[test]
fn a_channel_that_leads_away_receives_nothing() {
    let mut observed = whole();
    link(&mut observed, 0).source_host = "demo-2.demo-members.production.svc".into();
    let decision = settle(&mut observed, 10);
    let due = steps(&decision);
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!(due[0].on_member(), Some(&Action::StopReceiver { upstream: 2 }));
}

#[test]
fn one_copy_in_a_living_ring_is_left_alone_and_the_ring_goes_on() {
    let mut observed = whole();
    copied(&mut observed, 1);
    // It has what nobody here has ever seen.
    let executed = server(&mut observed, 1)
        .executed
        .union(&gtid(&format!("{}:1-5", uuid(8))));
    server(&mut observed, 1).executed = executed;
    let decision = settle(&mut observed, 10);
    let stops = Action::StopReceiver { upstream: 1 };
    assert!(
        steps(&decision).iter().any(|step| step.on_member() == Some(&stops)),
        "{:?}",
        decision.steps
    );
    link(&mut observed, 2).receiver = Receiver::Off;
    for seconds in 11..40 {
        let decision = settle(&mut observed, seconds);
        for step in steps(&decision) {
            assert_ne!(step.ordinal(), Some(1), "{step:?}");
        }
        if let Some(Step::Member { ordinal, action, .. }) = decision.steps.iter().find(|step| step.is_risky()) {
            let attaches = matches!(action, Action::Attach { upstream: 0, .. });
            assert!(*ordinal == 2 && attaches, "{action:?}");
        }
        assert_eq!(member_status(&decision, 1).state, MemberState::Quarantined);
        assert_eq!(member_status(&decision, 0).state, MemberState::Serving);
        assert_eq!(member_status(&decision, 2).catch_up_to, None);
        assert_eq!(condition(&decision, conditions::READY).reason, "CopiedVolume");
        assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");
        assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "True");
    }
    assert!(member_status(&settle(&mut observed, 40), 1).bypassed);
}

/// Two members are of one ring, and one of another. They are adopted one after the other, whichever comes back first.
#[test]
fn copies_of_two_rings_do_not_become_one() {
    for first in 0..3 {
        let mut observed = restored();
        adopt(&mut observed, "theirs");
        server(&mut observed, 0).executed = gtid(&format!("{}:1-9", uuid(8)));
        for (turn, ordinal) in [first, (first + 1) % 3, (first + 2) % 3].into_iter().enumerate() {
            say(&mut observed, ordinal, Some(mark(ordinal)));
            server(&mut observed, ordinal).channels.clear();
            let decision = settle(&mut observed, i64::try_from(turn).unwrap());
            assert_eq!(decision.status.epoch, 0);
        }
        for seconds in 10..30 {
            let decision = settle(&mut observed, seconds);
            assert_eq!(decision.status.epoch, 0);
            assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
            let ready = condition(&decision, conditions::READY);
            assert!(ready.message.contains("not of one ring"), "{}", ready.message);
        }
        // One of them gets the right volume.
        server(&mut observed, 0).executed = executed();
        assert_eq!(settle(&mut observed, 30).status.epoch, 1);
    }
}

/// While the copy does not answer, its downstream does not begin to replicate from it.
#[test]
fn a_copy_that_is_silent_is_a_copy_still() {
    for silent in ["agent", "both", "starting"] {
        let mut observed = whole();
        observed.cluster.spec.replication.healing = Some(Healing::Wait);
        fence(&mut observed, 1);
        let theirs = Mark {
            claim_uid: claim(7),
            cluster_uid: "earlier".into(),
            ..mark(1)
        };
        say(&mut observed, 1, Some(theirs));
        settle(&mut observed, 10);
        link(&mut observed, 2).receiver = Receiver::Off;
        assert!(steps(&settle(&mut observed, 11)).is_empty());
        match silent {
            "agent" => observed.members[1].agent = Probe::Unreachable("no answer".into()),
            "both" => unreachable(&mut observed, 1),
            _ => report(&mut observed, 1).phase = Phase::Starting,
        }
        for seconds in 12..30 {
            let decision = settle(&mut observed, seconds);
            assert!(steps(&decision).is_empty(), "{silent}: {:?}", decision.steps);
            assert_eq!(member_status(&decision, 1).state, MemberState::Quarantined, "{silent}");
            let message = member_status(&decision, 1).message.as_ref().unwrap();
            assert!(message.contains("adopt=earlier"), "{silent}: {message}");
        }
        // It gets its own volume.
        let mut again = whole();
        again.cluster = observed.cluster.clone();
        fence(&mut again, 1);
        link(&mut again, 2).receiver = Receiver::Off;
        let decision = settle(&mut again, 40);
        assert!(
            steps(&decision)
                .iter()
                .any(|step| step.ordinal() == Some(1) || step.ordinal() == Some(2))
        );
        assert_ne!(member_status(&decision, 1).state, MemberState::Quarantined);
    }
}

/// Its downstream stands at a conflict: it retrieves nothing all the same.
#[test]
fn a_receiver_that_leads_to_a_copy_is_stopped_whatever_its_applier_does() {
    let mut observed = whole();
    copied(&mut observed, 1);
    let channel = link(&mut observed, 2);
    channel.applier_running = false;
    channel.applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
    let decision = settle(&mut observed, 10);
    let stops = Action::StopReceiver { upstream: 1 };
    assert!(
        steps(&decision).iter().any(|step| step.on_member() == Some(&stops)),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_copy_may_leave() {
    let mut observed = whole();
    observed.cluster.spec.members = 2;
    copied(&mut observed, 2);
    for seconds in 10..20 {
        settle(&mut observed, seconds);
        link(&mut observed, 0).receiver = Receiver::Off;
    }
    assert_eq!(settle(&mut observed, 20).status.member_statuses.len(), 2);
}

#[test]
fn a_copied_secret_is_told_although_nobody_can_be_asked() {
    let mut observed = restored();
    for ordinal in 0..3 {
        unreachable(&mut observed, ordinal);
    }
    let message = "delete it".to_owned();
    observed.problems = vec![Problem {
        reason: Reason::CopiedSecret,
        message,
    }];
    let decision = settle(&mut observed, 10);
    let ready = condition(&decision, conditions::READY);
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "CopiedSecret")
    );
    assert!(
        decision.steps.contains(&Step::Cluster(ClusterAction::Apply)),
        "{:?}",
        decision.steps
    );
}
