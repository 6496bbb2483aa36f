//! What should be done about what was observed. Pure: no client, no tokio, no mysql_async, no clock.
//!
//! [`decide`] is the whole of it. `docs/ring.md` is its specification. Where is it decided ...
//!
//! | question | file |
//! |---|---|
//! | ... that a member has failed, or is only suspected? | [`ring::health`] |
//! | ... that the ring is closed around a member, and that the member joins again? | [`ring::membership`] |
//! | ... what a link needs, and what becomes of channels of another ring? | [`ring::links`], [`ring::leftover`] |
//! | ... that a disk went back in time, and that a member has caught up? | [`ring::lineage`], by what status [recorded](ring::recorded) |
//! | ... that a member is rebuilt, and from which one? | [`ring::behind`], [`ring::rebuild`] |
//! | ... how a ring begins? | [`ring::founding`] |
//! | ... which member takes writes, and when it may open? | [`serve::writer`], [`serve::opening`] |
//! | ... which members serve reads? | [`serve::reads`], [`serve::lag`] |
//! | ... what HAProxy does? | [`serve::balance`] |
//! | ... which member drains and is restarted, and which one a person wants fenced? | [`serve::drain`], [`serve::restart`], [`serve::fencing`] |
//! | ... what is one conflict, who wins, and what is done next about it? | [`conflicts::sides`], [`conflicts::stages`] |
//! | ... when members are compared? | [`comparison`] |
//! | ... in which order steps are due? | [`plan`] |
//! | ... what status, conditions and events say? | [`report`] |
//!
//! [`observed`] has the facts, [`step`] what can be done.

pub mod comparison;
pub mod conflicts;
pub mod observed;
pub mod plan;
pub mod report;
pub mod ring;
pub mod serve;
pub mod step;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::MultiMasterClusterStatus;

use observed::Observed;
use ring::health::Health;
use step::Step;

/// A member that did not answer is looked at again without waiting for the period, now by others too; so is a writer that is not open.
const SUSPICIOUS: Duration = Duration::from_millis(200);
/// After a step the next decision waits for nothing but its effect.
const AGAIN: Duration = Duration::from_millis(50);

/// What one pass is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Written first; equal to the present status when there is nothing new to say.
    pub status: MultiMasterClusterStatus,
    /// Carried out in order; at most one of them is risky, the last.
    pub steps: Vec<Step>,
    /// When to look again.
    pub requeue: Duration,
}

/// Decides about one cluster from one observation.
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let present = observed.cluster.status.clone().unwrap_or_default();
    let observed = &ring::membership::settled(observed, now);
    let steps = plan::steps(observed, now);
    let suspects = observed
        .members
        .iter()
        .any(|member| matches!(Health::of(member, observed), Health::Suspect(_)));
    // What waits for a person is looked at once a period.
    let awaited = conflicts::awaited(observed);
    let requeue = if steps
        .iter()
        .any(|step| *step != Step::Apply && Some(step) != awaited.as_ref())
    {
        AGAIN
    } else if suspects || serve::writer::is_awaited(observed) {
        SUSPICIOUS
    } else {
        Duration::from_secs(observed.cluster.spec.failure_detection.period_seconds.into())
    };
    Decision {
        status: report::status::status(observed, present, &steps, now),
        steps,
        requeue,
    }
}
