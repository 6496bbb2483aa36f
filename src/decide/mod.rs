//! What should be done about what was observed. Pure: no client, no tokio, no mysql_async, no clock.
//!
//! [`decide`] is the whole of it. `docs/ring.md` is its specification. Where is it decided ...
//!
//! | question | file |
//! |---|---|
//! | ... that a member has failed, or is only suspected? | [`ring::health`] |
//! | ... that the ring is closed around a member, and that the member joins again? | [`ring::membership`] |
//! | ... what a link needs, and what becomes of channels of another ring? | [`ring::links`], [`ring::leftover`] |
//! | ... that a disk went back in time, and that a member has caught up? | [`ring::lineage`], by what status [recorded](ring::recorded)? |
//! | ... what of a long GTID set is recorded in status? | [`ring::long_sets`] |
//! | ... that a volume is a copy? | [`ring::ownership`] |
//! | ... that a member is rebuilt, from which one, and when? | [`ring::behind`], [`ring::rebuild`] |
//! | ... how a ring begins? | [`ring::founding`] |
//! | ... which member takes writes, and when it may open? | [`serve::writer`], [`serve::opening`] |
//! | ... which members serve reads? | [`serve::reads`], [`serve::lag`] |
//! | ... what HAProxy does? | [`serve::balance`] |
//! | ... that clients reach a member through its Services? | [`serve::endpoints`] |
//! | ... which member drains and is restarted, and which one a person wants fenced? | [`serve::drain`], [`serve::restart`], [`serve::fencing`] |
//! | ... what is one conflict, which rows win, and what is done next about it? | [`conflicts::sides`], [`conflicts::stages`] |
//! | ... when members are compared? | [`comparison`] |
//! | ... whether a volume grows, and what is said if it cannot? | [`volumes`] |
//! | ... that a volume is nearly full? | [`report::room`] |
//! | ... whose events say why a pod is not there? | [`report::unexplained`] |
//! | ... in which order steps are due? | [`plan`] |
//! | ... what status, conditions and events say? | [`report`] |
//!
//! Each of these looks at a pass in one of four forms, and each form adds what follows from the one before:
//!
//! 1. [`observed`]: facts, and nothing else.
//! 2. [`roles`]: which members are in the ring, which one writes, which one leaves, which ones a person wants fenced.
//! 3. [`findings`]: for each member whether it is there, whose data it has and what that lacks, what its link needs.
//! 4. [`view`]: for each member its state, and for the ring whether it is whole.
//!
//! [`step`] has what can be done.

pub mod comparison;
pub mod conflicts;
pub mod findings;
pub mod observed;
pub mod plan;
pub mod report;
pub mod ring;
pub mod roles;
pub mod serve;
pub mod step;
pub mod view;
pub mod volumes;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::MultiMasterClusterStatus;

use findings::Finding;
use observed::Observed;
use ring::health::Health;
use step::{Action, ClusterAction, Step};
use view::View;

/// A member that did not answer is looked at again without waiting for the period, now by others too; so is a writer that is not open.
const SUSPICIOUS: Duration = Duration::from_millis(200);
/// A cluster without any pod. When one comes, or another object changes, Kubernetes says so at once.
const WITHOUT_PODS: Duration = Duration::from_secs(5);
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
    let observed = &ring::membership::of_this_pass(observed, now);
    let view = View::of(observed);
    let steps = plan::steps(&view, now);
    Decision {
        status: report::status::status(&view, present, &steps, now),
        requeue: requeue(&view, &steps),
        steps,
    }
}

fn requeue(view: &View, steps: &[Step]) -> Duration {
    let is_urgent = |step: &Step| match step {
        Step::Cluster(ClusterAction::Apply) => false,
        // What waits for a person is looked at once a period.
        _ if matches!(
            step.on_member(),
            Some(Action::CompareRows { .. } | Action::Examine { .. })
        ) =>
        {
            conflicts::awaited(view.roles(), &view.sides).as_ref() != Some(step)
                && conflicts::examined_again(view.observed).as_ref() != Some(step)
        }
        _ => true,
    };
    let is_suspect = |finding: &Finding| matches!(finding.health, Health::Suspect(_));
    if steps.iter().any(is_urgent) {
        AGAIN
    } else if view.findings.members().iter().any(is_suspect) || serve::writer::is_awaited(view.roles()) {
        SUSPICIOUS
    } else {
        let period = Duration::from_secs(view.observed.cluster.spec.failure_detection.period_seconds.into());
        match view.observed.members.iter().any(|member| member.pod.is_some()) {
            true => period,
            false => period.max(WITHOUT_PODS),
        }
    }
}
