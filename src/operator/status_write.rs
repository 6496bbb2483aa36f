//! Writes status. The ring is healed whether the API server takes it or not.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::kubernetes::{KubernetesError, ask};
use super::shared::Context;
use super::watched::Watched;
use crate::api::MultiMasterCluster;
use crate::api::reasons::EventReason;
use crate::api::status::MultiMasterClusterStatus;
use crate::decide::report::events::events;

/// How long steps wait for a status write that none of them rests on.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// From one event about a status that is not written to the next.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// Writes the status of a pass, if it is another one, and publishes what has changed. `has_compared`: the result of a comparison is in it.
///
/// # Errors
/// [`KubernetesError`]: nothing is published then.
pub async fn record(
    cluster: &MultiMasterCluster,
    status: MultiMasterClusterStatus,
    (has_compared, now): (bool, Timestamp),
    context: &Context,
) -> Result<MultiMasterCluster, KubernetesError> {
    let before = cluster.status.clone().unwrap_or_default();
    let events = events(&before, &status, now);
    let written = match status == before {
        true => cluster.clone(),
        false => write_status(cluster, status, context).await?,
    };
    if has_compared {
        context.comparisons.noted(&cluster.uid().unwrap_or_default());
    }
    for event in events {
        let type_ = match event.warning {
            true => EventType::Warning,
            false => EventType::Normal,
        };
        tracing::info!(cluster = %cluster.name_any(), namespace = cluster.namespace(), reason = event.reason.as_ref(), "{}", event.message);
        context.publish(cluster, type_, event.reason, event.message, event.member);
    }
    Ok(written)
}

/// Waits for a status write that no step rests on. `None`: the API server refuses it, or takes its time, perhaps because of a webhook; that must not
/// keep the ring from healing.
///
/// # Errors
/// Whoever has changed the resource meanwhile may be another operator.
pub async fn patiently(
    writing: &mut (impl Future<Output = Result<MultiMasterCluster, KubernetesError>> + Unpin),
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<Option<MultiMasterCluster>, KubernetesError> {
    let why = match timeout(STATUS_PATIENCE, writing).await {
        Ok(Ok(written)) => return Ok(Some(written)),
        Ok(Err(error)) if error.is_overtaken() => return Err(error),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the API server did not answer within {STATUS_PATIENCE:?}"),
    };
    not_written(cluster, context, &why);
    Ok(None)
}

/// Tells that a status is not written: in the log, and once a minute by an event.
pub fn not_written(cluster: &MultiMasterCluster, context: &Context, why: &str) {
    let uid = cluster.uid().unwrap_or_default();
    tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), why, "going on without a status");
    let told = context.recall(&uid).status_not_written;
    if told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
        context.remember(&uid, |memory| memory.status_not_written = Some(Instant::now()));
        let message = format!(
            "the status of this cluster is not written, so it may be old. The ring is healed as it is recorded; until status is written no member is \
             bypassed or taken back, no other writer is chosen, and nothing planned begins: {why}"
        );
        context.publish(
            cluster,
            EventType::Warning,
            EventReason::StatusNotWritten,
            message,
            None,
        );
    }
}

/// Replaces the status of exactly the resource that was read: the resourceVersion in it makes the API server refuse a stale operator. What this
/// version does not know of it is written back as it was.
///
/// # Errors
/// [`KubernetesError`].
pub async fn write_status(
    cluster: &MultiMasterCluster,
    status: MultiMasterClusterStatus,
    context: &Context,
) -> Result<MultiMasterCluster, KubernetesError> {
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
        // A write that changes nothing is in no watch.
        let is_another = written.0.resource_version() != cluster.resource_version();
        memory.replaced = cluster.resource_version().filter(|_| is_another);
        memory.written = written.0.resource_version();
    });
    Ok(written.0.as_recorded())
}
