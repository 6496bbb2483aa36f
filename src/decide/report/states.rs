//! What each member is doing, in the words of `docs/ring.md`.

use crate::api::status::MemberState;
use crate::mysql::gtid::GtidSet;

use crate::decide::observed::{Member, Observed, Server};
use crate::decide::ring::behind;
use crate::decide::ring::health::{Health, NEWER_AGENT};
use crate::decide::ring::lineage::{catch_up_target, downstream_lacks, has_caught_up, is_foreign, lost};
use crate::decide::ring::links::{self, LinkNeed, ring_is_closed};
use crate::decide::ring::rebuild::donor;
use crate::decide::serve::drain;
use crate::decide::serve::fencing;
use crate::decide::serve::opening;
use crate::decide::step::Step;

/// State of a member, and why where the state alone does not say.
pub fn state(observed: &Observed, member: &Member) -> (MemberState, Option<String>) {
    match Health::of(member, observed) {
        Health::NoPod(why) => (MemberState::Pending, Some(why)),
        Health::Starting(why) if member.is_cloning() => (MemberState::Cloning, Some(why)),
        Health::Starting(why) => (MemberState::Starting, Some(why)),
        Health::Suspect(_) | Health::Failed(_) if is_coming(observed, member) => {
            (MemberState::Starting, Some("its agent does not answer yet".into()))
        }
        Health::Suspect(why) => match observed.recorded(member.ordinal) {
            // Its clients' time to finish goes on.
            Some(before) if drain::goes_on_draining(observed, member) => (before.state, before.message.clone()),
            _ => (MemberState::Suspect, Some(why)),
        },
        Health::Failed(why) => (MemberState::Failed, Some(why)),
        Health::Alive(why) => (
            MemberState::Suspect,
            Some(format!("alive, but does not answer as it should: {why}")),
        ),
        Health::Reached => reached(observed, member),
    }
}

/// A new pod, of which nothing was heard yet: it has not failed.
fn is_coming(observed: &Observed, member: &Member) -> bool {
    let before = observed
        .recorded(member.ordinal)
        .map(|status| status.state)
        .unwrap_or_default();
    !member.has_label() && matches!(before, MemberState::Pending | MemberState::Starting)
}

