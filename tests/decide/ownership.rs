//! Whose is a volume? By its mark, by its claim, and where it has none by its links and by status.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::{Observed, Ownership, Probe, Problem, Receiver};
use multimaster::decide::ring::ownership;
use multimaster::decide::step::{Action, ClusterAction, Step};
use multimaster::names::ANNOTATION_ADOPT;
use multimaster::wire::agent::{Mark, Origin, Phase, Volume};

use crate::fixture::{
    at, claim, condition, executed, fence, gtid, link, mark, member_status, new, report, server, settle, steps,
    unreachable, uuid, whole,
};

fn say(observed: &mut Observed, ordinal: u8, mark: Option<Mark>) {
    report(observed, ordinal).volume = Some(Volume { mark });
}

fn adopt(observed: &mut Observed, uids: &str) {
    let annotation = (ANNOTATION_ADOPT.to_owned(), uids.to_owned());
    observed.cluster.metadata.annotations = Some([annotation].into());
}

fn judged(observed: &Observed, ordinal: u8) -> Ownership {
    ownership::of(observed, observed.member(ordinal).unwrap())
}

/// What the first step says of whose volume.
fn marked(observed: &Observed) -> Option<(u8, Mark, bool)> {
    let decision = multimaster::decide::decide(observed, at(10));
    steps(&decision).into_iter().find_map(|step| match step {
        Step::Member {
            ordinal,
            action: Action::Mark { mark, new_life },
            ..
        } => Some((*ordinal, mark.clone(), *new_life)),
        _ => None,
    })
}

#[derive(Debug, PartialEq)]
enum Is {
    Ours,
    ToMark,
    ToAdopt,
    Copy,
    Unknown,
}

/// Of member 1, which is back and fenced. The mark: namespace, name, cluster, claim.
#[test]
fn a_mark_and_a_claim_say_whose_it_is() {
    let (own, other) = ("default demo cluster-uid claim-1", "earlier");
    for (theirs, claim, adopts, expected) in [
        (Some(own), Some("claim-1"), None, Is::Ours),
        (Some(own), None, None, Is::Ours),
        // The resource was made again on its volumes.
        (Some("default demo earlier claim-1"), Some("claim-1"), None, Is::ToMark),
        (Some("default demo earlier claim-1"), None, None, Is::Unknown),
        // Another claim: a copy of the volume of an earlier resource.
        (Some("default demo earlier claim-9"), Some("claim-1"), None, Is::Copy),
        (
            Some("default demo earlier claim-9"),
            Some("claim-1"),
            Some("other"),
            Is::Copy,
        ),
        (
            Some("default demo earlier claim-9"),
            Some("claim-1"),
            Some("other, earlier"),
            Is::ToAdopt,
        ),
        // A copy of this ring's own volume in its place.
        (
            Some("default demo cluster-uid claim-9"),
            Some("claim-1"),
            None,
            Is::ToAdopt,
        ),
        (Some("default demo cluster-uid claim-9"), None, None, Is::Ours),
        // A restored copy of another ring.
        (Some("shop demo earlier claim-1"), Some("claim-1"), None, Is::Copy),
        (Some("shop demo earlier claim-1"), None, None, Is::Copy),
        (
            Some("shop demo earlier claim-1"),
            Some("claim-1"),
            Some(other),
            Is::ToAdopt,
        ),
        (Some("shop demo earlier claim-1"), None, Some(other), Is::Copy),
        (
            Some("default shop cluster-uid claim-1"),
            Some("claim-1"),
            None,
            Is::Copy,
        ),
        // From before there were marks: status knows it.
        (None, Some("claim-1"), None, Is::ToMark),
        (None, None, None, Is::Ours),
    ] {
        let mut observed = whole();
        fence(&mut observed, 1);
        let theirs = theirs.map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            Mark {
                namespace: words[0].into(),
                name: words[1].into(),
                cluster_uid: words[2].into(),
                claim_uid: words[3].into(),
            }
        });
        say(&mut observed, 1, theirs.clone());
        observed.members[1].claim = claim.map(str::to_owned);
        if let Some(adopts) = adopts {
            adopt(&mut observed, adopts);
        }
        let is = match judged(&observed, 1) {
            Ownership::Ours => Is::Ours,
            Ownership::ToMark(ours) => {
                assert_eq!(ours, mark(1));
                Is::ToMark
            }
            Ownership::ToAdopt(ours) => {
                assert_eq!(ours, mark(1));
                Is::ToAdopt
            }
            Ownership::Copy { .. } => Is::Copy,
            Ownership::Unknown | Ownership::Stranger => Is::Unknown,
        };
        assert_eq!(is, expected, "{theirs:?} {claim:?} {adopts:?}");
        let apart = ownership::apart(&observed);
        let ordered = ownership::adopt(&apart).or_else(|| ownership::mark_next(&apart));
        let ordered = ordered.and_then(|step| step.on_member().cloned());
        let due = match expected {
            Is::ToMark => Some(false),
            Is::ToAdopt => Some(true),
            Is::Ours | Is::Copy | Is::Unknown => None,
        };
        let due = due.map(|new_life| Action::Mark {
            mark: mark(1),
            new_life,
        });
        assert_eq!(ordered, due, "{theirs:?} {claim:?} {adopts:?}");
    }
}

