//! One member that takes writes (`spec.writes: SingleWriter`): who it is, and when it may open. `docs/ring.md`, "One writer".

use std::cmp::Reverse;
use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::agent::report::Phase;
use crate::api::status::WriterStatus;

use super::fencing;
use super::health::Health;
use super::history::{has_caught_up, is_foreign, lost};
use super::links::{self, LinkNeed, link_replicates};
use super::observed::{Member, Observed, Server};
use super::plan::takes_part;
use super::reads::lag;
use super::restart::is_outdated;
use super::states::ring_is_whole;

/// Beyond the lease: a member that fences itself at its end has so long to do it.
const MARGIN: SignedDuration = SignedDuration::from_secs(1);
/// Who takes over in peace is no further behind, in seconds: nobody writes until it has caught up.
const CLOSE: i64 = 1;

/// Who is the writer from this pass on. It stays the one until it fails or has to go, and does not become it again by itself.
pub fn chosen(observed: &Observed, now: Timestamp) -> Option<WriterStatus> {
    if !observed.cluster.has_single_writer() || observed.epoch() == 0 {
        return None;
    }
    let present = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| status.writer.clone());
    let member = observed.writer().and_then(|writer| observed.member(writer));
    let (why, candidate) = match member.map(|member| (member, reason_to_move(observed, member))) {
        Some((_, None)) => return present,
        Some((member, Some(Reason::Failure(why)))) => (why, best(observed, Some(member), |_| true)),
        Some((member, Some(Reason::Plan(why)))) => {
            let close = |candidate: &Member| lag(observed, candidate.ordinal).is_some_and(|seconds| seconds <= CLOSE);
            (why, best(observed, Some(member), close))
        }
        None => ("the first".into(), best(observed, None, |_| true)),
    };
    let next = candidate.map(|candidate| WriterStatus {
        name: candidate.name(observed.name()),
        since: Time(now),
        why,
    });
    next.or(present)
}

enum Reason {
    /// It takes no writes, or is about to stop.
    Failure(String),
    /// It could go on, but has to be restarted or to leave.
    Plan(String),
}

fn reason_to_move(observed: &Observed, member: &Member) -> Option<Reason> {
    let name = member.name(observed.name());
    let failure = |why: String| Some(Reason::Failure(format!("{name}: {why}")));
    let plan = |why: &str| Some(Reason::Plan(format!("{name}: {why}")));
    if observed.is_bypassed(member.ordinal) {
        return failure("it is not in the ring".into());
    }
    if member.pod.as_ref().is_some_and(|pod| pod.terminating) {
        return failure("its pod is being deleted".into());
    }
    match Health::of(member, observed) {
        Health::NoPod(why) | Health::Starting(why) | Health::Failed(why) => return failure(why),
        Health::Suspect(_) | Health::Alive(_) => return None,
        Health::Reached => {}
    }
    if fencing::is_ordered(observed, member.ordinal) {
        return failure("a person wants it fenced".into());
    }
    let (server, _) = member.with_data()?;
    if server.super_read_only && !is_sound(observed, member) {
        return failure("it is fenced, and cannot be opened yet".into());
    }
    if observed.is_leaving(member) {
        return plan("it leaves the ring");
    }
    let last_to_restart = || {
        observed
            .others(member.ordinal)
            .all(|other| !is_outdated(observed, other))
    };
    if observed.problems.is_empty() && is_outdated(observed, member) && ring_is_whole(observed) && last_to_restart() {
        return plan("it is to be restarted");
    }
    None
}

/// Could take writes now, as far as it alone is concerned.
pub fn is_sound(observed: &Observed, member: &Member) -> bool {
    let Some((server, _)) = member.with_data() else {
        return false;
    };
    let links = || {
        matches!(
            links::need(observed, member.ordinal, server),
            LinkNeed::Nothing | LinkNeed::Patience
        )
    };
    takes_part(observed, member)
        && member.pod.as_ref().is_some_and(|pod| !pod.terminating)
        && !is_foreign(observed, member)
        && lost(observed, member.ordinal, server).map_or(!server.super_read_only, |lost| lost.is_empty())
        && (!server.super_read_only || links() && has_caught_up(observed, member, server))
}

