//! The status of one pass: states, conditions, and what is recorded for later.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::as_read::AsRead;
use crate::api::reasons::Reason;
use crate::api::status::{LinkStatus, MemberState, MemberStatus, MultiMasterClusterStatus, Phase, Position, Retry};
use crate::names;

use super::conditions::Facts;
use super::fitted::fitted;
use super::room;
use crate::decide::comparison;
use crate::decide::conflicts;
use crate::decide::findings::Finding;
use crate::decide::observed::{Channel, Member, Observed, Receiver, Server};
use crate::decide::ring::links::recorded_position;
use crate::decide::ring::long_sets::{self, Lives};
use crate::decide::ring::recorded;
use crate::decide::roles::Roles;
use crate::decide::serve::balance;
use crate::decide::serve::drain::is_outdated;
use crate::decide::serve::endpoints;
use crate::decide::step::{Action, Step};
use crate::decide::view::View;
use crate::resources::labels::selector_text;

/// Positions, GTID sets, lag and numbers in texts change with every write; they are recorded at most this often.
const RECORD_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// Bytes of a condition's message, and of the other texts in status that people read.
const LONG_TEXT: usize = 16 << 10;
const TEXT: usize = 4 << 10;
/// Texts are written at most this often, unless something else has changed.
const TEXT_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// The status that this pass writes. The present one, unchanged, when there is nothing new to say or it is too early to say it.
pub fn status(
    view: &View,
    present: MultiMasterClusterStatus,
    steps: &[Step],
    now: Timestamp,
) -> MultiMasterClusterStatus {
    let mut next = limited(fresh(view, &present, steps, now)).over(&present);
    next.recorded_at = present.recorded_at.clone();
    // Only a write shows that the API server takes status again.
    if view.observed.status_waits {
        next.recorded_at = Some(Time(now));
        return next;
    }
    if next == present {
        return present;
    }
    // Of a clock that was set back nothing follows.
    let since = present.recorded_at.as_ref().map(|at| now.duration_since(at.0));
    let is_within = |interval| since.is_some_and(|since| !since.is_negative() && since < interval);
    let is_same = |texts: fn(&mut String)| without_record(&next, texts) == without_record(&present, texts);
    let without_numbers = |text: &mut String| text.retain(|letter| !letter.is_ascii_digit());
    if is_within(RECORD_INTERVAL) && is_same(without_numbers) || is_within(TEXT_INTERVAL) && is_same(String::clear) {
        return present;
    }
    next.recorded_at = Some(Time(now));
    next
}

/// Texts that people read, each with a limit: the API server refuses a resource of more than 1.5 MiB, however few of its members have long errors.
fn limited(mut status: MultiMasterClusterStatus) -> MultiMasterClusterStatus {
    let limit = |text: &mut String, most: usize| *text = fitted(std::mem::take(text), most);
    status
        .conditions
        .iter_mut()
        .for_each(|condition| limit(&mut condition.message, LONG_TEXT));
    status.balancer.message.iter_mut().for_each(|text| limit(text, TEXT));
    let comparison = status.comparison.iter_mut();
    comparison
        .flat_map(|comparison| &mut comparison.not_compared)
        .for_each(|text| limit(text, TEXT));
    for difference in status
        .comparison
        .iter_mut()
        .flat_map(|comparison| &mut comparison.differences)
    {
        let texts = [&mut difference.object, &mut difference.members].into_iter();
        texts.chain(&mut difference.keys).for_each(|text| limit(text, TEXT));
    }
    for member in &mut status.member_statuses {
        member.message.iter_mut().for_each(|text| limit(text, TEXT));
        for link in &mut member.links {
            link.last_error.iter_mut().for_each(|text| limit(text, TEXT));
            link.retry.iter_mut().for_each(|retry| limit(&mut retry.error, TEXT));
        }
    }
    status
}