fn reached(observed: &Observed, member: &Member) -> (MemberState, Option<String>) {
    if observed.is_leaving(member) {
        let why = format!(
            "spec.members is {}: it goes when its clients are gone and all it holds is on another member; its volume stays",
            observed.cluster.spec.members
        );
        return (MemberState::Leaving, Some(why));
    }
    if member.is_cloning() {
        return (MemberState::Cloning, None);
    }
    if let Some((_, report)) = member.empty() {
        let waits = (observed.epoch() > 0)
            .then(|| donor(observed, member.ordinal).err())
            .flatten();
        let failed = report
            .last_clone_error
            .as_ref()
            .map(|error| format!("the last copy failed: {error}"));
        return (MemberState::Empty, failed.or(waits));
    }
    let Some(server) = member.server() else {
        return (MemberState::Suspect, None);
    };
    if !server.super_read_only && observed.is_bypassed(member.ordinal) {
        let why = "it is back, and took writes while the others had closed the ring around it; it is fenced first";
        return (MemberState::Returning, Some(why.into()));
    }
    if !server.super_read_only && observed.is_reader(member.ordinal) {
        let why = "it takes writes, and another member is the writer; it is fenced first";
        return (MemberState::Returning, Some(why.into()));
    }
    if !server.super_read_only {
        if let Some(error) = member.conflict() {
            return (
                MemberState::Halted,
                Some(format!("error {}: {}", error.number, error.text)),
            );
        }
        return match member.has_label() {
            true => (MemberState::Serving, None),
            false => draining(observed, member).unwrap_or((MemberState::Open, None)),
        };
    }
    if member.with_data().is_none() {
        let why = match member.is_of_a_newer_agent() {
            true => NEWER_AGENT,
            false => "its agent does not answer",
        };
        return (MemberState::Returning, Some(why.into()));
    }
    if is_foreign(observed, member) {
        let why = "its volume has a history that this cluster has never seen; give it back the volume it had, or an empty one";
        return (MemberState::Quarantined, Some(why.into()));
    }
    let lost = lost(observed, member.ordinal, server);
    if let Some(lost) = lost.as_ref().ok().filter(|lost| !lost.is_empty()) {
        return (
            MemberState::Returning,
            Some(format!(
                "its disk went back in time and lacks its own {lost}; it gets a new life"
            )),
        );
    }
    if fencing::is_ordered(observed, member.ordinal) {
        let why = format!(
            "the annotation {} names it; it replicates and takes no writes",
            crate::names::ANNOTATION_FENCE
        );
        return (MemberState::Fenced, Some(why));
    }
    if observed.is_reader(member.ordinal) && !observed.is_bypassed(member.ordinal) {
        if let Some(error) = member.conflict() {
            return (
                MemberState::Halted,
                Some(format!("error {}: {}", error.number, error.text)),
            );
        }
        let linked = matches!(
            links::need(observed, member.ordinal, server),
            LinkNeed::Nothing | LinkNeed::Patience
        );
        if linked && has_caught_up(observed, member, server) {
            return draining(observed, member).unwrap_or((MemberState::Reading, None));
        }
    }
    if let Err(unreadable) = lost {
        return (MemberState::Returning, Some(unreadable));
    }
    match links::need(observed, member.ordinal, server) {
        LinkNeed::Step(_) => (MemberState::Returning, None),
        LinkNeed::Purged(missing) => (MemberState::Returning, Some(purged(observed, member, server, &missing))),
        LinkNeed::Nothing | LinkNeed::Patience | LinkNeed::Conflict if has_caught_up(observed, member, server) => {
            let held_out = observed
                .recorded(member.ordinal)
                .and_then(|status| status.held_out_until.as_ref());
            let lacks = downstream_lacks(observed, member, server).filter(|lacks| !lacks.is_empty());
            let purged = lacks.map(|lacks| {
                format!("it has purged {lacks}, which its downstream lacks and must get from elsewhere first")
            });
            let why = held_out.map(|until| {
                format!(
                    "it was bypassed twice within five minutes and is held out until {}",
                    until.0
                )
            });
            let is_writer = observed.writer() == Some(member.ordinal);
            let waits = || opening::may_open(observed, member, server).err().filter(|_| is_writer);
            (MemberState::Returning, why.or(purged).or_else(waits))
        }
        LinkNeed::Nothing | LinkNeed::Patience | LinkNeed::Conflict => {
            (MemberState::CatchingUp, catch_up_target(observed, member).err())
        }
    }
}

fn draining(observed: &Observed, member: &Member) -> Option<(MemberState, Option<String>)> {
    let why = || {
        format!(
            "it is to be restarted for a new image or configuration; its clients have {} s to finish",
            drain::GOODBYE.as_secs()
        )
    };
    drain::is_draining(observed, member).then(|| (MemberState::Draining, Some(why())))
}

/// What is said of a link whose upstream no longer has what its downstream needs.
pub fn purged(observed: &Observed, member: &Member, server: &Server, missing: &GtidSet) -> String {
    let upstream = observed
        .ring()
        .upstream(member.ordinal)
        .and_then(|upstream| observed.member(upstream));
    let upstream = upstream.map_or_else(String::new, |upstream| upstream.name(observed.name()));
    let way_out = match behind::way_out(observed, member, server, missing) {
        Ok(Step::GiveUp { .. }) => "it is rebuilt as a copy".into(),
        Ok(_) => "another member helps".into(),
        Err(waits) => waits,
    };
    format!(
        "{upstream} has purged the binary logs with {missing}, which {} needs; {way_out}",
        member.name(observed.name())
    )
}

/// The ring is closed and every member serves: what Ready means.
pub fn ring_is_whole(observed: &Observed) -> bool {
    ring_is_closed(observed)
        && observed
            .members
            .iter()
            .filter(|member| member.ordinal < observed.cluster.spec.members)
            .all(|member| state(observed, member).0.serves())
}
