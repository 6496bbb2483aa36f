//! May a returned member be opened? Its own history, and what it has to catch up with. All about GTID sets.

use crate::mysql::gtid::GtidSet;

use super::long_sets::Executed;
use super::recorded;
use crate::decide::observed::{Member, Observed, Outsider, Ownership, Server};
use crate::decide::roles::Roles;
use crate::names;

/// What is known of transactions, whichever member has them: the same for all members, so it is read once.
#[derive(Clone, Debug)]
pub struct Known {
    /// What each reachable member has of anything, by ordinal: executed, or retrieved and not yet applied.
    held: Vec<Option<GtidSet>>,
    /// What status recorded as executed, by ordinal.
    recorded: Result<Vec<Executed>, String>,
}

impl Known {
    /// Reads it from one observation.
    pub fn of(observed: &Observed) -> Self {
        let servers = observed.members.iter().map(Member::server);
        Self {
            held: servers.map(|server| server.map(Server::held)).collect(),
            recorded: recorded::executed(observed),
        }
    }

    /// Transactions under this server's UUID that status or another reachable member has, and this server has not.
    fn lost(
        &self,
        observed: &Observed,
        member: &Member,
        server: &Server,
        elsewhere: &GtidSet,
    ) -> Result<GtidSet, String> {
        let recorded = self.recorded.as_ref().map_err(String::clone)?;
        let own = recorded.iter().map(|executed| executed.set.only(&server.uuid));
        let own: Vec<GtidSet> = own.chain([elsewhere.only(&server.uuid)]).collect();
        let lost = GtidSet::union_all(&own).difference(&server.executed);
        let left_out = recorded
            .iter()
            .position(|executed| executed.leaves_out_member(&server.uuid));
        let (Some(at), true) = (left_out, lost.is_empty()) else {
            return Ok(lost);
        };
        // What no member has, no member ever takes for what this one writes under the same numbers.
        let silent = (0..recorded.len()).find(|other| {
            let held = self.held.get(*other).and_then(Option::as_ref);
            *other != usize::from(member.ordinal) && held.is_none()
        });
        let name = |ordinal: usize| names::member(observed.name(), u8::try_from(ordinal).unwrap_or(u8::MAX));
        silent.map_or(Ok(lost), |silent| {
            Err(format!(
                "status.memberStatuses[{at}].gtidExecuted of {} leaves out the transactions of its server UUID, because their names are too long for \
                 status. So it cannot be known whether its disk went back in time before every other member answers; {} does not. If no disk was set \
                 back, empty gtidExecuted and gtidExecutedOmitted with `kubectl edit mmc {} --subresource=status`",
                name(at),
                name(silent),
                observed.name(),
            ))
        })
    }

    /// What reachable members other than this one have.
    fn elsewhere(&self, ordinal: u8) -> GtidSet {
        let others = (0..).zip(&self.held).filter(|(other, _)| *other != ordinal);
        GtidSet::union_all(others.filter_map(|(_, held)| held.as_ref()))
    }
}

/// What the data of a member lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Transactions under this server's UUID that status or a reachable member has and this server has not: its disk went back in time.
    /// While this is empty the member has all it ever acknowledged (invariant I11). An error says why that cannot be known: a set in status
    /// cannot be read, or leaves them out.
    pub lost: Result<GtidSet, String>,
    /// What a fenced member must have executed before it may open. Set once at contact and kept in status, because the upstream goes on
    /// writing. `None`: it takes writes, or its upstream is out of reach, so there is nothing to wait for yet. An error says that what status
    /// recorded cannot be read, and that its upstream cannot be asked for anything to take its place.
    pub catch_up_target: Result<Option<GtidSet>, String>,
    /// It is fenced, and holds all that it has to hold before it opens.
    pub has_caught_up: bool,
}

impl Lineage {
    /// Judges the data of one member, whose server is `server` in this pass.
    pub fn of(roles: &Roles, known: &Known, member: &Member, server: &Server, former_lives: &[String]) -> Self {
        let elsewhere = known.elsewhere(member.ordinal);
        let judged = Self {
            lost: known.lost(roles.observed, member, server, &elsewhere),
            catch_up_target: Ok(None),
            has_caught_up: false,
        };
        if !server.super_read_only {
            return judged;
        }
        // A new life that opened without what its earlier lives wrote could hand out auto-increment values again (invariant I4).
        let former: Vec<GtidSet> = former_lives.iter().map(|uuid| elsewhere.only(uuid)).collect();
        let former = GtidSet::union_all(&former);
        let catch_up_target = catch_up_target(roles, member, &former, &elsewhere);
        Self {
            has_caught_up: has_caught_up(roles, member, server, &catch_up_target, &former, &elsewhere),
            catch_up_target,
            ..judged
        }
    }

