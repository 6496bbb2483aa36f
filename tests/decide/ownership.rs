//! Whose is a volume? By its mark, by its claim, and where it has none by its links and by status.

use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::Observed;
use multimaster::decide::ring::ownership::{self, Ownership};
use multimaster::decide::step::{Action, Step};
use multimaster::names::ANNOTATION_ADOPT;
use multimaster::wire::agent::{Mark, Origin, Volume};

use crate::fixture::{
    at, claim, condition, fence, gtid, link, mark, member_status, new, report, server, settle, steps, uuid, whole,
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
    Unmarked,
    Adopted,
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
        (
            Some("default demo earlier claim-1"),
            Some("claim-1"),
            None,
            Is::Unmarked,
        ),
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
            Is::Adopted,
        ),
        // A copy of this ring's own volume in its place.
        (
            Some("default demo cluster-uid claim-9"),
            Some("claim-1"),
            None,
            Is::Adopted,
        ),
        (Some("default demo cluster-uid claim-9"), None, None, Is::Ours),
        // A restored copy of another ring.
        (Some("shop demo earlier claim-1"), Some("claim-1"), None, Is::Copy),
        (Some("shop demo earlier claim-1"), None, None, Is::Copy),
        (
            Some("shop demo earlier claim-1"),
            Some("claim-1"),
            Some(other),
            Is::Adopted,
        ),
        (Some("shop demo earlier claim-1"), None, Some(other), Is::Copy),
        (
            Some("default shop cluster-uid claim-1"),
            Some("claim-1"),
            None,
            Is::Copy,
        ),
        // From before there were marks: status knows it.
        (None, Some("claim-1"), None, Is::Unmarked),
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
            Ownership::Unmarked(ours) => {
                assert_eq!(ours, mark(1));
                Is::Unmarked
            }
            Ownership::Adopted(ours) => {
                assert_eq!(ours, mark(1));
                Is::Adopted
            }
            Ownership::Copy { .. } => Is::Copy,
            Ownership::Unknown => Is::Unknown,
        };
        assert_eq!(is, expected, "{theirs:?} {claim:?} {adopts:?}");
        let ordered = marked(&observed).map(|(ordinal, mark, new_life)| (ordinal, mark == self::mark(1), new_life));
        let due = match expected {
            Is::Unmarked => Some((1, true, false)),
            Is::Adopted => Some((1, true, true)),
            Is::Ours | Is::Copy | Is::Unknown => None,
        };
        assert_eq!(ordered, due, "{theirs:?} {claim:?} {adopts:?}");
    }
}

#[test]
fn data_without_a_mark_that_leads_elsewhere_or_is_unknown_is_a_copy() {
    for case in [
        "leads away",
        "unknown",
        "unknown, but open",
        "unknown, but empty",
        "a former life",
    ] {
        let mut observed = whole();
        fence(&mut observed, 1);
        say(&mut observed, 1, None);
        let expected = match case {
            "leads away" => {
                link(&mut observed, 1).source_host = "demo-0.demo-members.production.svc".into();
                Is::Copy
            }
            "a former life" => {
                let status = observed.cluster.status.as_mut().unwrap();
                status.member_statuses[1].server_uuid = Some(uuid(7));
                report(&mut observed, 1).former_server_uuids = vec![uuid(7)];
                Is::Unmarked
            }
            _ => {
                observed.cluster.status.as_mut().unwrap().member_statuses[1].server_uuid = None;
                Is::Copy
            }
        };
        let expected = match case {
            "unknown, but open" => {
                server(&mut observed, 1).super_read_only = false;
                Is::Unmarked
            }
            "unknown, but empty" => {
                server(&mut observed, 1).executed = gtid("");
                Is::Unmarked
            }
            _ => expected,
        };
        let is = match judged(&observed, 1) {
            Ownership::Unmarked(_) => Is::Unmarked,
            Ownership::Copy { uid, .. } => {
                assert_eq!(uid, uuid(1), "{case}");
                adopt(&mut observed, &uid);
                assert!(matches!(judged(&observed, 1), Ownership::Adopted(_)));
                Is::Copy
            }
            other => panic!("{case}: {other:?}"),
        };
        assert_eq!(is, expected, "{case}");
    }
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
        channel.receiver = multimaster::decide::observed::Receiver::Off;
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
        let way_out = "kubectl annotate -n default mmc demo multimaster.dev/adopt=theirs";
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
    for seconds in 10..40 {
        let decision = settle(&mut observed, seconds);
        for step in steps(&decision) {
            assert_ne!(step.ordinal(), Some(1), "{step:?}");
        }
        assert_eq!(member_status(&decision, 1).state, MemberState::Quarantined);
        assert_eq!(member_status(&decision, 0).state, MemberState::Serving);
        assert_eq!(condition(&decision, conditions::READY).reason, "CopiedVolume");
        assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");
    }
}

#[test]
fn an_empty_volume_is_marked_before_anything_else() {
    let mut observed = new();
    for ordinal in 0..3 {
        say(&mut observed, ordinal, None);
    }
    for ordinal in 0..3 {
        assert_eq!(marked(&observed), Some((ordinal, mark(ordinal), false)));
        say(&mut observed, ordinal, Some(mark(ordinal)));
    }
    assert_eq!(marked(&observed), None);
    // A copy of an empty volume: there is nothing to ask a person about, but its server UUID is another's.
    let theirs = Mark {
        claim_uid: claim(7),
        namespace: "production".into(),
        ..mark(2)
    };
    say(&mut observed, 2, Some(theirs));
    assert_eq!(report(&mut observed, 2).origin, Origin::Empty);
    assert_eq!(marked(&observed), Some((2, mark(2), true)));
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
