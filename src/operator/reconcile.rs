//! One pass over one cluster: observe, decide, write status, act.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};

use super::act::{ActError, Actor};
use super::guard::{BrokenOff, PASS_END, Pause, guarded};
use super::kubernetes::{KubernetesError, ask};
use super::observe::objects::{find, observe};
use super::shared::Context;
use super::watched::Watched;
use crate::api::MultiMasterCluster;
use crate::api::reasons::EventReason;
use crate::api::status::MultiMasterClusterStatus;
use crate::decide::decide;
use crate::decide::observed::{ComparisonRun, Observed};

use crate::decide::report::events::events;
use crate::decide::report::judgement::{self, not_observed};
use crate::decide::ring::ownership::apart;
use crate::decide::step;
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
    context.metrics.pass(started.elapsed().as_secs_f64(), result.is_err());
    result
}

/// Nothing that the pass had begun is used again, and the next one begins later. If it was in a step about a conflict, only such steps wait: what
/// heals the ring does not.
async fn broken_off(cached: &MultiMasterCluster, context: &Context, why: &BrokenOff) {
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
    context
        .publish(cached, EventType::Warning, EventReason::PassBrokenOff, message, None)
        .await;
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
    let api: Api<Watched> = Api::namespaced(context.client.clone(), &cached.namespace().unwrap_or_default());
    let fresh = ask("the resource", api.get(&cached.name_any())).await?.0;
    // Another operator may lead by now, if this one was frozen.
    let written = context.recall(&cached.uid().unwrap_or_default()).written;
    let version = fresh.resource_version();
    if version != cached.resource_version() && version != written {
        return Ok(());
    }
    let before = fresh.status.clone().unwrap_or_default();
    let status = judgement::broken_off(&before, why, fresh.metadata.generation, Timestamp::now());
    write_status(&fresh, status, context).await.map(drop)
}

async fn pass(cached: &MultiMasterCluster, context: &Context) -> Result<Action, ReconcileError> {
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
            write_status(cached, unknown, context).await?
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
    let cluster = if decision.status == before {
        cluster
    } else {
        write_status(&cluster, decision.status.clone(), context).await?
    };
    if let ComparisonRun::Finished(_) = observed.comparison {
        context.comparisons.noted(&uid);
    }
    for event in events(&before, &decision.status, now) {
        let type_ = if event.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        tracing::info!(cluster = %cluster.name_any(), namespace = cluster.namespace(), reason = event.reason.as_ref(), "{}", event.message);
        context
            .publish(&cluster, type_, event.reason, event.message, event.member)
            .await;
    }
    context.metrics.cluster(
        &cluster.namespace().unwrap_or_default(),
        &cluster.name_any(),
        cluster.spec.members,
        &decision.status,
    );
    let observed = Observed { cluster, ..observed };
    let actor = Actor {
        observed: &observed,
        context,
        credentials: credentials.as_ref(),
    };
    let mut requeue = decision.requeue;
    for step in &decision.steps {
        if step.ages() && looked.elapsed() > STALE {
            tracing::warn!(?step, "the observation is too old for this step; looking again");
            requeue = CACHE_BEHIND;
            continue;
        }
        let is_about_conflicts = step.is_about_conflicts();
        if is_about_conflicts {
            context.remember(&uid, |memory| memory.in_conflict_step = true);
        }
        let done = actor.act(step).await;
        if is_about_conflicts {
            context.remember(&uid, |memory| {
                (memory.in_conflict_step, memory.conflicts_pause) = (false, None);
            });
        }
        if let Err(source) = done {
            let error = ReconcileError::Act {
                step: format!("{step:?}"),
                source,
            };
            // A balancer that does not take its order must not keep the ring from healing. It gets the order again.
            if step.is_of_a_balancer() {
                tracing::warn!(cluster = %observed.cluster.name_any(), namespace = observed.cluster.namespace(), %error, "going on without it");
                requeue = RETRY;
                continue;
            }
            return Err(error);
        }
        if matches!(step.on_member(), Some(step::Action::CreateDatabase)) {
            let created = MultiMasterClusterStatus {
                database_created: true,
                ..decision.status.clone()
            };
            write_status(&observed.cluster, created, context).await?;
        }
    }
    Ok(Action::requeue(requeue))
}

/// Replaces the status of exactly the resource that was read: the resourceVersion in it makes the API server refuse a stale operator. What this
/// version does not know of it is written back as it was.
async fn write_status(
    cluster: &MultiMasterCluster,
    status: MultiMasterClusterStatus,
    context: &Context,
) -> Result<MultiMasterCluster, ReconcileError> {
    let api: Api<Watched> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let mut next = cluster.clone();
    next.status = Some(match &cluster.status {
        Some(present) => status.over(present),
        None => status,
    });
    next.metadata.managed_fields = None;
    let written = ask(
        "status",
        api.replace_status(&cluster.name_any(), &PostParams::default(), &Watched(next)),
    )
    .await?;
    context.remember(&cluster.uid().unwrap_or_default(), |memory| {
        memory.replaced = cluster.resource_version();
        memory.written = written.0.resource_version();
    });
    Ok(written.0.as_recorded())
}

/// After a pass that ended in an error.
pub fn on_error(cluster: Arc<Watched>, error: &ReconcileError, _: Arc<Context>) -> Action {
    if let ReconcileError::Api(KubernetesError::Api {
        source: kube::Error::Api(status),
        ..
    }) = error
        && (status.is_conflict() || status.is_not_found())
    {
        tracing::debug!(%error, "the resource changed meanwhile");
        return Action::requeue(CACHE_BEHIND);
    }
    tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "the pass ended early; looking again");
    Action::requeue(RETRY)
}
