//! A member with an empty volume: which member it is copied from, and when. `docs/ring.md`, "Loss and return".

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::decide::findings::Findings;
use crate::decide::observed::{Member, Observed};
use crate::decide::roles::Roles;
use crate::decide::step::{Action, Step};
use crate::names;
use crate::wire::agent::CloneFailures;

/// Seconds between a clone that failed and the next one. They double with each that may have read its donor.
const FIRST_PAUSE: u64 = 60;
/// The longest of these pauses, in seconds.
const LONGEST_PAUSE: u64 = 3600;
/// Seconds between a clone that was refused before anything was dropped and the next one. It has read nothing.
const PAUSE_AFTER_REFUSAL: u64 = 10;
/// After so many failures in a row a condition says so.
const FAILING: u32 = 3;
/// What status says of the next clone stays if it is right within this time: agents count whole seconds.
const ABOUT: SignedDuration = SignedDuration::from_secs(5);

/// The member that an empty one is copied from.
///
/// # Errors
/// Why it cannot be rebuilt yet.
pub fn donor(findings: &Findings, ordinal: u8) -> Result<u8, String> {
    let Some(downstream) = findings.roles.ring.downstream(ordinal) else {
        return Err("no other member of the ring is left to copy from".into());
    };
    let name = names::member(findings.observed.name(), downstream);
    // The future downstream already has everything that the clone's binary logs will not. A copy of any other member may have what the
    // downstream could then get from none.
    let finding = findings.member(downstream);
    let data = finding.and_then(|finding| finding.data.as_ref());
    if data.is_some() {
        Ok(downstream)
    } else if finding.and_then(|finding| finding.member.empty()).is_some() {
        Err(format!("waits for {name}, its downstream, to be rebuilt first"))
    } else {
        Err(format!("waits for {name}, its downstream, to copy from"))
    }
}

/// The clone that is due, if any. One at a time: a server can be the donor of one only (error 3634).
pub fn rebuild(findings: &Findings) -> Option<Step> {
    let members = &findings.observed.members;
    let may_link = findings.observed.cluster.spec.knows_positioning();
    if members.iter().any(Member::is_cloning) || !may_link {
        return None;
    }
    let staying = members
        .iter()
        .filter(|member| !findings.roles.is_leaving(member.ordinal));
    let due = staying.filter_map(|member| {
        let (server, report) = member.empty()?;
        let donor = donor(findings, member.ordinal).ok()?;
        if pause_left(&findings.roles, member).is_some() {
            return None;
        }
        let step = Step::member(member.ordinal, &server.uuid, Action::Clone { donor });
        Some((report.last_clone_error.is_some(), step))
    });
    // One that fails again and again must not keep the others waiting.
    due.min_by_key(|(failed, _)| *failed).map(|(_, step)| step)
}

/// When the next clone into each member is due, by ordinal. `None`: no clone into it has failed, or it is due already.
pub fn next_clones(observed: &Observed, now: Timestamp) -> Vec<Option<Time>> {
    let roles = Roles::of(observed);
    let members = observed.members.iter();
    members.map(|member| next_clone(&roles, member, now)).collect()
}

fn next_clone(roles: &Roles, member: &Member, now: Timestamp) -> Option<Time> {
    let recorded = roles.observed.recorded(member.ordinal);
    let recorded = recorded.and_then(|status| status.next_clone_at.clone());
    if member.report().is_none() {
        return recorded;
    }
    let left = i64::try_from(pause_left(roles, member)?).ok()?;
    let next = Timestamp::from_second(now.as_second().saturating_add(left)).ok()?;
    let is_about_right = |recorded: &Time| recorded.0.duration_since(next).abs() <= ABOUT;
    recorded.filter(is_about_right).or(Some(Time(next)))
}

/// Seconds until the next clone into an empty member is due. `None`: it is due.
fn pause_left(roles: &Roles, member: &Member) -> Option<u64> {
    let (_, report) = member.empty()?;
    // An agent that does not count them is given the order at once.
    let failures = report.clone_failures.as_ref()?;
    let donor = roles.ring.downstream(member.ordinal);
    let donor = donor.and_then(|donor| roles.observed.member(donor)?.with_data());
    let failed_with = failures.donor_uuid.as_ref();
    if failed_with.is_some() && donor.is_some_and(|(donor, _)| failed_with != Some(&donor.uuid)) {
        return None;
    }
    let left = pause(failures).saturating_sub(failures.seconds_ago);
    (left > 0).then_some(left)
}

fn pause(failures: &CloneFailures) -> u64 {
    match failures.refused {
        true => PAUSE_AFTER_REFUSAL,
        false => LONGEST_PAUSE.min(FIRST_PAUSE << failures.copied.saturating_sub(1).min(6)),
    }
}

/// Why the last clones into a member failed, how many did, and when the next one is due. `None`: none failed, or the next one is under way.
pub fn failed(observed: &Observed, member: &Member) -> Option<String> {
    let report = member.report()?;
    let error = report.last_clone_error.as_ref()?;
    let next = observed.recorded(member.ordinal);
    let next = next.and_then(|status| status.next_clone_at.as_ref());
    let next = next.map_or_else(String::new, |at| {
        format!("; the next copy begins at {} at the earliest", at.0)
    });
    let count = report.clone_failures.as_ref().map_or(1, |failures| failures.count);
    Some(match count {
        0 | 1 => format!("the last copy failed: {error}{next}"),
        count => format!("{count} copies failed in a row, the last one: {error}{next}"),
    })
}

/// The members into which clones fail again and again, and why.
pub fn failing(observed: &Observed) -> Option<String> {
    let failing = observed.members.iter().filter_map(|member| {
        let failures = member.report()?.clone_failures.as_ref()?;
        let why = || failed(observed, member);
        let runs = || format!("{} copies failed in a row, and the next one runs", failures.count);
        (failures.count >= FAILING).then(|| format!("{}: {}", member.name(observed.name()), why().unwrap_or_else(runs)))
    });
    let failing: Vec<String> = failing.collect();
    (!failing.is_empty()).then(|| failing.join("; "))
}
