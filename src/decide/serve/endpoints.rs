//! Which members are behind the Services, as clients see it: a label leads clients only to a pod that is Ready. `docs/ring.md`, "Endpoints".
//!
//! Conditions say it, the restart of another member does not begin before it, and of several members that could become the writer it is one that clients
//! reach. Nothing else rests on it: readiness is the word of a kubelet, and of containers that are not ours. So no member is opened, fenced or bypassed
//! because of it, and no writer is replaced.

use super::lag::lag;
use crate::decide::observed::{Member, Observed, Pod};
use crate::decide::roles::Roles;
use crate::names;

/// Why no new client reaches a member that is to have some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The Services that the member is to be behind and is not: `demo and demo-reads`.
    pub services: String,
    /// Why not.
    pub why: String,
}

impl Obstacle {
    /// `demo-2 is not behind demo and demo-reads: its pod is not Ready: ...`.
    pub fn of(&self, member: &str) -> String {
        format!("{member} is not behind {}: {}", self.services, self.why)
    }
}

/// New connections through the Service for applications reach the member. HAProxy finds members by the serving label and by their agents' answers, at the
/// address of the pod; whether the pod is Ready does not matter to it.
pub fn is_behind(observed: &Observed, member: &Member) -> bool {
    member.pod.as_ref().is_some_and(|pod| pod.serving) && would_be_behind(observed, member)
}

/// With the serving label, new connections through the Service for applications would reach the member.
pub fn would_be_behind(observed: &Observed, member: &Member) -> bool {
    let leads_to = |pod: &Pod| !pod.terminating && (pod.ready || observed.cluster.leads_to_haproxy());
    member.pod.as_ref().is_some_and(leads_to)
}

/// New connections through the Service for reads reach the member.
pub fn is_behind_reads(member: &Member) -> bool {
    let leads_to = |pod: &Pod| pod.reads && !pod.terminating && pod.ready;
    member.pod.as_ref().is_some_and(leads_to)
}

/// What keeps clients from a member that does what it is there for. `None`: it is behind every Service that it is to be behind.
pub fn obstacle(roles: &Roles, member: &Member) -> Option<Obstacle> {
    let (observed, pod) = (roles.observed, member.pod.as_ref()?);
    // A reader is there for reads, unless it is too far behind. Another member without this label has its clients all the same.
    let is_to_read = pod.reads || roles.is_reader(member.ordinal) && !is_too_far(roles, member.ordinal);
    let name = observed.name();
    let services: Vec<String> = [
        (pod.serving && !is_behind(observed, member)).then(|| name.to_owned()),
        (is_to_read && !is_behind_reads(member)).then(|| names::reads_service(name)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!services.is_empty()).then(|| Obstacle {
        services: services.join(" and "),
        why: why(pod),
    })
}

/// Why a pod is in no Service that selects it, or is not selected yet.
pub fn why(pod: &Pod) -> String {
    match &pod.hindrance {
        _ if pod.terminating => "its pod is being deleted".into(),
        _ if pod.ready => "it gets the label for reads".into(),
        Some(hindrance) => format!("its pod is not Ready: {hindrance}"),
        None => "its pod is not Ready".into(),
    }
}

/// It is over `spec.maxLagSeconds`, or it cannot be seen.
fn is_too_far(roles: &Roles, ordinal: u8) -> bool {
    let most = roles.observed.cluster.spec.max_lag_seconds;
    most.is_some_and(|most| lag(roles, ordinal).is_none_or(|seconds| seconds > i64::from(most)))
}