/// What remains when the figures that change with every write are left out, and something of each text that people read.
fn without_record(status: &MultiMasterClusterStatus, texts: fn(&mut String)) -> MultiMasterClusterStatus {
    let mut rest = status.clone();
    rest.max_lag_seconds = None;
    rest.conditions
        .iter_mut()
        .for_each(|condition| texts(&mut condition.message));
    rest.balancer.message.iter_mut().for_each(texts);
    for member in &mut rest.member_statuses {
        member.gtid_executed.clear();
        member.gtid_executed_omitted.clear();
        member.message.iter_mut().for_each(texts);
        for link in &mut member.links {
            link.lag_seconds = None;
            link.position = None;
            link.last_error.iter_mut().for_each(texts);
        }
    }
    rest
}

fn fresh(view: &View, present: &MultiMasterClusterStatus, steps: &[Step], now: Timestamp) -> MultiMasterClusterStatus {
    let (observed, findings) = (view.observed, &view.findings);
    let members: Vec<MemberStatus> = findings
        .members()
        .iter()
        .map(|finding| member_status(view, finding, steps, now))
        .collect();
    let serving = served(view, &members).count();
    let links = || members.iter().flat_map(|member| &member.links);
    let ready_members = if findings.ring_is_closed { serving } else { 0 };
    let mut next = MultiMasterClusterStatus {
        as_read: AsRead::default(),
        observed_generation: observed.cluster.metadata.generation,
        phase: Phase::Pending,
        members: count(observed.members.iter().filter(|member| member.pod.is_some()).count()),
        ready_members: count(ready_members),
        serving: format!("{serving}/{}", observed.cluster.spec.members),
        selector: selector_text(&observed.cluster),
        epoch: observed.epoch(),
        ring: view.roles().ring.drawing(|downstream| {
            findings
                .member(downstream)
                .is_some_and(|finding| finding.link_replicates)
        }),
        max_lag_seconds: links().filter_map(|link| link.lag_seconds).max(),
        conflicts: u32::try_from(conflicts::count(observed, &view.sides)).unwrap_or(u32::MAX),
        database_created: present.database_created,
        writer: observed
            .cluster
            .status
            .as_ref()
            .and_then(|status| status.writer.clone()),
        balancer: balance::status(observed, &present.balancer),
        comparison: comparison::last(observed).cloned(),
        recorded_at: None,
        member_statuses: members,
        conditions: Vec::new(),
    };
    next.phase = phase(view, &next);
    next.conditions = Facts {
        view,
        next: &next,
        steps,
    }
    .conditions(&present.conditions, now);
    next
}

/// The members that serve and that clients reach.
fn served<'a>(view: &'a View, members: &'a [MemberStatus]) -> impl Iterator<Item = &'a MemberStatus> {
    let is_reached = |seen: &Member| endpoints::obstacle(view.roles(), seen).is_none();
    let serving = members.iter().zip(&view.observed.members);
    serving
        .filter(move |(member, seen)| member.state.serves() && is_reached(seen))
        .map(|(member, _)| member)
}

