//! How a link is attached: which place in the upstream's binary logs, and when it may not be.

use crate::api::Positioning;
use crate::api::status::{Position, Retry};
use crate::mysql::gtid::GtidSet;
use crate::names;

use super::recorded;
use crate::decide::observed::{Channel, Member, Observed, Receiver, Server};
use crate::decide::roles::Roles;
use crate::decide::step::{Action, FIRST_EVENT, StartAt, Step};

/// What MySQL says when the source has purged what the replica lacks.
const PURGED: &str = "purged required binary logs";
/// What MySQL says when another replica with this one's server UUID has connected to the source.
const SAME_UUID: &str = "with the same server_uuid/server_id as this replica has connected";

/// MySQL's number of the error with this name.
const TOO_MANY_CONNECTIONS: u32 = 1040;
const ACCESS_DENIED: u32 = 1045;

/// A link whose last contact is this long ago is not believed to replicate, even if its threads say so. Longer than what makes a witness: this one
/// is about what status claims, and a busy machine delays heartbeats.
const BELIEVED_SECONDS: i64 = 10;

/// The longest pause, in seconds, before an applier that stopped for a reason that passes is started again.
const LONGEST_PAUSE: i64 = 60;

/// What a link needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkNeed {
    /// It replicates, or is doing so as soon as its upstream is there; or there is no other member to replicate from.
    Nothing,
    /// Its upstream, or its own applier, before anything can be done.
    Patience,
    /// A step.
    Step(Step),
    /// The upstream no longer has what the downstream needs.
    Purged(GtidSet),
    /// Its applier stands at a transaction that it cannot apply.
    Conflict,
    /// Its applier stopped for a reason that passes; the step is due once the pause is over.
    Interrupted(Option<Step>),
}

/// What the link into this member needs. `downstream` is its server as seen in this pass.
pub fn need(roles: &Roles, ordinal: u8, downstream: &Server) -> LinkNeed {
    let Some(upstream) = roles.ring.upstream(ordinal) else {
        return LinkNeed::Nothing;
    };
    let server_uuid = downstream.uuid.clone();
    let source = roles
        .observed
        .member(upstream)
        .and_then(|member| member.with_data())
        .map(|(server, _)| server);
    let Some(channel) = downstream.channel_from(upstream) else {
        let Some(source) = source else {
            return LinkNeed::Patience;
        };
        let missing = source.purged.difference(&downstream.executed);
        if !missing.is_empty() {
            return match coming(downstream).contains(&missing) {
                true => LinkNeed::Patience,
                false => LinkNeed::Purged(missing),
            };
        }
        return match start_at(roles, ordinal, downstream, source) {
            Some(start) => LinkNeed::Step(Step::member(ordinal, server_uuid, Action::Attach { upstream, start })),
            None => LinkNeed::Patience,
        };
    };
    let is_astray = leads_astray(roles.observed, channel);
    if channel.conflict().is_some() && !(is_astray && channel.receiver != Receiver::Off) {
        return LinkNeed::Conflict;
    }
    if is_astray {
        return match due_astray(roles.observed, (ordinal, downstream), channel, upstream) {
            Some(action) => LinkNeed::Step(Step::member(ordinal, server_uuid, action)),
            None => LinkNeed::Patience,
        };
    }
    if let Some(source) = source {
        let why = misplaced(roles, ordinal, channel, source);
        if let Some(why) = why.or_else(|| at_wrong_port(roles, channel, upstream))
            && downstream.executed.contains(&channel.retrieved)
        {
            return LinkNeed::Step(Step::member(ordinal, server_uuid, Action::Detach { upstream, why }));
        }
        let missing = source.purged.difference(&downstream.executed.union(&channel.retrieved));
        if channel.receiver_error.is_some() && !missing.is_empty() {
            return LinkNeed::Purged(missing);
        }
    }
    let start = Step::member(ordinal, server_uuid, Action::Start { upstream });
    if channel.interruption().is_some() {
        let is_due = may_be_retried(roles.observed, ordinal, upstream, channel);
        return LinkNeed::Interrupted(is_due.then_some(start));
    }
    let is_past = |source: &Server| gave_up_on_what_is_past(channel, source);
    if channel.stopped_by_hand() || was_pushed_out(channel) || source.is_some_and(is_past) {
        return LinkNeed::Step(start);
    }
    LinkNeed::Nothing
}

