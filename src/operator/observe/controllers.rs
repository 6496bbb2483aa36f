//! Reads why Kubernetes' controllers do not make a pod or a volume. Healthy members cost nothing.

use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use crate::api::MultiMasterCluster;
use crate::api::status::MemberStatus;
use crate::decide::observed::Member;
use crate::decide::report::fitted::fitted;
use crate::decide::report::unexplained::{MOST_SHOWN, Said, Subject, explanation, note, subject};
use crate::names;
use crate::operator::kubernetes::ask;
use crate::operator::shared::{Context, Explanation};

/// While a member stays away, its events are read this often.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// How long a pass waits for events.
const SOON: Duration = Duration::from_millis(300);
/// The most events of one object that are read. Kubernetes keeps them for an hour, and counts equal ones together.
const MOST_EVENTS: u32 = 200;

/// Gives each member whose pod is not there, or does not run, what events say of it.
pub(super) async fn explain(
    cluster: &MultiMasterCluster,
    statefulset: Option<&StatefulSet>,
    members: &mut [Member],
    context: &Context,
) {
    let now = Timestamp::now();
    let said = members.iter().map(|member| async move {
        let subject = subject(member, recorded(cluster, member.ordinal), now)?;
        let selector = selector(cluster, statefulset, member, subject)?;
        let why = remembered(cluster, member.ordinal, (subject, selector), context).await?;
        Some((subject, why))
    });
    let said = join_all(said).await;
    for (member, said) in members.iter_mut().zip(said) {
        if let Some((subject, why)) = said {
            let name = member.name(&cluster.name_any());
            note(member, &name, subject, why);
        }
    }
}

/// Why the controller of HAProxy's Deployment cannot make a pod: the Deployment itself says so.
pub(super) fn balancer_refusal(deployment: &Deployment) -> Option<String> {
    let mut conditions = deployment.status.as_ref()?.conditions.iter().flatten();
    let failed = conditions.find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    Some(fitted(failed.message.clone()?, MOST_SHOWN))
}

fn recorded(cluster: &MultiMasterCluster, ordinal: u8) -> Option<&MemberStatus> {
    cluster.status.as_ref()?.member_statuses.get(usize::from(ordinal))
}

/// Selects the events of an object.
fn selector(
    cluster: &MultiMasterCluster,
    statefulset: Option<&StatefulSet>,
    member: &Member,
    subject: Subject,
) -> Option<String> {
    Some(match subject {
        Subject::StatefulSet => format!("involvedObject.uid={},reason=FailedCreate", statefulset?.uid()?),
        Subject::Claim => format!(
            "involvedObject.kind=PersistentVolumeClaim,involvedObject.name={},reason=ProvisioningFailed",
            names::claim(&cluster.name_any(), member.ordinal)
        ),
        Subject::Pod => format!("involvedObject.uid={},type=Warning", member.pod.as_ref()?.uid),
    })
}

/// What events say, or said lately.
async fn remembered(
    cluster: &MultiMasterCluster,
    ordinal: u8,
    (subject, selector): (Subject, String),
    context: &Context,
) -> Option<String> {
    let uid = cluster.uid().unwrap_or_default();
    let before = context.recall(&uid).explanations.remove(&ordinal);
    let is_fresh = |before: &Explanation| before.of == selector && before.at.elapsed() < READ_AGAIN;
    if let Some(before) = before.as_ref().filter(|before| is_fresh(before)) {
        return before.why.clone();
    }
    let why = match read(cluster, &selector, context).await {
        Ok(events) => {
            let pod = names::member(&cluster.name_any(), ordinal);
            explanation(subject, &events, &pod, recorded(cluster, ordinal))
        }
        Err(error) => {
            tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), error, "events cannot be read");
            before
                .filter(|before| before.of == selector)
                .and_then(|before| before.why)
        }
    };
    context.remember(&uid, |memory| {
        let (at, why) = (Instant::now(), why.clone());
        memory
            .explanations
            .insert(ordinal, Explanation { at, of: selector, why });
    });
    why
}

async fn read(cluster: &MultiMasterCluster, selector: &str, context: &Context) -> Result<Vec<Said>, String> {
    let api: Api<Event> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let only = ListParams::default().fields(selector).limit(MOST_EVENTS);
    match timeout(SOON, ask("Events", api.list(&only))).await {
        Ok(Ok(found)) => Ok(found.items.into_iter().filter_map(said).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the API server does not answer within {SOON:?}")),
    }
}

fn said(event: Event) -> Option<Said> {
    let repeated = event.series.and_then(|series| series.last_observed_time);
    let at = repeated.or(event.event_time).map(|time| time.0);
    Some(Said {
        reason: event.reason?,
        message: event.message?,
        at: event
            .last_timestamp
            .map(|time| time.0)
            .or(at)
            .or(event.metadata.creation_timestamp.map(|time| time.0))?,
    })
}
