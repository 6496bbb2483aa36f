//! One pass over one cluster: observe, decide, write status, act.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::FusedFuture;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use super::act::{ActError, Actor};
use super::guard::{BrokenOff, PASS_END, Pause, guarded};
use super::kubernetes::{KubernetesError, fresh};
use super::members::Credentials;
use super::observe::objects::{find, observe};
use super::shared::Context;
use super::status_write::{not_written, patiently, record, write_status};
use super::watched::Watched;
use crate::api::MultiMasterCluster;
use crate::api::reasons::EventReason;
use crate::api::status::MultiMasterClusterStatus;
use crate::decide::observed::{ComparisonRun, Observed};
use crate::decide::report::judgement::{self, not_observed};
use crate::decide::ring::ownership::apart;
use crate::decide::step;
use crate::decide::{Decision, decide};
use crate::names;

/// An observation older than this justifies no step any more: half of the leader's lease.
const STALE: Duration = Duration::from_millis(2500);
/// After an error.
const RETRY: Duration = Duration::from_secs(1);
/// A cache that is behind catches up within this.
const CACHE_BEHIND: Duration = Duration::from_millis(50);

/// Why a pass ended early. The next one starts from what is then observed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Kubernetes could not be read or written.
    #[error(transparent)]
    Api(#[from] KubernetesError),
    /// The pass did not end by itself.
    #[error("the pass was broken off: {0}")]
    BrokenOff(#[from] BrokenOff),
    /// A step was not carried out.
    #[error("{step}: {source}")]
    Act {
        /// Which.
        step: String,
        /// Why.
        source: ActError,
    },
}

impl ReconcileError {
    fn is_overtaken(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_overtaken())
    }
}

/// One pass.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let cached = &watched.0;
    let started = Instant::now();
    let (uid, generation) = (cached.uid().unwrap_or_default(), cached.metadata.generation);
    let pause = context.recall(&uid).pause;
    let is_deleted = cached.metadata.deletion_timestamp.is_some();
    if let Some(left) = pause.as_ref().and_then(|pause| pause.left(generation, started))
        && !is_deleted
    {
        return Ok(Action::requeue(left));
    }
    let under_way = context.liveness.pass(started);
    let result = match guarded(PASS_END, pass(cached, &context)).await {
        Ok(result) => {
            if pause.is_some() && !is_deleted {
                context.remember(&uid, |memory| memory.pause = None);
            }
            result
        }
        Err(why) => {
            // What tells of it may go the same way.
            if let Err(error) = guarded(PASS_END, broken_off(cached, &context, &why)).await {
                tracing::error!(cluster = %cached.name_any(), namespace = cached.namespace(), %error, "a pass that was broken off cannot be told");
            }
            Err(why.into())
        }
    };
    drop(under_way);
    context.metrics.pass(started.elapsed().as_secs_f64(), result.is_err());
    result
}

/// Nothing that the pass had begun is used again, and the next one begins later. If it was in a step about a conflict, only such steps wait: what
/// heals the ring does not.
async fn broken_off(cached: &MultiMasterCluster, context: &Arc<Context>, why: &BrokenOff) {
    let (name, namespace) = (cached.name_any(), cached.namespace().unwrap_or_default());
    let (mut times, mut only_conflicts) = (0, false);
    context.remember(&cached.uid().unwrap_or_default(), |memory| {
        only_conflicts = std::mem::take(&mut memory.in_conflict_step);
        let pause = match only_conflicts {
            true => &mut memory.conflicts_pause,
            false => &mut memory.pause,
        };
        let next = Pause::after(pause.as_ref(), cached.metadata.generation, Instant::now());
        times = next.times;
        *pause = Some(next);
    });
    context.metrics.broken_pass(&namespace, &name);
    let pods = cached.ordinals().map(|ordinal| names::member(&name, ordinal));
    let pods = pods.filter_map(|pod| find(&context.stores.pods, &pod, &namespace)?.uid());
    context.members.forget(pods).await;
    let step = if only_conflicts {
        " in a step about a conflict"
    } else {
        ""
    };
    let message = format!("a pass over this cluster was broken off{step}: {why}");
    context.publish(cached, EventType::Warning, EventReason::PassBrokenOff, message, None);
    if !only_conflicts && let Err(error) = tell_broken_off(cached, context, (&why.to_string(), times)).await {
        tracing::warn!(cluster = name, namespace, %error, "the status of a pass that was broken off cannot be written");
    }
}

/// Writes the conditions. The pass may have written status before it was broken off, so the resource is read again.
async fn tell_broken_off(
    cached: &MultiMasterCluster,
    context: &Context,
    why: (&str, u32),
) -> Result<(), ReconcileError> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let Some(fresh) = fresh(&context.client, &namespace, &name).await? else {
        return Ok(());
    };
    // Another operator may lead by now, if this one was frozen.
    let written = context.recall(&cached.uid().unwrap_or_default()).written;
    let version = fresh.resource_version();
    if version != cached.resource_version() && version != written {
        return Ok(());
    }
    let before = fresh.status.clone().unwrap_or_default();
    let status = judgement::broken_off(&before, why, fresh.metadata.generation, Timestamp::now());
    write_status(&fresh, status, context).await?;
    Ok(())
}

