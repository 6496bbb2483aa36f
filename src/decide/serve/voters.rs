//! Who may confirm the one writer while no operator does, and who cannot have. `docs/ring.md`, "Voters".

use std::collections::HashMap;

use jiff::SignedDuration;

use crate::api::voters::Voters;
use crate::decide::observed::{Member, Observed};
use crate::decide::roles::Roles;
use crate::wire::agent::LeaseReport;

/// Beyond the lease: a member that fences itself at its end has so long to do it.
const MARGIN: SignedDuration = SignedDuration::from_secs(1);

/// After this time without a renewal no member holds a lease any more, and it has fenced itself.
pub fn lease(observed: &Observed) -> SignedDuration {
    SignedDuration::from_secs(observed.cluster.spec.longest_lease().into()) + MARGIN
}

/// The sets of voters of a member that status is to have. `is_fenced`: it was seen fenced; `has_moved`: the members were looked at while another one was
/// the writer.
pub fn of_member(roles: &Roles, member: &Member, is_fenced: bool, has_moved: bool) -> Vec<Voters> {
    let observed = roles.observed;
    let recorded = observed.recorded(member.ordinal).map(|status| status.voters.clone());
    let mut sets = recorded.unwrap_or_default();
    if !observed.cluster.has_single_writer() || roles.writer != Some(member.ordinal) {
        let holds_none = is_fenced || member.report().is_some_and(|report| report.lease.is_none());
        // What is known of confirmations is of those that were not for the writer of before.
        if holds_none || !has_moved && has_ended(roles, member) {
            sets.clear();
        }
        return sets;
    }
    let lease = member.report().map(|report| report.lease);
    let Some(lease) = lease else { return sets };
    match lease.filter(|lease| lease.writer == member.ordinal) {
        // Nobody has told it yet: it holds no lease, and whatever it had before it was fenced is past.
        None => sets = vec![set(roles, member)],
        Some(LeaseReport { voters: None, .. }) => sets.clear(),
        Some(LeaseReport {
            voters: Some(counted), ..
        }) => {
            match sets.iter().position(|set| *set == counted) {
                Some(at) => drop(sets.drain(..at)),
                // It counts the members of the ring that an operator of an earlier version named, or what another operator did.
                None if counted.is_empty() => {}
                None => sets = vec![counted],
            }
            let next = set(roles, member);
            if sets.last() != Some(&next) && sets.len() < 2 {
                sets.push(next);
            }
        }
    }
    sets
}

/// The members of the ring, or all that stay while only one is in it.
fn set(roles: &Roles, writer: &Member) -> Voters {
    let others = roles.ring.ordinals().any(|ordinal| ordinal != writer.ordinal);
    match others && roles.ring.contains(writer.ordinal) {
        true => roles.ring.ordinals().collect(),
        // Not the one that leaves: it becomes neither writer nor heir of the ring.
        false => {
            let ordinals = roles.observed.members.iter().map(|member| member.ordinal);
            ordinals.filter(|ordinal| !roles.is_leaving(*ordinal)).collect()
        }
    }
}

/// The lease of a member that is not the writer has ended. Only an operator can give it another one: by then it is the writer again.
fn has_ended(roles: &Roles, member: &Member) -> bool {
    let writer = roles.writer.and_then(|writer| roles.observed.member(writer));
    let lease = lease(roles.observed);
    let is_past = |time: SignedDuration| time >= lease;
    member.report().is_none()
        && is_past(member.since_contact)
        && writer.is_some_and(|writer| is_past(writer.since_confirmed))
        && who_may_have_confirmed(roles.observed, member).is_none()
}

/// The voters that may have confirmed this member lately, if with it they are more than half of a set that it may have: their ordinals.
pub fn who_may_have_confirmed(observed: &Observed, writer: &Member) -> Option<Vec<u8>> {
    let (sets, lease) = (
        observed.recorded(writer.ordinal).map(|status| status.voters.as_slice()),
        lease(observed),
    );
    let may_have = |ordinal: &u8| {
        let voter = observed
            .member(*ordinal)
            .filter(|voter| voter.ordinal != writer.ordinal);
        voter.is_some_and(|voter| voter.since_confirmed < lease)
    };
    sets.unwrap_or_default().iter().find_map(|set| {
        let possible: Vec<u8> = set.ordinals().filter(may_have).collect();
        (possible.len() >= set.needed().max(1)).then_some(possible)
    })
}

/// Whether the one writer, or one before it, may still count this member as a voter. So it is not forgotten.
pub fn is_counted(observed: &Observed, ordinal: u8) -> bool {
    if !observed.cluster.has_single_writer() {
        return false;
    }
    let status = observed.cluster.status.iter();
    let mut sets = status
        .flat_map(|status| &status.member_statuses)
        .flat_map(|member| &member.voters);
    sets.any(|set| set.contains(ordinal))
}

/// What an operator remembers of a voter.
#[derive(Clone, Debug)]
pub struct LastConfirmation {
    /// The writer then.
    writer: Option<u8>,
    /// When the voter may last have confirmed another one, on the operator's clock. `None`: it may at any time.
    at: Option<SignedDuration>,
    /// UID of the pod that has answered although it was said not to run: what Kubernetes says of this pod is late.
    answered_though_stopped: Option<String>,
}

/// By ordinal.
pub type LastConfirmations = HashMap<u8, LastConfirmation>;

/// Notes a look at a member, and gives [`Member::since_confirmed`] to it. `now`: on the clock of this operator, which nobody sets.
pub fn note_confirmation(last: &mut LastConfirmations, member: &mut Member, writer: Option<u8>, now: SignedDuration) {
    let report = member.report();
    let knows_it = report
        .and_then(|report| report.lease)
        .filter(|lease| Some(lease.writer) == writer);
    let milliseconds = |value: u64| SignedDuration::from_millis(i64::try_from(value).unwrap_or(i64::MAX));
    let before = last.remove(&member.ordinal);
    let stopped = member
        .pod
        .as_ref()
        .filter(|pod| !pod.running)
        .map(|pod| pod.uid.clone());
    let answered_before = before
        .as_ref()
        .and_then(|before| before.answered_though_stopped.clone());
    let answered_though_stopped = stopped
        .clone()
        .filter(|pod| report.is_some() || answered_before.as_ref() == Some(pod));
    let at = match (report, knows_it) {
        // What the agent before it confirmed, in the same pod or another one, is known to nobody.
        (Some(report), Some(lease)) => {
            let since = lease
                .since_confirmed_milliseconds
                .unwrap_or(report.clock)
                .min(report.clock);
            Some(now.saturating_sub(milliseconds(since)))
        }
        // Its next agent confirms nothing before an operator has named a writer to it.
        (None, _) if stopped.is_some() && answered_though_stopped.is_none() => {
            let before = before.filter(|before| before.writer == writer);
            Some(before.and_then(|before| before.at).unwrap_or(now))
        }
        _ => None,
    };
    let known = LastConfirmation {
        writer,
        at,
        answered_though_stopped,
    };
    last.insert(member.ordinal, known);
    member.since_confirmed = at.map_or(SignedDuration::ZERO, |at| now.saturating_sub(at));
}