/// A channel of a volume that was copied leads to where the original is; or there is a copy where it leads.
pub fn leads_astray(observed: &Observed, channel: &Channel) -> bool {
    let upstream = names::upstream_of(&channel.name).and_then(|upstream| observed.member(upstream));
    observed.leads_away(channel) || upstream.is_some_and(|upstream| upstream.outsider.is_some())
}

/// What is due for a channel that leads astray: it receives nothing. One that leads to another cluster goes when all that it has retrieved is
/// executed; one that leads to a copy stays for the member that was there.
pub fn due_astray(
    observed: &Observed,
    (ordinal, server): (u8, &Server),
    channel: &Channel,
    upstream: u8,
) -> Option<Action> {
    if channel.receiver != Receiver::Off {
        return Some(Action::StopReceiver { upstream });
    }
    if !server.executed.contains(&channel.retrieved) {
        let stands = !channel.applier_running && channel.applier_error.is_none();
        let is_due = stands || may_be_retried(observed, ordinal, upstream, channel);
        return is_due.then_some(Action::StartApplier { upstream });
    }
    let is_away = observed
        .member(upstream)
        .is_none_or(|upstream| upstream.outsider.is_none());
    let why = || {
        format!(
            "{} is of another cluster, and all it had retrieved is applied",
            channel.source_host
        )
    };
    is_away.then(|| Action::Detach { upstream, why: why() })
}

/// Its applier stopped for a reason that passes, and the pause is over: 1 s, doubled by each attempt.
pub fn may_be_retried(observed: &Observed, ordinal: u8, upstream: u8, channel: &Channel) -> bool {
    let same = |retry: &&Retry| retry.transaction == channel.blocked.as_deref().unwrap_or_default();
    let earlier = recorded::retry(observed, ordinal, upstream).filter(same);
    let attempts = earlier.map_or(0, |retry| retry.attempts);
    // Attempts that status does not count may be many.
    let pause = match observed.status_waits {
        true => LONGEST_PAUSE,
        false => LONGEST_PAUSE.min(1 << attempts.min(6)),
    };
    // A clock that was set back must not keep it waiting.
    let is_over = |seconds: i64| !(0..pause).contains(&seconds);
    channel.interruption().is_some() && channel.seconds_since_error.is_some_and(is_over)
}

/// A receiver stops for good, error 13114, when its source has fewer transactions of its own than the replica (its disk went back in time), and
/// when the source has purged what the replica lacks. The one is past when the source has a new life, the other when nothing is missing any more,
/// which the caller has seen to.
fn gave_up_on_what_is_past(channel: &Channel, source: &Server) -> bool {
    let earlier_life = channel.source_uuid.as_ref().is_some_and(|uuid| *uuid != source.uuid);
    channel
        .gave_up()
        .is_some_and(|error| earlier_life || error.text.contains(PURGED))
}

/// A source serves one replica of a server UUID: the last one that came. A copy of this member's volume has come, in another namespace for example. Its
/// own operator or agent stops it, or this start pushes it out.
fn was_pushed_out(channel: &Channel) -> bool {
    channel.gave_up().is_some_and(|error| error.text.contains(SAME_UUID))
}

/// What appliers are about to execute: those that run, and those that are started again soon.
fn coming(server: &Server) -> GtidSet {
    let applying = server.channels.iter().filter(|channel| channel.is_applying());
    GtidSet::union_all(applying.map(|channel| &channel.retrieved))
}

/// The place that status recorded for the link into this member, if it was recorded for the present lives of both ends. A clone, or a disk
/// that went back in time, has not applied what the earlier life had: its old position would skip that.
pub fn recorded_position<'a>(
    roles: &Roles<'a>,
    ordinal: u8,
    downstream_uuid: &str,
    upstream_uuid: &str,
) -> Option<&'a Position> {
    let observed = roles.observed;
    let status = observed.recorded(ordinal)?;
    if status.server_uuid.as_deref() != Some(downstream_uuid) {
        return None;
    }
    let upstream = names::member(observed.name(), roles.ring.upstream(ordinal)?);
    let link = status.links.iter().find(|link| link.upstream == upstream)?;
    link.position
        .as_ref()
        .filter(|position| position.source_uuid == upstream_uuid)
}