#[test]
fn data_without_a_mark_is_told_by_its_links_its_history_and_status() {
    for (case, expected) in [
        ("leads away", Is::Copy),
        ("another channel leads away", Is::ToMark),
        ("a former life", Is::ToMark),
        ("nothing in it", Is::ToMark),
        // Of a member that has left the ring, in a version from before there were marks: a new life harms nobody.
        ("unknown", Is::ToAdopt),
        ("unknown, and open", Is::ToAdopt),
        ("unknown, and no claim", Is::Unknown),
        ("unknown, and leads away", Is::Copy),
        ("unknown, with another history", Is::Copy),
        ("unknown, and no ring yet", Is::Copy),
    ] {
        let mut observed = whole();
        fence(&mut observed, 1);
        say(&mut observed, 1, None);
        let elsewhere = "demo-0.demo-members.production.svc";
        if case.ends_with("leads away") {
            link(&mut observed, 1).source_host = elsewhere.into();
        }
        if case.starts_with("another") {
            link(&mut observed, 1).name = "import".into();
        }
        let before = &mut observed.cluster.status.as_mut().unwrap().member_statuses[1];
        if case.starts_with("unknown") {
            before.server_uuid = None;
        }
        match case {
            "a former life" => {
                before.server_uuid = Some(uuid(7));
                report(&mut observed, 1).former_server_uuids = vec![uuid(7)];
            }
            "nothing in it" => {
                before.server_uuid = None;
                server(&mut observed, 1).executed = gtid("");
            }
            "unknown, and open" => server(&mut observed, 1).super_read_only = false,
            "unknown, and no claim" => observed.members[1].claim = None,
            "unknown, with another history" => server(&mut observed, 1).executed = gtid(&format!("{}:1-5", uuid(8))),
            "unknown, and no ring yet" => observed.cluster.status = None,
            _ => {}
        }
        let is = match judged(&observed, 1) {
            Ownership::ToMark(_) => Is::ToMark,
            Ownership::ToAdopt(_) => Is::ToAdopt,
            Ownership::Unknown | Ownership::Stranger => Is::Unknown,
            Ownership::Copy { uid, .. } => {
                assert_eq!(uid, uuid(1), "{case}");
                adopt(&mut observed, &uid);
                assert!(matches!(judged(&observed, 1), Ownership::ToAdopt(_)));
                Is::Copy
            }
            Ownership::Ours => Is::Ours,
        };
        assert_eq!(is, expected, "{case}");
    }
}

/// A volume of this ring that was made for another member, and nothing tells yet which claim it is.
#[test]
fn the_volume_of_another_member_is_not_ours_without_a_word_about_its_claim() {
    let mut observed = whole();
    fence(&mut observed, 1);
    observed.members[1].claim = None;
    assert_eq!(judged(&observed, 1), Ownership::Ours);
    report(&mut observed, 1).server_id = 163;
    assert_eq!(judged(&observed, 1), Ownership::Unknown);
    observed.members[1].claim = Some("a new claim".into());
    assert!(matches!(judged(&observed, 1), Ownership::ToAdopt(_)));
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
        let mut attached = crate::fixture::channel(upstream);
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
    fence(&mut observed, 1);
    let theirs = Mark {
        name: "other".into(),
        ..mark(1)
    };
    say(&mut observed, 1, Some(theirs));
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

#[test]
fn volumes_are_marked_when_nothing_else_is_due() {
    let mut observed = whole();
    for ordinal in 0..3 {
        say(&mut observed, ordinal, None);
    }
    // Its volume has no room for the mark.
    report(&mut observed, 0).volume_full = true;
    for ordinal in [1, 2] {
        assert_eq!(marked(&observed), Some((ordinal, mark(ordinal), false)));
        say(&mut observed, ordinal, Some(mark(ordinal)));
    }
    assert_eq!(marked(&observed), None);
    say(&mut observed, 2, None);
    fence(&mut observed, 1);
    let decision = settle(&mut observed, 10);
    let opens = |step: &&&Step| step.on_member() == Some(&Action::Open);
    assert_eq!(steps(&decision).iter().filter(opens).count(), 1, "{:?}", decision.steps);
}

/// There is nothing to ask a person about, but its server UUID is another's.
#[test]
fn a_copy_of_an_empty_volume_gets_a_new_life() {
    let mut observed = new();
    let theirs = Mark {
        claim_uid: claim(7),
        namespace: "production".into(),
        ..mark(2)
    };
    say(&mut observed, 2, Some(theirs));
    assert_eq!(report(&mut observed, 2).origin, Origin::Empty);
    assert_eq!(marked(&observed), Some((2, mark(2), true)));
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
        observed.cluster.spec.replication.healing = Some(multimaster::api::Healing::Wait);
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
    fence(&mut observed, 1);
    let theirs = Mark {
        name: "other".into(),
        ..mark(1)
    };
    say(&mut observed, 1, Some(theirs));
    let channel = link(&mut observed, 2);
    channel.applier_running = false;
    channel.applier_error = Some(multimaster::decide::observed::SqlError {
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
    fence(&mut observed, 2);
    let theirs = Mark {
        name: "other".into(),
        ..mark(2)
    };
    say(&mut observed, 2, Some(theirs));
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

#[test]
fn an_agent_from_before_there_were_marks_is_no_copy() {
    let mut observed = whole();
    for ordinal in 0..3 {
        report(&mut observed, ordinal).volume = None;
        assert_eq!(judged(&observed, ordinal), Ownership::Ours);
    }
    assert!(steps(&settle(&mut observed, 10)).is_empty());
}
