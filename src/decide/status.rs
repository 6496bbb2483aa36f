//! The status of one pass: states, conditions, and what is recorded for later.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::agent::report::Origin;
use crate::api::status::{
    LinkStatus, MemberState, MemberStatus, MultiMasterClusterStatus, Phase, Position, conditions, reasons,
};
use crate::names;

use super::health::is_blind;
use super::history::{catch_up_target, former_lives, recorded};
use super::links::{self, LinkNeed, recorded_position};
use super::observed::{Channel, Member, Observed, Receiver};
use super::plan::is_outdated;
use super::states::{link_replicates, purged, ring_is_closed, state};
use super::step::Step;

/// Positions, GTID sets and lag change with every write; they are recorded at most this often.
const RECORD_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// The status that this pass writes. The present one, unchanged, when there is nothing new to say or it is too early to say it.
pub fn status(observed: &Observed, epoch: i64, steps: &[Step], now: Timestamp) -> MultiMasterClusterStatus {
    let present = observed.cluster.status.clone().unwrap_or_default();
    let mut next = fresh(observed, &present, epoch, steps, now);
    next.recorded_at = present.recorded_at.clone();
    if next == present {
        return present;
    }
    let recent = present
        .recorded_at
        .as_ref()
        .is_some_and(|at| now.duration_since(at.0) < RECORD_INTERVAL);
    if recent && without_record(&next) == without_record(&present) {
        return present;
    }
    next.recorded_at = Some(Time(now));
    next
}

/// What remains when the figures that change with every write are left out.
fn without_record(status: &MultiMasterClusterStatus) -> MultiMasterClusterStatus {
    let mut rest = status.clone();
    rest.max_lag_seconds = None;
    for member in &mut rest.member_statuses {
        member.gtid_executed.clear();
        for link in &mut member.links {
            link.lag_seconds = None;
            link.position = None;
        }
    }
    rest
}

fn fresh(
    observed: &Observed,
    present: &MultiMasterClusterStatus,
    epoch: i64,
    steps: &[Step],
    now: Timestamp,
) -> MultiMasterClusterStatus {
    let members: Vec<MemberStatus> = observed
        .members
        .iter()
        .map(|member| member_status(observed, member, now))
        .collect();
    let serving = members
        .iter()
        .filter(|member| member.state == MemberState::Serving)
        .count();
    let links = || members.iter().flat_map(|member| &member.links);
    let conflicts = observed
        .members
        .iter()
        .filter(|member| conflict(observed, member).is_some())
        .count();
    let ready_members = if ring_is_closed(observed) { serving } else { 0 };
    let mut next = MultiMasterClusterStatus {
        observed_generation: observed.cluster.metadata.generation,
        phase: Phase::Pending,
        members: count(observed.members.iter().filter(|member| member.pod.is_some()).count()),
        ready_members: count(ready_members),
        serving: format!("{serving}/{}", observed.cluster.spec.members),
        selector: format!("{}={}", names::LABEL_CLUSTER, observed.name()),
        epoch,
        ring: observed
            .ring()
            .drawing(|downstream| link_replicates(observed, downstream)),
        max_lag_seconds: links().filter_map(|link| link.lag_seconds).max(),
        conflicts: u32::try_from(conflicts).unwrap_or(u32::MAX),
        database_created: present.database_created,
        recorded_at: None,
        member_statuses: members,
        conditions: Vec::new(),
    };
    next.phase = phase(observed, &next);
    next.conditions = Facts {
        observed,
        next: &next,
        steps,
    }
    .conditions(&present.conditions, now);
    next
}

fn count(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn conflict<'a>(observed: &Observed, member: &'a Member) -> Option<&'a super::observed::SqlError> {
    member
        .link(observed.ring().upstream(member.ordinal))
        .and_then(Channel::conflict)
}

