//! Do clients reach the members that serve? What conditions say of that; [`endpoints`] has the facts.

use crate::api::reasons::Reason;
use crate::api::status::MemberState;

use super::conditions::Facts;
use super::judgement::Judgement;
use crate::decide::serve::{drain, endpoints};

impl Facts<'_> {
    /// Whether clients can write.
    pub(super) fn available(&self) -> Judgement {
        if self.next.balancer.is_haproxy() && self.next.balancer.serving == 0 {
            let message = self.next.balancer.message.clone().unwrap_or_default();
            let way_out = "with spec.balancer.type Service, and without HAProxy's settings, it leads to the members";
            return Judgement::no(
                Reason::BalancerNotServing,
                format!("no HAProxy pod is behind the Service; {way_out}; {message}"),
            );
        }
        let members = self.next.member_statuses.iter().zip(&self.view.observed.members);
        let (behind, unreached): (Vec<_>, Vec<_>) = members
            .filter(|(member, seen)| member.state == MemberState::Serving || self.serves_halted(member, seen))
            .filter(|(member, _)| member.writable == Some(true))
            .partition(|(_, seen)| endpoints::is_behind(self.view.observed, seen));
        if !behind.is_empty() {
            let names: Vec<&str> = behind.iter().map(|(member, _)| member.name.as_str()).collect();
            return Judgement::yes(
                Reason::MembersServe,
                format!("writes are taken by {}", names.join(", ")),
            );
        }
        let unreached = unreached.iter().filter_map(|(member, seen)| {
            let why = endpoints::why(seen.pod.as_ref()?);
            Some(format!("{} takes writes, but {why}", member.name))
        });
        let unreached: Vec<String> = unreached.collect();
        let writer = self.next.writer.as_ref();
        let why = match unreached.is_empty() {
            true => writer.and_then(|writer| self.why_not(&writer.name)),
            false => Some(unreached.join("; ")),
        };
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        Judgement::no(
            Reason::NoMemberServes,
            format!("no member takes writes through the Service{why}"),
        )
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

    /// `demo-2 is not behind demo and demo-reads: its pod is not Ready: ...`: the members that would serve, and that clients do not reach.
    pub(super) fn unreached(&self) -> Option<String> {
        let (view, name) = (self.view, self.view.observed.name());
        let members = self.next.member_statuses.iter().zip(&view.observed.members);
        let unreached: Vec<String> = members
            .take(view.observed.cluster.spec.members.into())
            .filter(|(member, seen)| member.state.serves() || self.serves_halted(member, seen))
            .filter_map(|(_, seen)| Some(endpoints::obstacle(view.roles(), seen)?.of(&seen.name(name))))
            .collect();
        (!unreached.is_empty()).then(|| unreached.join("; "))
    }

    /// Why the next restart does not begin, although the ring is whole.
    pub(super) fn restart_waits(&self) -> Option<String> {
        let (view, roles) = (self.view, self.view.roles());
        let waits = view.next_restart.is_none() && view.ring_is_whole;
        let next = waits.then(|| drain::outdated(view.observed).next()).flatten()?;
        let name = view.observed.name();
        let waited_for: Vec<String> = drain::waited_for(roles, next)
            .filter_map(|other| match endpoints::obstacle(roles, other) {
                Some(obstacle) => Some(obstacle.of(&other.name(name))),
                None => {
                    let container = other.pod.as_ref()?.restarted.as_ref()?;
                    Some(format!(
                        "{}: container {container} failed, and was started again within the last five minutes",
                        other.name(name)
                    ))
                }
            })
            .collect();
        (!waited_for.is_empty()).then(|| waited_for.join("; "))
    }
}