async fn pass(cached: &MultiMasterCluster, context: &Arc<Context>) -> Result<Action, ReconcileError> {
    let uid = cached.uid().unwrap_or_default();
    if cached.metadata.deletion_timestamp.is_some() {
        context.forget(&uid);
        context
            .metrics
            .forget(&cached.namespace().unwrap_or_default(), &cached.name_any());
        return Ok(Action::await_change());
    }
    if context
        .recall(&uid)
        .replaced
        .is_some_and(|replaced| Some(replaced) == cached.resource_version())
    {
        return Ok(Action::requeue(CACHE_BEHIND));
    }
    let cluster = match &cached.status {
        Some(status) if status.observed_generation == cached.metadata.generation => cached.clone().as_recorded(),
        // Whoever waits for Ready must not be answered by the status of an earlier generation.
        status => {
            let unknown = not_observed(
                &status.clone().unwrap_or_default(),
                cached.metadata.generation,
                Timestamp::now(),
            );
            let mut writing = pin!(write_status(cached, unknown, context).fuse());
            let written = patiently(&mut writing, cached, context).await?;
            written.unwrap_or_else(|| cached.clone().as_recorded())
        }
    };
    context.stores.ready().await?;
    let pods = &context.stores.pods;
    context
        .members
        .keep_only(pods.len(), || pods.state().iter().filter_map(|pod| pod.uid()).collect())
        .await;
    let looked = Instant::now();
    let (mut observed, credentials) = observe(&cluster, context).await?;
    // Steps read what was observed, too.
    apart(&mut observed);
    let now = Timestamp::now();
    let decision = decide(&observed, now);
    let before = cluster.status.clone().unwrap_or_default();
    let has_compared = matches!(observed.comparison, ComparisonRun::Finished(_));
    let mut writing = pin!(record(&cluster, decision.status.clone(), (has_compared, now), context).fuse());
    // The next pass decides by what is recorded, if this is not.
    let rests_on_it = !observed.status_waits && !decision.status.records_as(&before);
    let present = match rests_on_it {
        false => patiently(&mut writing, &cluster, context).await?,
        true => match writing.as_mut().await {
            Ok(written) => Some(written),
            Err(error) => {
                if !error.is_overtaken() {
                    not_written(&cluster, context, &error.to_string());
                    context.remember(&uid, |memory| memory.status_waits = true);
                }
                return Err(error.into());
            }
        },
    };
    let is_written = present.is_some();
    let named = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    context.remember(&uid, |memory| {
        (memory.status_waits, memory.named) = (!is_written, Some(named))
    });
    context.metrics.cluster(
        &cluster.namespace().unwrap_or_default(),
        &cluster.name_any(),
        cluster.spec.members,
        &decision.status,
    );
    let mut observed = Observed {
        cluster: present.unwrap_or_else(|| cluster.clone()),
        ..observed
    };
    let carrying_out = carry_out(
        &observed,
        credentials.as_ref(),
        &decision,
        (looked, is_written),
        context,
    );
    let done = match writing.is_terminated() {
        true => carrying_out.await?,
        // Its answer may come while a step waits for something else.
        false => {
            let (done, written) = tokio::join!(carrying_out, writing);
            match written {
                Ok(written) => {
                    observed.cluster = written;
                    context.remember(&uid, |memory| memory.status_waits = false);
                }
                Err(error) if error.is_overtaken() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "the status is not written")
                }
            }
            done?
        }
    };
    if done.database_created {
        let created = MultiMasterClusterStatus {
            database_created: true,
            ..decision.status
        };
        write_status(&observed.cluster, created, context).await?;
    }
    Ok(Action::requeue(done.requeue))
}

/// What steps leave for the rest of the pass.
struct Done {
    requeue: Duration,
    database_created: bool,
}

/// Carries out the steps of a decision. `looked`: when what justifies them was seen. `is_written`: status says what was decided.
async fn carry_out(
    observed: &Observed,
    credentials: Option<&Credentials>,
    decision: &Decision,
    (looked, is_written): (Instant, bool),
    context: &Arc<Context>,
) -> Result<Done, ReconcileError> {
    let uid = observed.cluster.uid().unwrap_or_default();
    let actor = Actor {
        observed,
        context,
        credentials,
    };
    let mut done = Done {
        requeue: decision.requeue,
        database_created: false,
    };
    for step in &decision.steps {
        let creates = matches!(step.on_member(), Some(step::Action::CreateDatabase));
        // That it is done, or under way, could not be noted.
        if !is_written && (creates || matches!(step.on_pod(), Some(step::PodAction::Restart { .. }))) {
            done.requeue = RETRY;
            continue;
        }
        if step.ages() && looked.elapsed() > STALE {
            tracing::warn!(?step, "the observation is too old for this step; looking again");
            done.requeue = CACHE_BEHIND;
            continue;
        }
        let is_about_conflicts = step.is_about_conflicts();
        if is_about_conflicts {
            context.remember(&uid, |memory| memory.in_conflict_step = true);
        }
        let acted = actor.act(step).await;
        if is_about_conflicts {
            context.remember(&uid, |memory| {
                (memory.in_conflict_step, memory.conflicts_pause) = (false, None);
            });
        }
        if let Err(source) = acted {
            let error = ReconcileError::Act {
                step: format!("{step:?}"),
                source,
            };
            // A balancer that does not take its order must not keep the ring from healing. It gets the order again.
            if step.is_of_a_balancer() {
                tracing::warn!(cluster = %observed.cluster.name_any(), namespace = observed.cluster.namespace(), %error, "going on without it");
                done.requeue = RETRY;
                continue;
            }
            return Err(error);
        }
        done.database_created |= creates;
    }
    Ok(done)
}

/// After a pass that ended in an error.
pub fn on_error(cluster: Arc<Watched>, error: &ReconcileError, _: Arc<Context>) -> Action {
    if error.is_overtaken() {
        tracing::debug!(%error, "the resource changed meanwhile");
        return Action::requeue(CACHE_BEHIND);
    }
    tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "the pass ended early; looking again");
    Action::requeue(RETRY)
}
