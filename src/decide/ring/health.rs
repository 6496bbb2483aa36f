//! Is a member there? Own probe, and a second witness before anything is done about a failure.

use crate::names;
use crate::wire::agent::Phase;

use crate::decide::observed::{Channel, Member, Observed, Probe, Receiver, WitnessProbe};
use crate::decide::roles::Roles;

/// Heartbeats come every second. A receiver whose last contact is this long ago, in seconds, bears witness against its upstream.
const LOST_SECONDS: i64 = 3;
/// A receiver whose last contact is less than this long ago, in seconds, bears witness for its upstream.
const LATELY_SECONDS: i64 = 2;

/// What is said of a member whose agent says what this version does not know.
pub const NEWER_AGENT: &str = "its agent is newer and reports a phase or an origin that this operator does not know, so nothing is done to it; start the newer operator again";

/// What is known of a member's being there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its server answered.
    Reached,
    /// Its server is alive and refused to talk.
    Alive(String),
    /// It has no running pod.
    NoPod(String),
    /// Its agent says that mysqld does not answer yet.
    Starting(String),
    /// The own probe failed.
    Suspect(String),
    /// The own probe failed, and no other live member reaches it and a second witness agrees; or its agent says why.
    Failed(String),
}

impl Health {
    /// Judges one member.
    pub fn of(member: &Member, roles: &Roles) -> Self {
        let Some(pod) = &member.pod else {
            let why = member.pod_refusal.as_ref();
            return Self::NoPod(why.map_or_else(
                || "there is no pod".into(),
                |why| format!("there is no pod, because Kubernetes cannot make it: {why}"),
            ));
        };
        if member.outsider.is_some() {
            return Self::Failed("its volume is a copy".into());
        }
        let why = match &member.server {
            Probe::Reached(_) => return Self::Reached,
            Probe::Alive(why) => return Self::Alive(why.clone()),
            Probe::Unreachable(why) => why.clone(),
            Probe::NoAddress => "the pod has no address".into(),
        };
        if !pod.running {
            let why = pod
                .problem
                .as_ref()
                .map_or_else(|| "the pod does not run yet".into(), |problem| problem.message.clone());
            return Self::NoPod(why);
        }
        match member.report().map(|report| &report.phase) {
            Some(Phase::Initialising) => return Self::Starting("the data directory is being created".into()),
            Some(Phase::Starting) => {
                return Self::Starting(match &pod.last_words {
                    Some(words) => format!("mysqld is starting; the last time: {words}"),
                    None => "mysqld is starting".into(),
                });
            }
            Some(Phase::Cloning { donor }) => {
                return Self::Starting(format!("the data directory is being copied from {donor}"));
            }
            Some(Phase::Restarting { reason }) => {
                return Self::Starting(format!("mysqld ended and is started again: {reason}"));
            }
            Some(Phase::Stopping { .. }) => return Self::Starting("mysqld is being stopped".into()),
            Some(Phase::Unknown) => return Self::Alive(NEWER_AGENT.into()),
            Some(Phase::Running) | None => {}
        }
        // Its threads that only read, and those that send heartbeats, go on: contact with them proves nothing.
        if member.report().is_some_and(|report| report.volume_full) {
            return Self::Failed(format!(
                "{why}; its volume is full and mysqld waits for room: give it more (spec.storage.size), or take something away"
            ));
        }
        if let Some(witness) = defender(member, roles) {
            return Self::Suspect(format!("{why}; but {witness}"));
        }
        if roles.observed.looked_late {
            return Self::Suspect(format!(
                "{why}; but this operator was late itself, for want of a processor"
            ));
        }
        match accuser(member, roles) {
            Some(witness) => Self::Failed(format!("{why}; {witness}")),
            None => Self::Suspect(why),
        }
    }

    /// Facts, not a failed probe: the member does not serve, whatever others say.
    pub fn is_certainly_down(&self) -> bool {
        matches!(self, Self::NoPod(_) | Self::Starting(_))
    }
}

/// Name and channel of its downstream.
fn channel_from<'a>(member: &Member, roles: &Roles<'a>) -> Option<(String, &'a Channel)> {
    let observed = roles.observed;
    let downstream = observed.member(roles.ring.downstream(member.ordinal)?)?;
    Some((downstream.name(observed.name()), downstream.link(member.ordinal)?))
}

/// Another live member that reaches it.
fn defender(member: &Member, roles: &Roles) -> Option<String> {
    let is_in_contact = |link: &Channel| {
        let lately = link
            .seconds_since_contact
            .is_some_and(|seconds| seconds < LATELY_SECONDS);
        link.receiver == Receiver::On && lately
    };
    // Not only its downstream: a member that is out of the ring follows one of the ring, and may be the only other one.
    let by_link = roles
        .observed
        .others(member.ordinal)
        .find(|other| other.link(member.ordinal).is_some_and(is_in_contact));
    let by_link = by_link.map(|other| format!("{} replicates from it", other.name(roles.observed.name())));
    let by_agent = || {
        let reached = |probe: &&WitnessProbe| probe.answered && probe.by != member.ordinal;
        let by = member.witness_probes.iter().find(reached)?.by;
        Some(format!("it answers {}", names::member(roles.observed.name(), by)))
    };
    by_link.or_else(by_agent)
}

/// Who agrees that the member does not answer.
fn accuser(member: &Member, roles: &Roles) -> Option<String> {
    let pod = member.pod.as_ref()?;
    if pod.terminating {
        return Some("its pod is ending".into());
    }
    if !pod.ready {
        return Some("its pod is not Ready".into());
    }
    if let Some(probe) = member.witness_probes.iter().find(|probe| !probe.answered) {
        return Some(match probe.by == member.ordinal {
            true => "its mysqld does not answer its own agent".into(),
            false => format!(
                "it does not answer {} either",
                names::member(roles.observed.name(), probe.by)
            ),
        });
    }
    let (name, link) = channel_from(member, roles)?;
    if link.receiver != Receiver::On {
        return Some(format!("{name} is not connected to it either"));
    }
    let is_lost = link
        .seconds_since_contact
        .is_some_and(|seconds| seconds >= LOST_SECONDS);
    is_lost.then(|| format!("{name} has lost contact with it, too"))
}

/// Pods run, and nothing in them answers, not even an agent: it is probably the operator that is cut off.
pub fn is_blind(observed: &Observed) -> bool {
    let running = observed
        .members
        .iter()
        .filter(|member| member.pod.as_ref().is_some_and(|pod| pod.running && !pod.terminating));
    let mut any = false;
    for member in running {
        any = true;
        if member.report().is_some() || matches!(member.server, Probe::Reached(_) | Probe::Alive(_)) {
            return false;
        }
    }
    any
}
