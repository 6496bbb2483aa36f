//! A member's pod is not there, or does not run. Kubernetes' controllers say why in events; which of them, is chosen here.

use jiff::{SignedDuration, Timestamp};

use super::fitted::fitted;
use crate::api::reasons::Reason;
use crate::api::status::MemberStatus;
use crate::decide::observed::{Member, Problem};

/// A pod that is restarted is away for less than this.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
/// How far the clocks of two machines may differ.
const SKEW: SignedDuration = SignedDuration::from_secs(60);
/// The most bytes that are shown of what a controller says.
pub const MOST_SHOWN: usize = 600;
/// Reasons of events that say why a pod on a node does not start.
const NOT_STARTED: [&str; 4] = [
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
];

/// The object whose events may say why a member's pod does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The StatefulSet, whose controller makes the pod.
    StatefulSet,
    /// The claim, whose volume the pod waits for.
    Claim,
    /// The pod: its node cannot start it.
    Pod,
}

/// An event of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// When it was last seen.
    pub at: Timestamp,
}

/// Whose events are to be read. `None` for a member whose pod runs, has a reason already, or is away for a moment only.
pub fn subject(member: &Member, recorded: Option<&MemberStatus>, now: Timestamp) -> Option<Subject> {
    let since = recorded?.absent_since.as_ref()?.0;
    if now.duration_since(since) < PATIENCE {
        return None;
    }
    match &member.pod {
        None => Some(Subject::StatefulSet),
        Some(pod) if pod.running || pod.terminating => None,
        Some(pod) if !pod.scheduled => Some(Subject::Claim),
        Some(pod) => pod.problem.is_none().then_some(Subject::Pod),
    }
}

/// The message of the event that says why: the last one about this pod, otherwise the last one. Events from before the member went away explain
/// nothing.
pub fn explanation(subject: Subject, events: &[Said], pod: &str, recorded: Option<&MemberStatus>) -> Option<String> {
    let since = recorded?.absent_since.as_ref()?.0;
    let may_explain = |said: &&Said| {
        let has_reason = match subject {
            Subject::StatefulSet => said.reason == "FailedCreate",
            Subject::Claim => said.reason == "ProvisioningFailed",
            Subject::Pod => NOT_STARTED.contains(&said.reason.as_str()),
        };
        has_reason && since.duration_since(said.at) < SKEW
    };
    let about_it = format!("Pod {pod} ");
    let explaining = events.iter().filter(may_explain);
    let said = explaining.max_by_key(|said| (said.message.contains(&about_it), said.at))?;
    Some(fitted(said.message.trim().to_owned(), MOST_SHOWN))
}

/// Gives a member what the events of a subject say.
pub fn note(member: &mut Member, name: &str, subject: Subject, why: String) {
    let Some(pod) = &mut member.pod else {
        member.pod_refusal = Some(why);
        return;
    };
    let message = match (subject, &pod.problem) {
        (Subject::Claim, Some(problem)) => format!("{}; its volume: {why}", problem.message),
        (Subject::Claim, None) => format!("{name} has no volume: {why}"),
        _ => format!("{name} does not start: {why}"),
    };
    pod.problem = Some(Problem {
        reason: Reason::MembersAbsent,
        message,
    });
}
