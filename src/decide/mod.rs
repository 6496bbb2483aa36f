//! What should be done about what was seen. Pure: no client, no tokio, no mysql_async, no clock.
//!
//! [`decide`] is the whole of it. `docs/ring.md` is its specification.

pub mod balance;
pub mod behind;
pub mod comparison;
pub mod conditions;
pub mod conflicts;
pub mod fencing;
pub mod founding;
pub mod health;
pub mod history;
pub mod leftover;
pub mod links;
pub mod membership;
pub mod observed;
pub mod plan;
pub mod reads;
pub mod rebuild;
pub mod recorded;
pub mod resources;
mod restart;
pub mod states;
pub mod status;
pub mod step;
pub mod story;
pub mod topology;
pub mod unread;
pub mod validate;
pub mod writer;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::MultiMasterClusterStatus;

use health::Health;
use observed::Observed;
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
    let observed = &membership::settled(observed, now);
    let steps = plan::steps(observed, now);
    let suspects = observed
        .members
        .iter()
        .any(|member| matches!(Health::of(member, observed), Health::Suspect(_)));
    let requeue = if steps.iter().any(|step| *step != Step::Apply) {
        AGAIN
    } else if suspects || writer::is_awaited(observed) {
        SUSPICIOUS
    } else {
        Duration::from_secs(observed.cluster.spec.failure_detection.period_seconds.into())
    };
    Decision {
        status: status::status(observed, present, &steps, now),
        steps,
        requeue,
    }
}