    /// It is known to have lost nothing.
    pub fn has_lost_nothing(&self) -> bool {
        self.lost.as_ref().is_ok_and(GtidSet::is_empty)
    }
}

/// UUIDs of the earlier lives of this ordinal, as status and the volume remember them, oldest first.
pub fn former_lives(observed: &Observed, member: &Member) -> Vec<String> {
    let status = observed.recorded(member.ordinal);
    let data = member.with_data();
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

fn catch_up_target(
    roles: &Roles,
    member: &Member,
    former: &GtidSet,
    elsewhere: &GtidSet,
) -> Result<Option<GtidSet>, String> {
    let observed = roles.observed;
    let kept = recorded::catch_up_to(observed, member.ordinal);
    if let Ok(Some(_)) = kept {
        return kept;
    }
    let upstream = roles.ring.upstream(member.ordinal);
    let upstream = upstream.and_then(|upstream| observed.member(upstream)?.with_data());
    match upstream {
        Some((upstream, _)) => Ok(Some(upstream.executed.union(former))),
        // Nobody else can have any of it.
        None if recorded::is_omitted(observed, member.ordinal)
            && suspects(observed, member.ordinal).next().is_none() =>
        {
            Ok(Some(elsewhere.union(former)))
        }
        None => kept,
    }
}

fn has_caught_up(
    roles: &Roles,
    member: &Member,
    server: &Server,
    target: &Result<Option<GtidSet>, String>,
    former: &GtidSet,
    elsewhere: &GtidSet,
) -> bool {
    if !server.executed.contains(former) {
        return false;
    }
    // An applier that stands at a conflict will not get further by waiting. A member of the ring was open when it met the conflict, or would
    // have been, so it stays writable and marked; one that is bypassed would bring the conflict to the others (docs/ring.md, "Conflicts").
    if roles.link(member).is_some_and(|link| link.conflict().is_some()) {
        return !roles.is_bypassed(member.ordinal);
    }
    let Ok(target) = target else { return false };
    let target = target.clone().unwrap_or_default();
    let obtainable = obtainable(roles.observed, member.ordinal, &target, elsewhere);
    obtainable.is_ok_and(|obtainable| server.executed.contains(&obtainable))
}

/// Of the target what others have, or had when they were last seen and are merely suspect now. What went with an absent member, or with a disk that
/// was set back, may never come: no member waits for it.
fn obtainable(observed: &Observed, ordinal: u8, target: &GtidSet, elsewhere: &GtidSet) -> Result<GtidSet, String> {
    suspects(observed, ordinal).try_fold(target.intersection(elsewhere), |mut all, suspect| {
        all.add(&recorded::executed_by(observed, suspect.ordinal)?.possibly(target));
        Ok(all)
    })
}

/// Other members that do not answer, and were not absent in the pass before.
fn suspects(observed: &Observed, ordinal: u8) -> impl Iterator<Item = &Member> {
    observed.others(ordinal).filter(|member| {
        let status = observed.recorded(member.ordinal);
        member.server().is_none() && status.is_some_and(|status| status.absent_since.is_none())
    })
}

/// It holds nothing of this ring, or it takes no writes and another member of the ring has executed all that it has.
pub fn is_drained(roles: &Roles, member: &Member) -> bool {
    let has_nothing_of_ours = |outsider: &Outsider| outsider.ownership != Ownership::Unknown;
    if member.empty().is_some() || member.outsider.as_ref().is_some_and(has_nothing_of_ours) {
        return true;
    }
    let Some((server, _)) = member.with_data().filter(|(server, _)| server.super_read_only) else {
        return false;
    };
    let held = server.held();
    roles
        .others_in_ring(member.ordinal)
        .filter_map(Member::with_data)
        .any(|(other, _)| other.executed.contains(&held))
}

/// What the member has purged and its downstream needs: until that has come from elsewhere the one cannot replicate from the other. `None`:
/// the downstream cannot be asked.
pub fn downstream_lacks(roles: &Roles, member: &Member, server: &Server) -> Option<GtidSet> {
    let downstream = roles.ring.downstream(member.ordinal)?;
    let (downstream, _) = roles.observed.member(downstream)?.with_data()?;
    Some(server.purged.difference(&downstream.executed))
}