fn member_status(observed: &Observed, member: &Member, now: Timestamp) -> MemberStatus {
    let before = recorded(observed, member.ordinal);
    let (state, message) = state(observed, member);
    let since = before
        .filter(|before| before.state == state)
        .and_then(|before| before.since.clone())
        .or(Some(Time(now)));
    let data = member.with_data().map(|(server, _)| server);
    let fenced = data.is_some_and(|server| server.super_read_only);
    MemberStatus {
        name: member.name(observed.name()),
        state,
        since,
        message,
        server_id: data
            .map(|server| server.server_id)
            .or(before.and_then(|before| before.server_id)),
        server_uuid: data
            .map(|server| server.uuid.clone())
            .or(before.and_then(|before| before.server_uuid.clone())),
        former_server_uuids: former_lives(observed, member),
        writable: member.server().map(|server| !server.super_read_only),
        gtid_executed: gtid_executed(before, data),
        catch_up_to: match data {
            Some(_) if fenced => catch_up_target(observed, member).map(|set| set.to_string()),
            Some(_) => None,
            None => before.and_then(|before| before.catch_up_to.clone()),
        },
        links: vec![link_status(observed, member, before)],
    }
}

/// What is recorded as executed never shrinks within one life: it is what a disk that went back in time is held against.
fn gtid_executed(before: Option<&MemberStatus>, data: Option<&super::observed::Server>) -> String {
    let recorded = before.map(|before| before.gtid_executed.clone()).unwrap_or_default();
    let Some(server) = data else { return recorded };
    let same_life = before.and_then(|before| before.server_uuid.as_ref()) == Some(&server.uuid);
    match recorded.parse() {
        Ok(recorded) if same_life => server.executed.union(&recorded).to_string(),
        _ => server.executed.to_string(),
    }
}

