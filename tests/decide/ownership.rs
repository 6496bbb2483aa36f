//! Whose is a volume? By its mark, by its claim, and where it has none by its links and by status.

use multimaster::decide::observed::{Observed, Ownership};
use multimaster::decide::ring::ownership;
use multimaster::decide::step::{Action, Step};
use multimaster::names::ANNOTATION_ADOPT;
use multimaster::wire::agent::{Mark, Origin, Volume};

use crate::fixture::{at, claim, fence, gtid, link, mark, new, report, server, settle, steps, uuid, whole};

pub fn say(observed: &mut Observed, ordinal: u8, mark: Option<Mark>) {
    report(observed, ordinal).volume = Some(Volume { mark });
}

pub fn adopt(observed: &mut Observed, uids: &str) {
    let annotation = (ANNOTATION_ADOPT.to_owned(), uids.to_owned());
    observed.cluster.metadata.annotations = Some([annotation].into());
}

fn judged(observed: &Observed, ordinal: u8) -> Ownership {
    ownership::of(observed, observed.member(ordinal).unwrap())
}

/// What the first step says of whose volume.
pub fn marked(observed: &Observed) -> Option<(u8, Mark, bool)> {
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
        let mut apart = observed;
        ownership::apart(&mut apart);
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

#[test]
fn an_agent_from_before_there_were_marks_is_no_copy() {
    let mut observed = whole();
    for ordinal in 0..3 {
        report(&mut observed, ordinal).volume = None;
        assert_eq!(judged(&observed, ordinal), Ownership::Ours);
    }
    assert!(steps(&settle(&mut observed, 10)).is_empty());
}