fn count(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn member_status(view: &View, finding: &Finding, steps: &[Step], now: Timestamp) -> MemberStatus {
    let (observed, roles, member) = (view.observed, view.roles(), finding.member);
    let before = observed.recorded(member.ordinal);
    let state = view.state(member.ordinal);
    let since = before
        .filter(|before| before.state == state)
        .and_then(|before| before.since.clone())
        .or(Some(Time(now)));
    let data = finding.data.as_ref().map(|data| data.server);
    let fenced = data.is_some_and(|server| server.super_read_only);
    let (gtid_executed, gtid_executed_omitted) = gtid_executed(observed, member, before, data);
    MemberStatus {
        name: member.name(observed.name()),
        state,
        since,
        bypassed: before.is_some_and(|before| before.bypassed),
        bypassed_at: before.and_then(|before| before.bypassed_at.clone()),
        held_out_until: before.and_then(|before| before.held_out_until.clone()),
        next_clone_at: before.and_then(|before| before.next_clone_at.clone()),
        absent_since: before.and_then(|before| before.absent_since.clone()),
        message: view.message(member.ordinal).map(str::to_owned),
        reads: member.pod.as_ref().is_some_and(|pod| pod.reads),
        server_id: data
            .map(|server| server.server_id)
            .or(before.and_then(|before| before.server_id)),
        server_uuid: data
            .map(|server| server.uuid.clone())
            .or(before.and_then(|before| before.server_uuid.clone())),
        former_server_uuids: finding.former_lives.clone(),
        writable: member.server().map(|server| !server.super_read_only),
        gtid_executed,
        gtid_executed_omitted,
        catch_up_to: match &finding.data {
            // As long as it is to stay fenced there is nothing to catch up with yet.
            Some(_) if roles.is_ordered_fenced(member.ordinal) => None,
            Some(data) if fenced => match &data.lineage.catch_up_target {
                Ok(target) => target
                    .as_ref()
                    .map(|target| long_sets::target(target, &data.server.executed)),
                Err(_) => before.and_then(|before| before.catch_up_to.clone()),
            },
            Some(_) => None,
            // The next contact is another one: by then the others have more.
            None => before
                .filter(|before| before.absent_since.is_none())
                .and_then(|before| before.catch_up_to.clone()),
        },
        fenced_itself: match member.report() {
            Some(report) => report.fenced_itself.clone(),
            None => before.and_then(|before| before.fenced_itself.clone()),
        },
        kept: match member.report() {
            Some(report) => report.kept.clone(),
            None => before.map(|before| before.kept.clone()).unwrap_or_default(),
        },
        volume: room::volume(member, before.and_then(|before| before.volume.as_ref())),
        voters: before.map(|before| before.voters.clone()).unwrap_or_default(),
        links: link_statuses(roles, member, steps, before),
    }
}

/// What is recorded as executed never shrinks within one life: it is what a disk that went back in time is held against. For that it stays also
/// where it cannot be read.
fn gtid_executed(
    observed: &Observed,
    member: &Member,
    before: Option<&MemberStatus>,
    data: Option<&Server>,
) -> (String, Vec<String>) {
    let recorded = before.map(|before| (before.gtid_executed.clone(), before.gtid_executed_omitted.clone()));
    let recorded = recorded.unwrap_or_default();
    let Some(server) = data else { return recorded };
    let same_life = before.and_then(|before| before.server_uuid.as_ref()) == Some(&server.uuid);
    // What is left out of the record may be more than a fenced member has now.
    let executed = match recorded::executed_by(observed, member.ordinal) {
        Ok(executed) if same_life => executed.and(&server.executed, &Lives::of(observed)),
        Err(_) if !recorded::is_open(observed, member) => return recorded,
        _ => server.executed.clone().into(),
    };
    executed.written(observed)
}

/// The link, then what is left over from other rings.
fn link_statuses(roles: &Roles, member: &Member, steps: &[Step], before: Option<&MemberStatus>) -> Vec<LinkStatus> {
    let link = roles.ring.upstream(member.ordinal);
    let channels = member.server().map_or(&[][..], |server| &server.channels);
    let left_over = channels
        .iter()
        .filter_map(|channel| names::upstream_of(&channel.name))
        .filter(|upstream| Some(*upstream) != link);
    let statuses = link.into_iter().chain(left_over);
    statuses
        .map(|upstream| LinkStatus {
            retry: retry(roles.observed, member, upstream, steps),
            ..link_status(roles, member, upstream, before)
        })
        .collect()
}

fn link_status(roles: &Roles, member: &Member, upstream: u8, before: Option<&MemberStatus>) -> LinkStatus {
    let name = names::member(roles.observed.name(), upstream);
    let before = before
        .and_then(|before| before.links.iter().find(|link| link.upstream == name))
        .and_then(|link| link.position.clone());
    let Some(link) = member.link(upstream) else {
        return LinkStatus {
            upstream: name,
            position: kept_position(roles, member, upstream, before),
            ..LinkStatus::default()
        };
    };
    let error = link
        .applier_error
        .as_ref()
        .filter(|_| !link.applier_running)
        .or(link.receiver_error.as_ref().filter(|_| link.receiver != Receiver::On));
    LinkStatus {
        upstream: name,
        io_running: link.receiver == Receiver::On,
        sql_running: link.applier_running,
        lag_seconds: link.lag_seconds,
        last_error: error.map(|error| format!("{}: {}", error.number, error.text)),
        position: position(link)
            .filter(|position| {
                before
                    .as_ref()
                    .is_none_or(|before| before.source_uuid == position.source_uuid)
            })
            .or(before),
        retry: None,
    }
}

/// The transaction that the applier could not apply for a reason that passes, until it is executed.
fn retry(observed: &Observed, member: &Member, upstream: u8, steps: &[Step]) -> Option<Retry> {
    let before = recorded::retry(observed, member.ordinal, upstream);
    let server = member.server();
    let channel = server.and_then(|server| server.channel_from(upstream));
    let (Some(server), Some(channel), Some(error)) = (server, channel, channel.and_then(Channel::interruption)) else {
        return before.cloned();
    };
    let transaction = channel.blocked.clone().unwrap_or_default();
    let earlier = before.filter(|retry| retry.transaction == transaction);
    let starts = [Action::Start { upstream }, Action::StartApplier { upstream }];
    let starts = starts.map(|action| Step::member(member.ordinal, &server.uuid, action));
    let is_started = starts.iter().any(|start| steps.contains(start));
    Some(Retry {
        transaction,
        attempts: earlier.map_or(0, |retry| retry.attempts) + u32::from(is_started),
        error: format!("{}: {}", error.number, error.text),
    })
}

/// A channel that is gone leaves its position behind in status, unless one of the ends has begun another life.
fn kept_position(roles: &Roles, member: &Member, upstream: u8, before: Option<Position>) -> Option<Position> {
    let upstream = roles.observed.member(upstream).and_then(Member::with_data);
    match (member.with_data(), upstream) {
        (Some((downstream, _)), Some((source, _))) => {
            recorded_position(roles, member.ordinal, &downstream.uuid, &source.uuid).cloned()
        }
        _ => before,
    }
}

fn position(link: &Channel) -> Option<Position> {
    let source_uuid = link.source_uuid.clone().filter(|uuid| !uuid.is_empty())?;
    (!link.applied_file.is_empty()).then(|| Position {
        file: link.applied_file.clone(),
        offset: link.applied_offset,
        source_uuid,
    })
}

fn phase(view: &View, next: &MultiMasterClusterStatus) -> Phase {
    let observed = view.observed;
    let outdated = observed.members.iter().any(|member| is_outdated(observed, member));
    let members = next.member_statuses.iter().zip(&observed.members);
    let serving = members
        .filter(|(member, seen)| member.state == MemberState::Serving && endpoints::is_behind(observed, seen))
        .count();
    let halted = next
        .member_statuses
        .iter()
        .any(|member| member.state == MemberState::Halted);
    if observed.cluster.spec.paused == Some(true) {
        Phase::Paused
    } else if observed
        .problems
        .iter()
        .chain(&observed.volumes)
        .any(|problem| problem.reason == Reason::InvalidSpec)
    {
        Phase::Invalid
    } else if next.epoch == 0 {
        Phase::Creating
    } else if outdated {
        Phase::Updating
    } else if next.ready_members >= observed.cluster.spec.members {
        Phase::Running
    } else if serving == 0 && !halted {
        Phase::Unavailable
    } else {
        Phase::Degraded
    }
}
