//! Conditions: what is true of the whole cluster, why, and since when.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::status::{MemberState, MultiMasterClusterStatus, conditions, reasons};
use crate::names;
use crate::wire::agent::Origin;

use super::judgement::Judgement;
use super::states::purged;
use crate::decide::comparison;
use crate::decide::conflicts;
use crate::decide::conflicts::unread;
use crate::decide::observed::{Member, Observed};
use crate::decide::ring::health::is_blind;
use crate::decide::ring::links::{self, LinkNeed, link_replicates};
use crate::decide::ring::recorded;
use crate::decide::serve::drain::is_outdated;
use crate::decide::serve::fencing;
use crate::decide::step::Step;

/// What conditions are made of.
pub(super) struct Facts<'a> {
    pub(super) observed: &'a Observed,
    pub(super) next: &'a MultiMasterClusterStatus,
    pub(super) steps: &'a [Step],
}

impl Facts<'_> {
    pub(super) fn conditions(&self, present: &[Condition], now: Timestamp) -> Vec<Condition> {
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
            (conditions::CONVERGED, comparison::converged(self.observed, now)),
            (conditions::PROGRESSING, self.progressing()),
            (conditions::PAUSED, self.paused()),
        ];
        let own = judgements
            .into_iter()
            .map(|(type_, judgement)| condition(present, type_, judgement, self.next.observed_generation, now));
        own.chain(of_others(present)).collect()
    }

    /// `demo-1 is Failed (why), demo-2 is Cloning`: those who do not serve.
    fn absent(&self) -> Option<String> {
        let absent: Vec<String> = self
            .next
            .member_statuses
            .iter()
            .take(self.observed.cluster.spec.members.into())
            .filter(|member| !member.state.serves() && member.state != MemberState::Halted)
            .map(|member| {
                let bypassed = if member.bypassed { " and bypassed" } else { "" };
                let why = member.message.as_ref().map(|message| format!(" ({message})"));
                format!(
                    "{} is {:?}{bypassed}{}",
                    member.name,
                    member.state,
                    why.unwrap_or_default()
                )
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
            None if self.next.balancer.message.is_some() => (
                "False",
                reasons::BALANCER_NOT_SERVING,
                self.next.balancer.message.clone().unwrap_or_default(),
            ),
            // Whoever waited for Ready wants to log in.
            None if self.observed.cluster.spec.database.is_some() && !self.next.database_created => {
                ("False", reasons::FOUNDING, "the first database is being created".into())
            }
            None => (
                "True",
                reasons::ALL_MEMBERS_SERVE,
                format!(
                    "all {} members serve in the ring {}{}",
                    self.observed.cluster.spec.members,
                    self.next.ring,
                    match &self.next.writer {
                        Some(writer) => format!("; {} takes the writes", writer.name),
                        None => String::new(),
                    }
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
            .filter(|member| member.writable == Some(true))
            .map(|member| member.name.as_str())
            .collect();
        if self.next.balancer.is_haproxy() && self.next.balancer.serving == 0 {
            let message = self.next.balancer.message.clone().unwrap_or_default();
            let way_out = "with spec.balancer.type Service, and without HAProxy's settings, it leads to the members";
            return (
                "False",
                reasons::BALANCER_NOT_SERVING,
                format!("nobody is behind the Service; {way_out}; {message}"),
            );
        }
        match serving.is_empty() {
            true => (
                "False",
                reasons::NO_MEMBER_SERVES,
                match self.next.writer.as_ref().and_then(|writer| self.why_not(&writer.name)) {
                    Some(why) => format!("no member takes writes through the Service: {why}"),
                    None => "no member takes writes through the Service".into(),
                },
            ),
            false => (
                "True",
                reasons::MEMBERS_SERVE,
                format!("writes are taken by {}", serving.join(", ")),
            ),
        }
    }

    /// `demo-1 is Returning (why)`: of the one writer.
    fn why_not(&self, writer: &str) -> Option<String> {
        let member = self.next.member_statuses.iter().find(|member| member.name == writer)?;
        let why = member.message.as_ref().map(|message| format!(" ({message})"));
        Some(format!(
            "{writer} is to take them and is {:?}{}",
            member.state,
            why.unwrap_or_default()
        ))
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
            let (server, _) = member
                .with_data()
                .filter(|_| !self.observed.is_bypassed(member.ordinal))?;
            match links::need(self.observed, member.ordinal, server) {
                LinkNeed::Purged(missing) => Some(purged(self.observed, member, server, &missing)),
                _ => None,
            }
        });
        match (lost, self.broken_links()) {
            (Some(lost), _) => ("False", reasons::POSITION_LOST, lost),
            (None, Some(broken)) => ("False", reasons::LINKS_BROKEN, broken),
            (None, None) => ("True", reasons::ALL_LINKS_REPLICATE, self.closed()),
        }
    }

    fn closed(&self) -> String {
        match self.observed.ring().ordinals().count() {
            1 => format!(
                "{} is alone",
                names::member(
                    self.observed.name(),
                    self.observed.ring().ordinals().next().unwrap_or_default()
                )
            ),
            _ => format!("the ring is {}", self.next.ring),
        }
    }

    fn degraded(&self) -> Judgement {
        match self.absent() {
            Some(absent) => ("True", reasons::MEMBERS_ABSENT, absent),
            None => ("False", reasons::ALL_MEMBERS_SERVE, "every member serves".into()),
        }
    }

    fn conflict_free(&self) -> Judgement {
        let stopped = self.observed.members.iter().any(|member| member.conflict().is_some());
        let unknown = unread::unknown(self.observed);
        let Some(told) = conflicts::told(self.observed) else {
            return match unknown {
                None => ("True", reasons::NO_CONFLICTS, "no conflict is open".into()),
                Some(why) => ("Unknown", reasons::CONFLICTS_UNREADABLE, why),
            };
        };
        let message = match unknown {
            None => told,
            Some(why) => format!("{told}; {why}"),
        };
        match stopped {
            true => ("False", reasons::APPLIER_STOPPED, message),
            false => ("False", reasons::SETTLING, message),
        }
    }

    fn progressing(&self) -> Judgement {
        if let Some(problem) = self.observed.problems.first() {
            return ("False", problem.reason, problem.message.clone());
        }
        if let Err(unreadable) = recorded::executed(self.observed) {
            return ("False", reasons::STATUS_UNREADABLE, unreadable);
        }
        let outdated: Vec<String> = self
            .observed
            .members
            .iter()
            .filter(|member| is_outdated(self.observed, member))
            .map(|member| member.name(self.observed.name()))
            .collect();
        let orders = [
            fencing::ordered(self.observed).err(),
            conflicts::ordered(self.observed).err(),
            comparison::asked(self.observed).err(),
        ];
        if let Some(wrong) = orders.into_iter().flatten().next() {
            return ("False", reasons::INVALID_ANNOTATION, wrong);
        }
        if self.next.epoch == 0 {
            ("True", reasons::FOUNDING, "the ring is being founded".into())
        } else if !outdated.is_empty() {
            (
                "True",
                reasons::ROLLING_RESTART,
                format!("members to restart: {}", outdated.join(", ")),
            )
        } else if let Some(leaving) = self.observed.leaving() {
            let name = leaving.name(self.observed.name());
            match leaving.server() {
                Some(_) => ("True", reasons::SCALING, format!("{name} leaves the ring")),
                None => (
                    "False",
                    reasons::LEAVING_BLOCKED,
                    format!(
                        "{name} cannot leave: it does not answer, and may hold writes that nobody else has; bring it back"
                    ),
                ),
            }
        } else if self.joins() {
            ("True", reasons::SCALING, "new members are made".into())
        } else if self.steps.iter().any(Step::is_risky) || self.absent().is_some() {
            ("True", reasons::REATTACHING, "members are brought back".into())
        } else {
            ("False", reasons::STABLE, "there is nothing to do".into())
        }
    }

    /// A member that never was in the ring.
    fn joins(&self) -> bool {
        let mut members = self.next.member_statuses.iter();
        members.any(|member| member.bypassed && member.bypassed_at.is_none())
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

/// The types of all conditions that this version judges.
const TYPES: [&str; 8] = [
    conditions::READY,
    conditions::AVAILABLE,
    conditions::RING_CLOSED,
    conditions::DEGRADED,
    conditions::CONFLICT_FREE,
    conditions::CONVERGED,
    conditions::PROGRESSING,
    conditions::PAUSED,
];

/// Conditions that another version has judged. They stay as they are.
fn of_others(present: &[Condition]) -> impl Iterator<Item = Condition> {
    let others = present
        .iter()
        .filter(|condition| !TYPES.contains(&condition.type_.as_str()));
    others.cloned()
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
    let mut next = present.clone();
    next.observed_generation = generation;
    let own = TYPES
        .into_iter()
        .map(|type_| condition(&present.conditions, type_, judgement.clone(), generation, now));
    next.conditions = own.chain(of_others(&present.conditions)).collect();
    next
}
