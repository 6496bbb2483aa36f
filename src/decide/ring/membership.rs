//! Who is in the ring, and who is the one writer: the only place where that changes. `docs/ring.md`, "Healing".

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::Healing;
use crate::api::status::MemberStatus;
use crate::wire::agent::Origin;

use super::founding::is_founded;
use super::health::{Health, is_blind};
use super::lineage::{downstream_lacks, has_caught_up, has_lost_nothing, is_drained, is_foreign};
use super::links::{LinkNeed, link_replicates, need};
use super::recorded;
use super::topology::Ring;
use crate::decide::observed::{Member, Observed, Server};
use crate::decide::serve::fencing;
use crate::decide::serve::writer;

/// A member that is bypassed twice within this time is held out.
const FLAPPING: SignedDuration = SignedDuration::from_mins(5);

/// The observation with the epoch, the ring and the writer of this pass: what status will say before any step is taken.
pub fn settled(observed: &Observed, now: Timestamp) -> Observed {
    let mut settled = observed.clone();
    if let Some(problem) = recorded::unreadable_fields(observed) {
        settled.problems.push(problem);
        return settled;
    }
    let name = settled.name().to_owned();
    let status = settled.cluster.status.get_or_insert_default();
    for member in observed.members.iter().skip(status.member_statuses.len()) {
        status.member_statuses.push(MemberStatus {
            name: member.name(&name),
            // Who comes later joins like one that returns.
            bypassed: status.epoch > 0,
            ..MemberStatus::default()
        });
    }
    if observed.cluster.spec.paused == Some(true) || is_blind(observed) {
        return settled;
    }
    record_absences(&mut settled, now);
    let_go(&mut settled);
    if settled.epoch() == 0 {
        if is_founded(&settled) {
            begin_epoch(&mut settled);
        }
    } else if let Some(ring) = next_ring(&settled, now) {
        close(&mut settled, ring, now);
        begin_epoch(&mut settled);
        let_go(&mut settled);
    }
    let writer = writer::chosen(&settled, now);
    if let Some(status) = &mut settled.cluster.status {
        status.writer = writer;
    }
    settled
}

fn statuses(observed: &mut Observed) -> impl Iterator<Item = &mut MemberStatus> {
    observed
        .cluster
        .status
        .iter_mut()
        .flat_map(|status| &mut status.member_statuses)
}

fn begin_epoch(observed: &mut Observed) {
    if let Some(status) = &mut observed.cluster.status {
        status.epoch += 1;
    }
}

/// Forgets the member that is to leave, once it is out of the ring and holds nothing that nobody else has: then its pod goes.
fn let_go(observed: &mut Observed) {
    let may_go =
        |member: &Member| observed.epoch() == 0 || observed.is_bypassed(member.ordinal) && is_drained(observed, member);
    if observed.leaving().is_some_and(may_go) {
        observed.members.pop();
        if let Some(status) = &mut observed.cluster.status {
            status.member_statuses.truncate(observed.members.len());
        }
    }
}

fn record_absences(observed: &mut Observed, now: Timestamp) {
    let absent: Vec<bool> = observed
        .members
        .iter()
        .map(|member| is_absent(observed, member))
        .collect();
    for (status, absent) in statuses(observed).zip(absent) {
        status.absent_since = absent.then(|| status.absent_since.clone().unwrap_or(Time(now)));
    }
}

/// It cannot take part in the ring. Not absent is one that is suspect, alive but refusing, or halted: to go around it would spread a conflict,
/// or tear a ring that is whole.
fn is_absent(observed: &Observed, member: &Member) -> bool {
    match Health::of(member, observed) {
        Health::NoPod(_) | Health::Starting(_) | Health::Failed(_) => true,
        Health::Suspect(_) | Health::Alive(_) => false,
        // Empty also while it is being cloned.
        Health::Reached => {
            let empty = member.report().is_some_and(|report| report.origin == Origin::Empty);
            empty || is_foreign(observed, member)
        }
    }
}

