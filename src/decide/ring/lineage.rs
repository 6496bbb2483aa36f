//! May a returned member be opened? Its own history, and what it has to catch up with. All about GTID sets.

use crate::mysql::gtid::GtidSet;

use super::recorded;
use crate::decide::observed::{Member, Observed, Server};

/// What other reachable members have of anything: executed, or retrieved and not yet applied.
fn known_elsewhere(observed: &Observed, ordinal: u8) -> GtidSet {
    observed
        .others(ordinal)
        .filter_map(Member::server)
        .fold(GtidSet::default(), |known, server| known.union(&server.held()))
}

/// Transactions under this server's UUID that status or a reachable member has and it has not: its disk went back in time.
/// While it is empty the member has all it ever acknowledged (invariant I11).
///
/// # Errors
/// Why nobody knows: a set in status cannot be read.
pub fn lost(observed: &Observed, ordinal: u8, server: &Server) -> Result<GtidSet, String> {
    let recorded = recorded::executed(observed)?;
    let own = known_elsewhere(observed, ordinal).union(&recorded).only(&server.uuid);
    Ok(own.difference(&server.executed))
}

/// It is known to have lost nothing.
pub fn has_lost_nothing(observed: &Observed, ordinal: u8, server: &Server) -> bool {
    lost(observed, ordinal, server).is_ok_and(|lost| lost.is_empty())
}

/// UUIDs of the earlier lives of this ordinal, as status and the volume remember them, oldest first.
pub fn former_lives(observed: &Observed, member: &Member) -> Vec<String> {
    let status = observed.recorded(member.ordinal);
    let data = member.with_data().filter(|_| !is_foreign(observed, member));
    let present = data
        .map(|(server, _)| server.uuid.as_str())
        .or(status.and_then(|status| status.server_uuid.as_deref()));
    let from_status = status
        .into_iter()
        .flat_map(|status| status.former_server_uuids.iter().chain(&status.server_uuid));
    let from_volume = data.into_iter().flat_map(|(_, report)| &report.former_server_uuids);
    let mut lives: Vec<String> = Vec::new();
    for uuid in from_status.chain(from_volume) {
        if Some(uuid.as_str()) != present && !lives.contains(uuid) {
            lives.push(uuid.clone());
        }
    }
    lives
}

/// What earlier lives of this ordinal wrote, as far as it survives on reachable members. A new life that opened without it could hand
/// out auto-increment values again (invariant I4).
fn written_by_former_lives(observed: &Observed, member: &Member) -> GtidSet {
    let known = known_elsewhere(observed, member.ordinal);
    former_lives(observed, member)
        .iter()
        .fold(GtidSet::default(), |all, uuid| all.union(&known.only(uuid)))
}

/// What the member must have executed before it may open. Set once at contact and kept in status, because the upstream goes on
/// writing. `None`: its upstream is out of reach, there is nothing to wait for yet.
///
/// # Errors
/// What status recorded cannot be read, and its upstream cannot be asked for anything to take its place.
pub fn catch_up_target(observed: &Observed, member: &Member) -> Result<Option<GtidSet>, String> {
    let kept = recorded::catch_up_to(observed, member.ordinal);
    if let Ok(Some(_)) = kept {
        return kept;
    }
    let upstream = observed.ring().upstream(member.ordinal);
    let upstream = upstream.and_then(|upstream| observed.member(upstream)?.with_data());
    match upstream {
        Some((upstream, _)) => Ok(Some(
            upstream.executed.union(&written_by_former_lives(observed, member)),
        )),
        None => kept,
    }
}

/// It holds all that it has to hold before it opens.
pub fn has_caught_up(observed: &Observed, member: &Member, server: &Server) -> bool {
    let former = written_by_former_lives(observed, member);
    if !server.executed.contains(&former) {
        return false;
    }
    // An applier that stands at a conflict will not get further by waiting. A member of the ring was open when it met the conflict, or would
    // have been, so it stays writable and marked; one that is bypassed would bring the conflict to the others (docs/ring.md, "Conflicts").
    if observed.link(member).is_some_and(|link| link.conflict().is_some()) {
        return !observed.is_bypassed(member.ordinal);
    }
    let (Ok(target), Ok(obtainable)) = (catch_up_target(observed, member), obtainable(observed, member.ordinal)) else {
        return false;
    };
    target.is_none_or(|target| server.executed.contains(&target.intersection(&obtainable)))
}

/// What others have, or had when they were last seen and are merely suspect now. What went with an absent member, or with a disk that was set
/// back, may never come: nobody waits for it.
fn obtainable(observed: &Observed, ordinal: u8) -> Result<GtidSet, String> {
    let is_suspect = |member: &&Member| {
        let status = observed.recorded(member.ordinal);
        member.server().is_none() && status.is_some_and(|status| status.absent_since.is_none())
    };
    let mut suspects = observed.others(ordinal).filter(is_suspect);
    suspects.try_fold(known_elsewhere(observed, ordinal), |all, suspect| {
        Ok(all.union(&recorded::executed_by(observed, suspect.ordinal)?))
    })
}

/// A data directory that this cluster has never seen, with a history that it shares with nobody: somebody else's volume.
pub fn is_foreign(observed: &Observed, member: &Member) -> bool {
    let (Some((server, report)), Some(status)) = (member.with_data(), observed.recorded(member.ordinal)) else {
        return false;
    };
    if status.server_uuid.is_none() && observed.epoch() == 0 {
        return false;
    }
    let remembers =
        |uuid: &String| status.server_uuid.as_ref() == Some(uuid) || status.former_server_uuids.contains(uuid);
    let known = remembers(&server.uuid) || report.former_server_uuids.iter().any(remembers);
    if known || server.executed.is_empty() {
        return false;
    }
    let mut histories = observed
        .others(member.ordinal)
        .filter_map(Member::server)
        .map(|other| &other.executed)
        .filter(|set| !set.is_empty())
        .peekable();
    histories.peek().is_some() && histories.all(|history| server.executed.difference(history) == server.executed)
}

/// It takes no writes, and another member of the ring has executed all that it has.
pub fn is_drained(observed: &Observed, member: &Member) -> bool {
    if member.empty().is_some() {
        return true;
    }
    let Some((server, _)) = member.with_data().filter(|(server, _)| server.super_read_only) else {
        return false;
    };
    let held = server.held();
    observed
        .others_in_ring(member.ordinal)
        .filter_map(Member::with_data)
        .any(|(other, _)| other.executed.contains(&held))
}

/// What the member has purged and its downstream needs: until that has come from elsewhere the one cannot replicate from the other. `None`:
/// the downstream cannot be asked.
pub fn downstream_lacks(observed: &Observed, member: &Member, server: &Server) -> Option<GtidSet> {
    let downstream = observed.ring().downstream(member.ordinal)?;
    let (downstream, _) = observed.member(downstream)?.with_data()?;
    Some(server.purged.difference(&downstream.executed))
}
