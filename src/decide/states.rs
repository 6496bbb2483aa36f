//! What each member is doing, in the words of `docs/ring.md`.

use crate::agent::report::Phase;
use crate::api::status::MemberState;

use super::health::Health;
use super::history::{has_caught_up, is_foreign, lost, recorded};
use super::links::{self, LinkNeed};
use super::observed::{Member, Observed};
use super::rebuild::donor;

/// A link that was silent this long is not believed to replicate, even if its threads say so. Longer than what makes a witness: this one
/// is about what status claims, and a busy machine delays heartbeats.
const BELIEVED_SECONDS: i64 = 10;

/// State of a member, and why where the state alone does not say.
pub fn state(observed: &Observed, member: &Member) -> (MemberState, Option<String>) {
    match Health::of(member, observed) {
        Health::NoPod(why) => (MemberState::Pending, Some(why)),
        Health::Starting(why) if is_cloning(member) => (MemberState::Cloning, Some(why)),
        Health::Starting(why) => (MemberState::Starting, Some(why)),
        Health::Suspect(_) | Health::Failed(_) if is_coming(observed, member) => {
            (MemberState::Starting, Some("its agent does not answer yet".into()))
        }
        Health::Suspect(why) => (MemberState::Suspect, Some(why)),
        Health::Failed(why) => (MemberState::Failed, Some(why)),
        Health::Alive(why) => (
            MemberState::Suspect,
            Some(format!("alive, but refuses the operator: {why}")),
        ),
        Health::Reached => reached(observed, member),
    }
}

/// A new pod, of which nothing was heard yet: it has not failed.
fn is_coming(observed: &Observed, member: &Member) -> bool {
    let before = recorded(observed, member.ordinal)
        .map(|status| status.state)
        .unwrap_or_default();
    !member.has_label() && matches!(before, MemberState::Pending | MemberState::Starting)
}

fn is_cloning(member: &Member) -> bool {
    member
        .report()
        .is_some_and(|report| matches!(report.phase, Phase::Cloning { .. }))
}

fn reached(observed: &Observed, member: &Member) -> (MemberState, Option<String>) {
    if is_cloning(member) {
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
    let upstream = observed.ring().upstream(member.ordinal);
    if !server.super_read_only {
        if let Some(error) = member.link(upstream).and_then(|link| link.conflict()) {
            return (
                MemberState::Halted,
                Some(format!("error {}: {}", error.number, error.text)),
            );
        }
        return (
            if member.has_label() {
                MemberState::Serving
            } else {
                MemberState::Open
            },
            None,
        );
    }
    if member.with_data().is_none() {
        return (MemberState::Returning, Some("its agent does not answer".into()));
    }
    if is_foreign(observed, member) {
        let why = "its volume has a history that this cluster has never seen; give it back the volume it had, or an empty one";
        return (MemberState::Quarantined, Some(why.into()));
    }
    let lost = lost(observed, member.ordinal, server);
    if !lost.is_empty() {
        return (
            MemberState::Returning,
            Some(format!(
                "its disk went back in time and lacks its own {lost}; it gets a new life"
            )),
        );
    }
    match links::need(observed, member.ordinal, server) {
        LinkNeed::Step(_) => (MemberState::Returning, None),
        LinkNeed::Purged(missing) => (
            MemberState::Quarantined,
            Some(purged(observed, member, &missing.to_string())),
        ),
        LinkNeed::Nothing | LinkNeed::Upstream | LinkNeed::Conflict if has_caught_up(observed, member, server) => {
            (MemberState::Returning, None)
        }
        LinkNeed::Nothing | LinkNeed::Upstream | LinkNeed::Conflict => (MemberState::CatchingUp, None),
    }
}

/// What is said of a link whose upstream no longer has what its downstream needs.
pub fn purged(observed: &Observed, member: &Member, missing: &str) -> String {
    let upstream = crate::names::member(observed.name(), observed.ring().upstream(member.ordinal));
    format!(
        "{upstream} has purged the binary logs with {missing}, which it needs; rebuild it: delete its volume's contents and its pod"
    )
}

/// The link into this member brings it what its upstream writes, as far as can be seen.
pub fn link_replicates(observed: &Observed, downstream: u8) -> bool {
    let upstream = observed.ring().upstream(downstream);
    let source_is_there = observed
        .member(upstream)
        .is_some_and(|member| member.with_data().is_some());
    let link = observed.member(downstream).and_then(|member| member.link(upstream));
    source_is_there
        && link.is_some_and(|link| {
            link.replicates() && link.silent_seconds.is_none_or(|seconds| seconds < BELIEVED_SECONDS)
        })
}

/// Every link replicates.
pub fn ring_is_closed(observed: &Observed) -> bool {
    observed
        .ring()
        .ordinals()
        .all(|downstream| link_replicates(observed, downstream))
}

/// The ring is closed and every member serves: what Ready means.
pub fn ring_is_whole(observed: &Observed) -> bool {
    ring_is_closed(observed)
        && observed
            .members
            .iter()
            .all(|member| state(observed, member).0 == MemberState::Serving)
}
