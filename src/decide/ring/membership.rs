//! Which members are in the ring, and which one is the writer: the only place where that changes. `docs/ring.md`, "Healing".

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::Healing;
use crate::api::status::MemberStatus;
use crate::wire::agent::Origin;

use super::founding::is_founded;
use super::health::{Health, is_blind};
use super::lineage;
use super::links::LinkNeed;
use super::ownership;
use super::rebuild;
use super::recorded;
use super::topology::Ring;
use crate::decide::findings::{Data, Findings};
use crate::decide::observed::{Member, Observed};
use crate::decide::roles::Roles;
use crate::decide::serve::{opening, voters, writer};
use crate::decide::view::View;
use crate::mysql::gtid::GtidSet;

/// A member that is bypassed twice within this time is held out.
const FLAPPING: SignedDuration = SignedDuration::from_mins(5);

/// The observation with the epoch, the ring and the writer of this pass: what status will say before any step is taken. Copies are
/// [apart](ownership::apart).
pub fn of_this_pass(observed: &Observed, now: Timestamp) -> Observed {
    let mut next = observed.clone();
    ownership::apart(&mut next);
    if let Some(problem) = recorded::unreadable_fields(observed) {
        next.problems.push(problem);
        return next;
    }
    next.problems.splice(0..0, recorded::newer_spec(&observed.cluster));
    let name = next.name().to_owned();
    let status = next.cluster.status.get_or_insert_default();
    for member in observed.members.iter().skip(status.member_statuses.len()) {
        status.member_statuses.push(MemberStatus {
            name: member.name(&name),
            // A member that comes later joins like one that returns.
            bypassed: status.epoch > 0,
            ..MemberStatus::default()
        });
    }
    // What status could not say is not decided: the ring is healed as it is recorded.
    if observed.cluster.spec.paused == Some(true) || observed.status_waits || is_blind(&next) {
        return next;
    }
    record_absences(&mut next, now);
    let_go(&mut next);
    if next.epoch() == 0 {
        if is_founded(&next) {
            begin_epoch(&mut next);
        }
    } else if let Some(ring) = next_ring(&Findings::of(&next), now) {
        close(&mut next, ring, now);
        begin_epoch(&mut next);
        let_go(&mut next);
    }
    let next_clones = rebuild::next_clones(&next, now);
    for (status, at) in statuses(&mut next).zip(next_clones) {
        status.next_clone_at = at;
    }
    let writer = match next.cluster.has_single_writer() && next.epoch() > 0 {
        true => writer::chosen(&View::of(&next), now),
        false => None,
    };
    if let Some(status) = &mut next.cluster.status {
        status.writer = writer;
    }
    let (roles, has_moved) = (Roles::of(&next), next.cluster.writer() != observed.cluster.writer());
    let voters = next
        .members
        .iter()
        .map(|member| voters::of_member(&roles, member, opening::takes_no_writes(member), has_moved));
    let voters: Vec<_> = voters.collect();
    for (status, voters) in statuses(&mut next).zip(voters) {
        status.voters = voters;
    }
    next
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

/// Forgets the member that is to leave, and its pod goes: in epoch 0 at once, later when it is out of the ring and another member of the ring has
/// all that it holds.
fn let_go(observed: &mut Observed) {
    let roles = Roles::of(observed);
    let may_go = |member: &&Member| {
        let is_out = || roles.is_bypassed(member.ordinal) && lineage::is_drained(&roles, member);
        observed.epoch() == 0 || is_out() && !voters::is_counted(observed, member.ordinal)
    };
    if roles.leaving.filter(may_go).is_none() {
        return;
    }
    observed.members.pop();
    if let Some(status) = &mut observed.cluster.status {
        status.member_statuses.truncate(observed.members.len());
    }
}

fn record_absences(observed: &mut Observed, now: Timestamp) {
    let roles = Roles::of(observed);
    let members = observed.members.iter();
    let is_known = |member: &Member| !is_unknown(observed, &Health::of(member, &roles));
    let absent = members.map(|member| is_known(member).then(|| is_absent(&roles, member)));
    let absent: Vec<Option<bool>> = absent.collect();
    for (status, absent) in statuses(observed).zip(absent) {
        if let Some(absent) = absent {
            status.absent_since = absent.then(|| status.absent_since.clone().unwrap_or(Time(now)));
        }
    }
}

/// A late look says nothing of a member that has not answered.
fn is_unknown(observed: &Observed, health: &Health) -> bool {
    observed.looked_late && matches!(health, Health::Suspect(_))
}

/// It cannot take part in the ring. A member that is suspect, alive but refusing, or halted is not absent: to go around it would spread a
/// conflict, or tear a ring that is whole.
fn is_absent(roles: &Roles, member: &Member) -> bool {
    match Health::of(member, roles) {
        Health::NoPod(_) | Health::Starting(_) | Health::Failed(_) => true,
        Health::Suspect(_) | Health::Alive(_) => false,
        // Empty also while it is being cloned.
        Health::Reached => member.report().is_some_and(|report| report.origin == Origin::Empty),
    }
}

/// The ring that should be, if it is another than the present one.
fn next_ring(findings: &Findings, now: Timestamp) -> Option<Ring> {
    let (observed, roles, ring) = (findings.observed, &findings.roles, findings.roles.ring);
    if !observed.cluster.spec.knows_positioning() {
        return None;
    }
    let is_lost = |ordinal: &u8| {
        let finding = findings.member(*ordinal);
        let is_unknown = finding.is_some_and(|finding| is_unknown(observed, &finding.health));
        is_due(observed, *ordinal, now) && !is_unknown
    };
    let (lost, left): (Vec<u8>, Vec<u8>) = ring.ordinals().partition(is_lost);
    let heals = observed.cluster.spec.replication.healing() == Healing::Bypass;
    let holds_data = |ordinal: &u8| {
        findings
            .member(*ordinal)
            .is_some_and(|finding| finding.data.is_some() && finding.health == Health::Reached)
    };
    if heals && !lost.is_empty() && left.iter().any(holds_data) {
        return Some(left.into_iter().collect());
    }
    let leaving = roles.leaving.and_then(|member| findings.member(member.ordinal));
    if let Some(leaves) = leaving.filter(|finding| ring.contains(finding.member.ordinal) && finding.is_drained) {
        return Some(
            ring.ordinals()
                .filter(|ordinal| *ordinal != leaves.member.ordinal)
                .collect(),
        );
    }
    let bypassed = || {
        let out = findings.with_data().filter(|data| !ring.contains(data.ordinal()));
        // Fenced, with all that was ever known of its own UUID.
        out.filter(|data| data.server.super_read_only && data.lineage.has_lost_nothing())
    };
    if heals && left.is_empty() {
        // The one that has most; what others have beyond it merges when they return.
        let able =
            bypassed().filter(|data| !roles.is_leaving(data.ordinal()) && !roles.is_ordered_fenced(data.ordinal()));
        let heir = able.max_by_key(|data| data.server.executed.count());
        return heir.map(|data| Ring::from_iter([data.ordinal()]));
    }
    let back = bypassed().find(|data| may_join(findings, data, now));
    back.map(|data| ring.ordinals().chain([data.ordinal()]).collect())
}

/// It has been absent for long enough to be bypassed.
fn is_due(observed: &Observed, ordinal: u8, now: Timestamp) -> bool {
    let after = SignedDuration::from_secs(i64::from(observed.cluster.spec.failure_detection.bypass_after_seconds));
    let since = observed
        .recorded(ordinal)
        .and_then(|status| status.absent_since.as_ref());
    since.is_some_and(|since| now.duration_since(since.0) >= after)
}

/// It has caught up, and its future downstream can replicate from it.
fn may_join(findings: &Findings, data: &Data, now: Timestamp) -> bool {
    let replicates = || {
        findings
            .member(data.ordinal())
            .is_some_and(|finding| finding.link_replicates)
    };
    !is_held_out(findings.observed, data.ordinal(), now)
        && data.member.pod.as_ref().is_some_and(|pod| !pod.terminating)
        && data.need == LinkNeed::Nothing
        && replicates()
        && data.lineage.has_caught_up
        && data.downstream_lacks.as_ref().is_some_and(GtidSet::is_empty)
}

/// It was bypassed too often lately.
fn is_held_out(observed: &Observed, ordinal: u8, now: Timestamp) -> bool {
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
