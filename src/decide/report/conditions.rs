//! Conditions: what is true of the whole cluster, why, and since when.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::reasons::Reason;
use crate::api::status::{MemberState, MemberStatus, MultiMasterClusterStatus, conditions};
use crate::names;
use crate::wire::agent::Origin;

use super::judgement::{Judgement, condition, of_others};
use super::room::volumes_have_room;
use super::stalled::stalled;
use super::states::{purged, tries_again};
use crate::decide::comparison;
use crate::decide::conflicts;
use crate::decide::conflicts::unread;
use crate::decide::findings::Data;
use crate::decide::observed::Member;
use crate::decide::ring::health::is_blind;
use crate::decide::ring::links::LinkNeed;
use crate::decide::ring::ownership;
use crate::decide::ring::rebuild;
use crate::decide::ring::recorded;
use crate::decide::serve::drain::is_outdated;
use crate::decide::step::Step;
use crate::decide::view::View;

/// What conditions are made of.
pub(super) struct Facts<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) next: &'a MultiMasterClusterStatus,
    pub(super) steps: &'a [Step],
}

impl Facts<'_> {
    pub(super) fn conditions(&self, present: &[Condition], now: Timestamp) -> Vec<Condition> {
        let unknown = |judgement: Judgement| match is_blind(self.view.observed) {
            true => Judgement::unknown(
                Reason::NoMemberReachable,
                "no member answers; perhaps it is the operator that is cut off, so nothing is changed",
            ),
            false => judgement,
        };
        let judgements = [
            (
                conditions::READY,
                self.no_credentials().unwrap_or_else(|| unknown(self.ready())),
            ),
            (conditions::AVAILABLE, unknown(self.available())),
            (conditions::RING_CLOSED, unknown(self.ring_closed())),
            (conditions::DEGRADED, unknown(self.degraded())),
            (conditions::CONFLICT_FREE, unknown(self.conflict_free())),
            (conditions::CONVERGED, comparison::converged(self.view, now)),
            (conditions::PROGRESSING, self.progressing()),
            (conditions::STALLED, self.stalled()),
            (conditions::PAUSED, self.paused()),
            (
                conditions::VOLUMES_HAVE_ROOM,
                unknown(volumes_have_room(&self.next.member_statuses)),
            ),
        ];
        let own = judgements
            .into_iter()
            .map(|(type_, judgement)| condition(present, type_, judgement, self.next.observed_generation, now));
        own.chain(of_others(present)).collect()
    }

    /// `demo-1 is Failed (why), demo-2 is Cloning`: the members that do not serve.
    fn absent(&self) -> Option<String> {
        let absent: Vec<String> = self
            .next
            .member_statuses
            .iter()
            .take(self.view.observed.cluster.spec.members.into())
            .zip(&self.view.observed.members)
            .filter(|(member, seen)| !member.state.serves() && !self.serves_halted(member, seen))
            .map(|(member, _)| {
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

    /// It stands at a conflict and keeps its clients. It may have come to stand there before it had any: by a channel of an earlier ring.
    pub(super) fn serves_halted(&self, member: &MemberStatus, seen: &Member) -> bool {
        let reads = self.view.roles().is_reader(seen.ordinal) && seen.pod.as_ref().is_some_and(|pod| pod.reads);
        member.state == MemberState::Halted && (seen.has_label() || reads)
    }

    /// Why no member is asked anything.
    fn no_credentials(&self) -> Option<Judgement> {
        let mut problems = self.view.observed.problems.iter();
        let withheld = |reason| matches!(reason, Reason::CopiedSecret | Reason::CredentialsIncomplete);
        let problem = problems.find(|problem| withheld(problem.reason))?;
        Some(Judgement::no(problem.reason, problem.message.clone()))
    }

    fn data_lost(&self) -> Option<Judgement> {
        let empty = |member: &Member| member.report().is_some_and(|report| report.origin == Origin::Empty);
        let message = "every volume is empty, so there is nothing to serve; delete this resource and create it again to begin anew";
        let is_lost = self.next.epoch > 0 && self.view.observed.members.iter().all(empty);
        is_lost.then(|| Judgement::no(Reason::DataLost, message))
    }

    /// The members serve, and their volumes do not get the size of the spec.
    fn volumes(&self) -> Option<Judgement> {
        let problem = self.view.observed.volumes.as_ref()?;
        Some(Judgement::no(problem.reason, problem.message.clone()))
    }

    fn stalled(&self) -> Judgement {
        stalled(self.view.observed, self.data_lost())
    }

    fn ready(&self) -> Judgement {
        let pod_problem = || {
            self.view
                .observed
                .members
                .iter()
                .filter(|member| member.server().is_none())
                .find_map(|member| member.pod.as_ref()?.problem.as_ref())
        };
        if let Some(problem) = self.view.observed.problems.first().or_else(pod_problem) {
            if problem.reason == Reason::NewerSpec {
                return Judgement::unknown(problem.reason, problem.message.clone());
            }
            return Judgement::no(problem.reason, problem.message.clone());
        }
        if let Some(copies) = ownership::copies(self.view.observed) {
            return Judgement::no(Reason::CopiedVolume, copies);
        }
        if self.next.epoch == 0 {
            return Judgement::no(
                Reason::Founding,
                self.absent().unwrap_or_else(|| "the ring is being founded".into()),
            );
        }
        if let Some(lost) = self.data_lost() {
            return lost;
        }
        if let Some(absent) = self.absent().or_else(|| self.unreached()) {
            return Judgement::no(Reason::MembersAbsent, absent);
        }
        match self.broken_links() {
            Some(broken) => Judgement::no(Reason::LinksBroken, broken),
            None if self.next.balancer.message.is_some() => Judgement::no(
                Reason::BalancerNotServing,
                self.next.balancer.message.clone().unwrap_or_default(),
            ),
            // Whoever waited for Ready wants to log in.
            None if self.view.observed.cluster.spec.database.is_some() && !self.next.database_created => {
                Judgement::no(Reason::Founding, "the first database is being created")
            }
            None => self.volumes().unwrap_or_else(|| self.all_serve()),
        }
    }

    fn all_serve(&self) -> Judgement {
        let writer = self.next.writer.as_ref();
        let message = format!(
            "all {} members serve in the ring {}{}",
            self.view.observed.cluster.spec.members,
            self.next.ring,
            writer.map_or_else(String::new, |writer| format!("; {} takes the writes", writer.name))
        );
        Judgement::yes(Reason::AllMembersServe, message)
    }

    /// Links that do not replicate, and left-over channels whose applier is started again.
    fn broken_links(&self) -> Option<String> {
        let mut broken = Vec::new();
        for finding in self.view.findings.members() {
            let ordinal = finding.member.ordinal;
            let Some(member) = self.next.member_statuses.get(usize::from(ordinal)) else {
                continue;
            };
            let is_broken = !finding.link_replicates && !self.view.roles().is_bypassed(ordinal);
            if let Some(link) = member.links.first().filter(|_| is_broken) {
                let why = link.retry.as_ref().map(tries_again).or(link.last_error.clone());
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                broken.push(format!(
                    "{} does not replicate from {}{why}",
                    member.name, link.upstream
                ));
            }
            for link in member.links.iter().skip(1) {
                broken.extend(link.retry.as_ref().map(|retry| {
                    format!(
                        "{} has yet to apply what it received from {} in an earlier ring: {}",
                        member.name,
                        link.upstream,
                        tries_again(retry)
                    )
                }));
            }
        }
        (!broken.is_empty()).then(|| broken.join("; "))
    }

    fn ring_closed(&self) -> Judgement {
        let in_ring = |data: &&Data| !self.view.roles().is_bypassed(data.ordinal());
        let findings = &self.view.findings;
        let lost = findings.with_data().filter(in_ring).find_map(|data| match &data.need {
            LinkNeed::Purged(missing) => Some(purged(findings, data, missing)),
            _ => None,
        });
        match (lost, self.broken_links()) {
            (Some(lost), _) => Judgement::no(Reason::PositionLost, lost),
            (None, Some(broken)) => Judgement::no(Reason::LinksBroken, broken),
            (None, None) => Judgement::yes(Reason::AllLinksReplicate, self.closed()),
        }
    }

    fn closed(&self) -> String {
        let mut ring = self.view.roles().ring.ordinals();
        match (ring.next(), ring.next()) {
            (Some(only), None) => format!("{} is alone", names::member(self.view.observed.name(), only)),
            _ => format!("the ring is {}", self.next.ring),
        }
    }

    fn degraded(&self) -> Judgement {
        match self.absent().or_else(|| self.unreached()) {
            Some(absent) => Judgement::yes(Reason::MembersAbsent, absent),
            None => Judgement::no(Reason::AllMembersServe, "every member serves"),
        }
    }

    fn conflict_free(&self) -> Judgement {
        let stopped = self
            .view
            .observed
            .members
            .iter()
            .any(|member| member.conflict().is_some());
        let unknown = unread::unknown(self.view.observed);
        let Some(open) = conflicts::message(self.view.observed, &self.view.sides) else {
            return match unknown {
                None => Judgement::yes(Reason::NoConflicts, "no conflict is open"),
                Some(why) => Judgement::unknown(Reason::ConflictsUnreadable, why),
            };
        };
        let message = match unknown {
            None => open,
            Some(why) => format!("{open}; {why}"),
        };
        match stopped {
            true => Judgement::no(Reason::ApplierStopped, message),
            false => Judgement::no(Reason::Settling, message),
        }
    }

    fn progressing(&self) -> Judgement {
        if let Some(problem) = self.view.observed.problems.first() {
            return Judgement::no(problem.reason, problem.message.clone());
        }
        if let Err(unreadable) = recorded::executed(self.view.observed) {
            return Judgement::no(Reason::StatusUnreadable, unreadable);
        }
        let outdated: Vec<String> = self
            .view
            .observed
            .members
            .iter()
            .filter(|member| is_outdated(self.view.observed, member))
            .map(|member| member.name(self.view.observed.name()))
            .collect();
        let orders = [
            self.view.roles().ordered_fenced.clone().err(),
            conflicts::ordered(self.view.observed).err(),
            comparison::asked(self.view.observed).err(),
        ];
        if let Some(wrong) = orders.into_iter().flatten().next() {
            return Judgement::no(Reason::InvalidAnnotation, wrong);
        }
        if self.next.epoch == 0 {
            Judgement::yes(Reason::Founding, "the ring is being founded")
        } else if let Some(failing) = rebuild::failing(self.view.observed) {
            Judgement::no(Reason::CloneFailing, failing)
        } else if !outdated.is_empty() {
            let waits = self
                .restart_waits()
                .map(|why| format!("; the next one waits, because {why}"));
            let message = format!(
                "members to restart: {}{}",
                outdated.join(", "),
                waits.unwrap_or_default()
            );
            Judgement::yes(Reason::RollingRestart, message)
        } else if let Some(leaving) = self.view.roles().leaving {
            let name = leaving.name(self.view.observed.name());
            match leaving.server() {
                Some(_) => Judgement::yes(Reason::Scaling, format!("{name} leaves the ring")),
                None => Judgement::no(
                    Reason::LeavingBlocked,
                    format!(
                        "{name} cannot leave: it does not answer, and may hold writes that no other member has; bring it back"
                    ),
                ),
            }
        } else if self.joins() {
            Judgement::yes(Reason::Scaling, "new members are made")
        } else if self.steps.iter().any(Step::is_risky) || self.absent().is_some() {
            Judgement::yes(Reason::Reattaching, "members are brought back")
        } else {
            let stable = || Judgement::no(Reason::Stable, "there is nothing to do");
            self.volumes().unwrap_or_else(stable)
        }
    }

    /// A member that never was in the ring.
    fn joins(&self) -> bool {
        let mut members = self.next.member_statuses.iter();
        members.any(|member| member.bypassed && member.bypassed_at.is_none())
    }

    fn paused(&self) -> Judgement {
        match self.view.observed.cluster.spec.paused {
            Some(true) => Judgement::yes(Reason::Paused, "spec.paused is true: nothing is changed"),
            _ => Judgement::no(Reason::NotPaused, "the operator is at work"),
        }
    }
}