/// The ring that should be, if it is another than the present one.
fn next_ring(observed: &Observed, now: Timestamp) -> Option<Ring> {
    let ring = observed.ring();
    let (lost, left): (Vec<u8>, Vec<u8>) = ring.ordinals().partition(|ordinal| is_due(observed, *ordinal, now));
    let heals = observed.cluster.spec.replication.healing() == Healing::Bypass;
    let holds_data = |ordinal: &u8| {
        observed
            .member(*ordinal)
            .is_some_and(|member| member.with_data().is_some() && !is_absent(observed, member))
    };
    if heals && !lost.is_empty() && left.iter().any(holds_data) {
        return Some(left.into_iter().collect());
    }
    let leaves = |member: &&Member| ring.contains(member.ordinal) && is_drained(observed, member);
    if let Some(member) = observed.leaving().filter(leaves) {
        return Some(ring.ordinals().filter(|ordinal| *ordinal != member.ordinal).collect());
    }
    let bypassed = || {
        let out = observed.members.iter().filter(|member| !ring.contains(member.ordinal));
        out.filter_map(|member| Some((member, whole(observed, member)?)))
    };
    if heals && left.is_empty() {
        // The one that has most; what others have beyond it merges when they return.
        let able = bypassed()
            .filter(|(member, _)| !observed.is_leaving(member) && !fencing::is_ordered(observed, member.ordinal));
        let heir = able.max_by_key(|(_, server)| server.executed.count());
        return heir.map(|(member, _)| Ring::from_iter([member.ordinal]));
    }
    let back = bypassed().find(|(member, server)| may_join(observed, member, server, now));
    back.map(|(member, _)| ring.ordinals().chain([member.ordinal]).collect())
}

/// It has been absent for long enough to be bypassed.
fn is_due(observed: &Observed, ordinal: u8, now: Timestamp) -> bool {
    let after = SignedDuration::from_secs(i64::from(observed.cluster.spec.failure_detection.bypass_after_seconds));
    let since = observed
        .recorded(ordinal)
        .and_then(|status| status.absent_since.as_ref());
    since.is_some_and(|since| now.duration_since(since.0) >= after)
}

/// A fenced member that has all that was ever known of its own UUID.
fn whole<'a>(observed: &Observed, member: &'a Member) -> Option<&'a Server> {
    let (server, _) = member.with_data()?;
    let whole =
        server.super_read_only && !is_foreign(observed, member) && has_lost_nothing(observed, member.ordinal, server);
    whole.then_some(server)
}

/// It has caught up, and its future downstream can replicate from it.
fn may_join(observed: &Observed, member: &Member, server: &Server, now: Timestamp) -> bool {
    !is_held_out(observed, member.ordinal, now)
        && member.pod.as_ref().is_some_and(|pod| !pod.terminating)
        && need(observed, member.ordinal, server) == LinkNeed::Nothing
        && link_replicates(observed, member.ordinal)
        && has_caught_up(observed, member, server)
        && downstream_lacks(observed, member, server).is_some_and(|lacks| lacks.is_empty())
}

/// It was bypassed too often lately.
pub fn is_held_out(observed: &Observed, ordinal: u8, now: Timestamp) -> bool {
    let until = observed
        .recorded(ordinal)
        .and_then(|status| status.held_out_until.as_ref());
    until.is_some_and(|until| now < until.0)
}

/// Closes the ring over these members and goes around all others.
fn close(observed: &mut Observed, ring: Ring, now: Timestamp) {
    let hold_out = SignedDuration::from_secs(i64::from(observed.cluster.spec.failure_detection.hold_out_seconds));
    for (ordinal, status) in (0..).zip(statuses(observed)) {
        let joins = status.bypassed && ring.contains(ordinal);
        let leaves = !status.bypassed && !ring.contains(ordinal);
        status.bypassed = !ring.contains(ordinal);
        if joins {
            status.held_out_until = None;
        }
        if leaves {
            let lately = |at: &Time| now.duration_since(at.0) < FLAPPING;
            if status.bypassed_at.as_ref().is_some_and(lately) {
                status.held_out_until = Some(Time(now + hold_out));
            }
            status.bypassed_at = Some(Time(now));
        }
    }
}
