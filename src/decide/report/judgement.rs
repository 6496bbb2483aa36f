//! What is said of one condition, and how it is written.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::reasons::Reason;
use crate::api::status::{MultiMasterClusterStatus, conditions};

/// Status, reason and message of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
}

impl Judgement {
    /// It is so.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self::new("True", reason, message)
    }

    /// It is not so.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self::new("False", reason, message)
    }

    /// It cannot be known.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self::new("Unknown", reason, message)
    }

    fn new(status: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
    }
}

/// The types of all conditions that this version judges.
const TYPES: [&str; 10] = [
    conditions::READY,
    conditions::AVAILABLE,
    conditions::RING_CLOSED,
    conditions::DEGRADED,
    conditions::CONFLICT_FREE,
    conditions::CONVERGED,
    conditions::PROGRESSING,
    conditions::STALLED,
    conditions::PAUSED,
    conditions::VOLUMES_HAVE_ROOM,
];

/// Conditions that another version has judged. They stay as they are.
pub fn of_others(present: &[Condition]) -> impl Iterator<Item = Condition> {
    let others = present
        .iter()
        .filter(|condition| !TYPES.contains(&condition.type_.as_str()));
    others.cloned()
}

/// `lastTransitionTime` changes only when the status flips.
pub fn condition(
    present: &[Condition],
    type_: &str,
    judgement: Judgement,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let before = present
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == judgement.status);
    Condition {
        type_: type_.into(),
        status: judgement.status.into(),
        reason: judgement.reason.as_ref().into(),
        message: judgement.message,
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
    let judgement = Judgement::unknown(Reason::NotObserved, "not looked at yet");
    unknown(present, judgement, generation, now)
}

/// Written after a pass that was broken off: what was true before it may be true no more. `times`: how many in a row were.
pub fn broken_off(
    present: &MultiMasterClusterStatus,
    (why, times): (&str, u32),
    generation: Option<i64>,
    now: Timestamp,
) -> MultiMasterClusterStatus {
    let message = format!(
        "the operator has broken off {times} of its passes over this cluster, one after the other, and waits longer each time: {why}; the ring \
         goes on as it is. Look at the operator's log, and report it"
    );
    unknown(
        present,
        Judgement::unknown(Reason::PassBrokenOff, message),
        generation,
        now,
    )
}

/// Nothing is known.
fn unknown(
    present: &MultiMasterClusterStatus,
    judgement: Judgement,
    generation: Option<i64>,
    now: Timestamp,
) -> MultiMasterClusterStatus {
    let mut next = present.clone();
    next.observed_generation = generation;
    let own = TYPES
        .into_iter()
        .map(|type_| condition(&present.conditions, type_, judgement.clone(), generation, now));
    next.conditions = own.chain(of_others(&present.conditions)).collect();
    next
}