/// Of those that could: one that is open already, that need not be restarted, that holds most.
fn best<'a>(
    observed: &'a Observed,
    present: Option<&Member>,
    is_eligible: impl Fn(&Member) -> bool,
) -> Option<&'a Member> {
    let others = observed
        .members
        .iter()
        .filter(|member| present.is_none_or(|present| present.ordinal != member.ordinal));
    others
        .filter(|member| is_sound(observed, member) && is_eligible(member))
        .max_by_key(|member| {
            let server = member.server();
            (
                server.is_some_and(|server| !server.super_read_only),
                !is_outdated(observed, member),
                server.map(|server| server.held().count()),
                Reverse(member.ordinal),
            )
        })
}

/// Whether the writer may take writes now: no other member does, and it has executed all that can be had.
///
/// # Errors
/// What it waits for.
pub fn may_open(observed: &Observed, member: &Member, server: &Server) -> Result<(), String> {
    if !observed.cluster.has_single_writer() {
        return Ok(());
    }
    let lease = SignedDuration::from_secs(observed.cluster.spec.isolation.lease_seconds.into()) + MARGIN;
    let told = member.report().and_then(|report| report.lease);
    let Some(told) = told.filter(|told| told.writer == member.ordinal && told.held) else {
        return Err("its agent does not know yet that it is the writer".into());
    };
    // Until it was told so it may have confirmed the one before it, which then has a lease that nobody else knows of.
    let confirmed = told
        .silent_milliseconds
        .map(|milliseconds| SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX)));
    let may_write = |other: &&Member| !takes_no_writes(other) && !other.last_seen_fenced;
    for other in observed.others(member.ordinal).filter(may_write) {
        let name = other.name(observed.name());
        if other.server().is_some() {
            return Err(format!("{name} still takes writes and is fenced first"));
        }
        if other.unheard < lease || confirmed.is_some_and(|since| since < lease) {
            return Err(format!(
                "{name} does not answer, and may take writes until its lease has ended"
            ));
        }
    }
    for channel in server.channels.iter().filter(|channel| channel.applier_running) {
        if !server.executed.contains(&channel.retrieved) {
            return Err("it has yet to apply what it has received".into());
        }
    }
    match upstreams(observed, member.ordinal).find(|upstream| !server.executed.contains(&upstream.executed)) {
        Some(_) => Err("it has yet to get what others have executed".into()),
        None => Ok(()),
    }
}

/// Somebody is to take the writes, and nobody does yet: what that waits for comes soon.
pub fn is_awaited(observed: &Observed) -> bool {
    let writer = observed.writer().and_then(|writer| observed.member(writer)?.server());
    writer.is_some_and(|server| server.super_read_only)
}

/// Known to take no writes from clients: fenced, or its mysqld is down and will start fenced.
fn takes_no_writes(member: &Member) -> bool {
    let down = member.report().is_some_and(|report| match &report.phase {
        Phase::Initialising | Phase::Starting | Phase::Restarting { .. } => true,
        // CLONE needs super_read_only off; read_only keeps clients out, who have no right to get around it.
        Phase::Cloning { .. } => true,
        Phase::Stopping { fenced } => *fenced,
        Phase::Running | Phase::Unknown => false,
    });
    down || member.server().is_some_and(|server| server.super_read_only)
}

/// [`Member::last_seen_fenced`] after another look: no answer tells nothing new, because a mysqld starts fenced and only the operator opens it.
pub fn remains_fenced(member: &Member, before: bool) -> bool {
    takes_no_writes(member) || before && member.server().is_none()
}

/// Notes a look at a member in `fenced`, the ordinals for which [`Member::last_seen_fenced`] holds, and gives it to the member.
pub fn note_fenced(fenced: &mut HashSet<u8>, member: &mut Member) {
    member.last_seen_fenced = remains_fenced(member, fenced.contains(&member.ordinal));
    match member.last_seen_fenced {
        true => fenced.insert(member.ordinal),
        false => fenced.remove(&member.ordinal),
    };
}

/// The servers before this member, for as long as what they have arrives here.
fn upstreams(observed: &Observed, ordinal: u8) -> impl Iterator<Item = &Server> {
    let before = move |downstream: u8| {
        let upstream = observed.ring().upstream(downstream)?;
        (upstream != ordinal && link_replicates(observed, downstream)).then_some(upstream)
    };
    std::iter::successors(before(ordinal), move |upstream| before(*upstream))
        .filter_map(|upstream| observed.member(upstream)?.server())
}