fn link_status(observed: &Observed, member: &Member, before: Option<&MemberStatus>) -> LinkStatus {
    let upstream = observed.ring().upstream(member.ordinal);
    let name = names::member(observed.name(), upstream);
    let before = before
        .and_then(|before| before.links.iter().find(|link| link.upstream == name))
        .and_then(|link| link.position.clone());
    let Some(link) = member.link(upstream) else {
        return LinkStatus {
            upstream: name,
            position: kept_position(observed, member, before),
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
    }
}

/// A channel that is gone leaves its position behind in status, unless one of the ends has begun another life.
fn kept_position(observed: &Observed, member: &Member, before: Option<Position>) -> Option<Position> {
    let upstream = observed
        .member(observed.ring().upstream(member.ordinal))
        .and_then(Member::with_data);
    match (member.with_data(), upstream) {
        (Some((downstream, _)), Some((source, _))) => {
            recorded_position(observed, member.ordinal, &downstream.uuid, &source.uuid).cloned()
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

fn phase(observed: &Observed, next: &MultiMasterClusterStatus) -> Phase {
    let outdated = observed.members.iter().any(|member| is_outdated(observed, member));
    let serving = next
        .member_statuses
        .iter()
        .filter(|member| member.state == MemberState::Serving)
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
        .any(|problem| problem.reason == reasons::INVALID_SPEC)
    {
        Phase::Invalid
    } else if next.epoch == 0 {
        Phase::Creating
    } else if outdated {
        Phase::Updating
    } else if usize::from(next.ready_members) == observed.members.len() {
        Phase::Running
    } else if serving == 0 && !halted {
        Phase::Unavailable
    } else {
        Phase::Degraded
    }
}

/// What conditions are made of.
struct Facts<'a> {
    observed: &'a Observed,
    next: &'a MultiMasterClusterStatus,
    steps: &'a [Step],
}

/// Status, reason and message of a condition.
type Judgement = (&'static str, &'static str, String);

impl Facts<'_> {
    fn conditions(&self, present: &[Condition], now: Timestamp) -> Vec<Condition> {
        let unknown = |judgement: Judgement| match is_blind(self.observed) {
            true => (
                "Unknown",
                reasons::NO_MEMBER_REACHABLE,
                "no member answers; perhaps it is the operator that is cut off, so nothing is changed".into(),
            ),
            false => judgement,
        };
        let judgements = [
            (conditions::READY, unknown(self.ready())),
            (conditions::AVAILABLE, unknown(self.available())),
            (conditions::RING_CLOSED, unknown(self.ring_closed())),
            (conditions::DEGRADED, unknown(self.degraded())),
            (conditions::CONFLICT_FREE, unknown(self.conflict_free())),
            (
                conditions::CONVERGED,
                ("Unknown", reasons::NOT_COMPARED, "tables were not compared".into()),
            ),
            (conditions::PROGRESSING, self.progressing()),
            (conditions::PAUSED, self.paused()),
        ];
        judgements
            .into_iter()
            .map(|(type_, judgement)| condition(present, type_, judgement, self.next.observed_generation, now))
            .collect()
    }

    /// `demo-1 is Failed (why), demo-2 is Cloning`: those who do not serve.
    fn absent(&self) -> Option<String> {
        let absent: Vec<String> = self
            .next
            .member_statuses
            .iter()
            .filter(|member| !matches!(member.state, MemberState::Serving | MemberState::Halted))
            .map(|member| match &member.message {
                Some(message) => format!("{} is {:?} ({message})", member.name, member.state),
                None => format!("{} is {:?}", member.name, member.state),
            })
            .collect();
        (!absent.is_empty()).then(|| absent.join(", "))
    }

    fn all_data_lost(&self) -> bool {
        let empty = |member: &Member| member.report().is_some_and(|report| report.origin == Origin::Empty);
        self.next.epoch > 0 && self.observed.members.iter().all(empty)
    }

    fn ready(&self) -> Judgement {
        let pod_problem = || {
            self.observed
                .members
                .iter()
                .filter(|member| member.server().is_none())
                .find_map(|member| member.pod.as_ref()?.problem.as_ref())
        };
        if let Some(problem) = self.observed.problems.first().or_else(pod_problem) {
            return ("False", problem.reason, problem.message.clone());
        }
        if self.next.epoch == 0 {
            return (
                "False",
                reasons::FOUNDING,
                self.absent().unwrap_or_else(|| "the ring is being founded".into()),
            );
        }
        if self.all_data_lost() {
            return ("False", reasons::DATA_LOST, "every volume is empty, so there is nothing to serve; delete this resource and create it again to begin anew".into());
        }
        if let Some(absent) = self.absent() {
            return ("False", reasons::MEMBERS_ABSENT, absent);
        }
        match self.broken_links() {
            Some(broken) => ("False", reasons::LINKS_BROKEN, broken),
            None => (
                "True",
                reasons::ALL_MEMBERS_SERVE,
                format!(
                    "all {} members serve in the ring {}",
                    self.observed.members.len(),
                    self.next.ring
                ),
            ),
        }
    }

    fn available(&self) -> Judgement {
        let serving: Vec<&str> = self
            .next
            .member_statuses
            .iter()
            .filter(|member| matches!(member.state, MemberState::Serving | MemberState::Halted))
            .map(|member| member.name.as_str())
            .collect();
        match serving.is_empty() {
            true => (
                "False",
                reasons::NO_MEMBER_SERVES,
                "no member takes writes through the Service".into(),
            ),
            false => (
                "True",
                reasons::MEMBERS_SERVE,
                format!("writes are taken by {}", serving.join(", ")),
            ),
        }
    }

    fn broken_links(&self) -> Option<String> {
        let broken: Vec<String> = self
            .observed
            .ring()
            .ordinals()
            .filter(|downstream| !link_replicates(self.observed, *downstream))
            .filter_map(|downstream| self.next.member_statuses.get(usize::from(downstream)))
            .filter_map(|member| member.links.first().map(|link| (member, link)))
            .map(|(member, link)| match &link.last_error {
                Some(error) => format!("{} does not replicate from {}: {error}", member.name, link.upstream),
                None => format!("{} does not replicate from {}", member.name, link.upstream),
            })
            .collect();
        (!broken.is_empty()).then(|| broken.join("; "))
    }

    fn ring_closed(&self) -> Judgement {
        let lost = self.observed.members.iter().find_map(|member| {
            match links::need(self.observed, member.ordinal, member.with_data()?.0) {
                LinkNeed::Purged(missing) => Some(purged(self.observed, member, &missing.to_string())),
                _ => None,
            }
        });
        match (lost, self.broken_links()) {
            (Some(lost), _) => ("False", reasons::POSITION_LOST, lost),
            (None, Some(broken)) => ("False", reasons::LINKS_BROKEN, broken),
            (None, None) => (
                "True",
                reasons::ALL_LINKS_REPLICATE,
                format!("the ring is {}", self.next.ring),
            ),
        }
    }

    fn degraded(&self) -> Judgement {
        match self.absent() {
            Some(absent) => ("True", reasons::MEMBERS_ABSENT, absent),
            None => ("False", reasons::ALL_MEMBERS_SERVE, "every member serves".into()),
        }
    }

    fn conflict_free(&self) -> Judgement {
        let stopped: Vec<String> = self
            .observed
            .members
            .iter()
            .filter_map(|member| Some((member, conflict(self.observed, member)?)))
            .map(|(member, error)| {
                format!(
                    "{} stands at a transaction that it cannot apply, error {}: {}",
                    member.name(self.observed.name()),
                    error.number,
                    error.text
                )
            })
            .collect();
        match stopped.is_empty() {
            true => (
                "True",
                reasons::NO_CONFLICTS,
                "no applier is stopped by an error".into(),
            ),
            false => ("False", reasons::APPLIER_STOPPED, stopped.join("; ")),
        }
    }

    fn progressing(&self) -> Judgement {
        if let Some(problem) = self.observed.problems.first() {
            return ("False", problem.reason, problem.message.clone());
        }
        let outdated: Vec<String> = self
            .observed
            .members
            .iter()
            .filter(|member| is_outdated(self.observed, member))
            .map(|member| member.name(self.observed.name()))
            .collect();
        if self.next.epoch == 0 {
            ("True", reasons::FOUNDING, "the ring is being founded".into())
        } else if !outdated.is_empty() {
            (
                "True",
                reasons::ROLLING_RESTART,
                format!("members to restart: {}", outdated.join(", ")),
            )
        } else if self.steps.iter().any(Step::is_risky) || self.absent().is_some() {
            ("True", reasons::REATTACHING, "members are brought back".into())
        } else {
            ("False", reasons::STABLE, "there is nothing to do".into())
        }
    }

    fn paused(&self) -> Judgement {
        match self.observed.cluster.spec.paused {
            Some(true) => (
                "True",
                reasons::PAUSED,
                "spec.paused is true: nothing is changed".into(),
            ),
            _ => ("False", reasons::NOT_PAUSED, "the operator is at work".into()),
        }
    }
}

/// `lastTransitionTime` changes only when the status flips.
pub fn condition(
    present: &[Condition],
    type_: &str,
    (status, reason, message): Judgement,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let before = present
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status);
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}

/// Written at once for a new resource or a new generation, before anything else is done.
pub fn not_observed(
    present: &MultiMasterClusterStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> MultiMasterClusterStatus {
    let judgement: Judgement = ("Unknown", reasons::NOT_OBSERVED, "not looked at yet".into());
    let types = [
        conditions::READY,
        conditions::AVAILABLE,
        conditions::RING_CLOSED,
        conditions::DEGRADED,
        conditions::CONFLICT_FREE,
        conditions::CONVERGED,
        conditions::PROGRESSING,
        conditions::PAUSED,
    ];
    let mut next = present.clone();
    next.observed_generation = generation;
    next.conditions = types
        .into_iter()
        .map(|type_| condition(&present.conditions, type_, judgement.clone(), generation, now))
        .collect();
    next
}
