//! How a link is attached: which place in the upstream's binary logs, and when it may not be.

use crate::api::Positioning;
use crate::api::status::Position;
use crate::mysql::gtid::GtidSet;
use crate::names;

use crate::decide::observed::{Channel, Observed, Server};
use crate::decide::step::{FIRST_EVENT, StartAt, Step};

/// What MySQL says when the source has purged what the replica lacks.
const PURGED: &str = "purged required binary logs";

/// A link that was silent this long is not believed to replicate, even if its threads say so. Longer than what makes a witness: this one
/// is about what status claims, and a busy machine delays heartbeats.
const BELIEVED_SECONDS: i64 = 10;

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
}

/// What the link into this member needs. `downstream` is its server as seen in this pass.
pub fn need(observed: &Observed, ordinal: u8, downstream: &Server) -> LinkNeed {
    let Some(upstream) = observed.ring().upstream(ordinal) else {
        return LinkNeed::Nothing;
    };
    let server_uuid = downstream.uuid.clone();
    let source = observed
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
        return match start_at(observed, ordinal, downstream, source) {
            Some(start) => LinkNeed::Step(Step::Attach {
                ordinal,
                server_uuid,
                upstream,
                start,
            }),
            None => LinkNeed::Patience,
        };
    };
    if channel.conflict().is_some() {
        return LinkNeed::Conflict;
    }
    if let Some(source) = source {
        if let Some(why) = misplaced(observed, ordinal, channel, source)
            && downstream.executed.contains(&channel.retrieved)
        {
            return LinkNeed::Step(Step::Detach {
                ordinal,
                server_uuid,
                upstream,
                why,
            });
        }
        let missing = source.purged.difference(&downstream.executed.union(&channel.retrieved));
        if channel.receiver_error.is_some() && !missing.is_empty() {
            return LinkNeed::Purged(missing);
        }
    }
    if channel.stopped_by_hand() || source.is_some_and(|source| gave_up_on_what_is_past(channel, source)) {
        return LinkNeed::Step(Step::Start {
            ordinal,
            server_uuid,
            upstream,
        });
    }
    LinkNeed::Nothing
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

/// What appliers that run are about to execute.
fn coming(server: &Server) -> GtidSet {
    let running = server.channels.iter().filter(|channel| channel.applier_running);
    running.fold(GtidSet::default(), |all, channel| all.union(&channel.retrieved))
}

/// The place that status recorded for the link into this member, if it was recorded for the present lives of both ends. A clone, or a disk
/// that went back in time, has not applied what the earlier life had: its old position would skip that.
pub fn recorded_position<'a>(
    observed: &'a Observed,
    ordinal: u8,
    downstream_uuid: &str,
    upstream_uuid: &str,
) -> Option<&'a Position> {
    let status = observed.recorded(ordinal)?;
    if status.server_uuid.as_deref() != Some(downstream_uuid) {
        return None;
    }
    let upstream = names::member(observed.name(), observed.ring().upstream(ordinal)?);
    let link = status.links.iter().find(|link| link.upstream == upstream)?;
    link.position
        .as_ref()
        .filter(|position| position.source_uuid == upstream_uuid)
}

/// Where a channel that does not exist yet starts. Never "now".
pub fn start_at(observed: &Observed, ordinal: u8, downstream: &Server, source: &Server) -> Option<StartAt> {
    if observed.cluster.spec.replication.positioning == Positioning::Gtid {
        return Some(StartAt::AutoPosition);
    }
    let recorded = recorded_position(observed, ordinal, &downstream.uuid, &source.uuid)
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
fn misplaced(observed: &Observed, ordinal: u8, channel: &Channel, source: &Server) -> Option<String> {
    if observed.cluster.spec.replication.positioning == Positioning::Gtid {
        return None;
    }
    let upstream = names::member(observed.name(), observed.ring().upstream(ordinal)?);
    let status = observed.recorded(ordinal)?;
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

/// The link into this member brings it what its upstream writes, as far as can be seen; or it has nobody to replicate from.
pub fn link_replicates(observed: &Observed, downstream: u8) -> bool {
    let Some(upstream) = observed.ring().upstream(downstream) else {
        return true;
    };
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