/// Where a channel that does not exist yet starts. Never "now".
pub fn start_at(roles: &Roles, ordinal: u8, downstream: &Server, source: &Server) -> Option<StartAt> {
    if roles.observed.cluster.spec.replication.positioning == Positioning::Gtid {
        return Some(StartAt::AutoPosition);
    }
    let recorded = recorded_position(roles, ordinal, &downstream.uuid, &source.uuid)
        .filter(|position| source.binary_logs.contains(&position.file));
    if let Some(position) = recorded {
        return Some(StartAt::Position {
            file: position.file.clone(),
            offset: position.offset,
        });
    }
    // The oldest log is always safe: what is executed already is skipped by GTID.
    source.binary_logs.first().map(|file| StartAt::Position {
        file: file.clone(),
        offset: FIRST_EVENT,
    })
}

/// Why a channel that reads by file and offset reads at a place that means nothing in its upstream's logs.
fn misplaced(roles: &Roles, ordinal: u8, channel: &Channel, source: &Server) -> Option<String> {
    if roles.observed.cluster.spec.replication.positioning == Positioning::Gtid {
        return None;
    }
    let upstream = names::member(roles.observed.name(), roles.ring.upstream(ordinal)?);
    let status = roles.observed.recorded(ordinal)?;
    let recorded = status
        .links
        .iter()
        .find(|link| link.upstream == upstream)
        .and_then(|link| link.position.as_ref());
    if recorded.is_some_and(|position| position.source_uuid != source.uuid) {
        return Some(format!("its position belongs to an earlier life of {upstream}"));
    }
    let gone = channel.receiver_error.is_some()
        && !channel.receiver_file.is_empty()
        && !source.binary_logs.contains(&channel.receiver_file);
    gone.then(|| format!("{upstream} no longer has the binary log {}", channel.receiver_file))
}

/// It is refused, and at the other port there is a place for it: applications hold every connection, or an agent of an earlier version does not have
/// the account. Attached anew, it connects there.
fn at_wrong_port(roles: &Roles, channel: &Channel, upstream: u8) -> Option<String> {
    let has_place = roles
        .observed
        .member(upstream)
        .and_then(Member::report)?
        .has_place_for_links;
    let (port, error) = match has_place {
        true => (names::MYSQL_PORT, TOO_MANY_CONNECTIONS),
        false => (names::MYSQL_ADMIN_PORT, ACCESS_DENIED),
    };
    let is_refused = channel
        .receiver_error
        .as_ref()
        .is_some_and(|refusal| refusal.number == error);
    let upstream = names::member(roles.observed.name(), upstream);
    (channel.source_port == port && is_refused).then(|| match has_place {
        true => format!("applications hold every connection of {upstream}, and its administrative port is free"),
        false => format!("{upstream} has an agent of an earlier version, and no account for it at port {port}"),
    })
}

/// The link into this member brings it what its upstream writes, as far as can be seen; or there is no member to replicate from.
pub fn link_replicates(roles: &Roles, downstream: u8) -> bool {
    let Some(upstream) = roles.ring.upstream(downstream) else {
        return true;
    };
    let observed = roles.observed;
    let Some((source, _)) = observed.member(upstream).and_then(Member::with_data) else {
        return false;
    };
    // A receiver believes in its connection for seconds after the server at the other end has gone; by now there may be another life.
    let is_of_this_life = |link: &Channel| link.source_uuid.as_ref().is_none_or(|uuid| *uuid == source.uuid);
    let link = observed.member(downstream).and_then(|member| member.link(upstream));
    !link_is_interrupted(roles, downstream)
        && link.is_some_and(|link| {
            link.replicates()
                && is_of_this_life(link)
                && link
                    .seconds_since_contact
                    .is_none_or(|seconds| seconds < BELIEVED_SECONDS)
        })
}

/// The applier of the link into this member stopped for a reason that passes. It is started again, or tries again at this moment.
pub fn link_is_interrupted(roles: &Roles, downstream: u8) -> bool {
    let upstream = roles.ring.upstream(downstream);
    upstream.is_some_and(|upstream| {
        let member = roles.observed.member(downstream);
        let link = member.and_then(|member| member.link(upstream));
        link.is_some_and(|link| link.interruption().is_some())
            || recorded::retry(roles.observed, downstream, upstream).is_some()
    })
}
