//! Reads why Kubernetes' controllers do not make a pod or a volume. Healthy members cost nothing.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::operator::observe::remembered::Explanation;
use crate::operator::shared::Context;

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
    let uid = cluster.uid().unwrap_or_default();
    let mut wanted = Vec::new();
    for member in members {
        if let Some(subject) = subject(member, recorded(cluster, member.ordinal), now)
            && let Some(selector) = selector(cluster, statefulset, member, subject)
        {
            wanted.push((member, subject, selector));
        }
    }
    if wanted.is_empty() {
        return;
    }
    let (now, before) = (Instant::now(), context.recall(&uid).explanations);
    let away = |ordinal| recorded(cluster, ordinal).and_then(|status| Some(status.absent_since.as_ref()?.0));
    let known = |ordinal, selector: &str| {
        let (before, since) = (before.get(&ordinal)?, away(ordinal)?);
        before.is_of((selector, since)).then_some(before)
    };
    let is_stale = |(member, _, selector): &&(&mut Member, Subject, String)| {
        !known(member.ordinal, selector).is_some_and(|known| known.is_fresh(now))
    };
    // Members that have no pod share the events of their StatefulSet.
    let stale = wanted.iter().filter(is_stale);
    let stale: BTreeSet<&String> = stale.map(|(_, _, selector)| selector).collect();
    let said = stale
        .into_iter()
        .map(async |selector| (selector.clone(), read(cluster, selector, context).await));
    let said: BTreeMap<String, Result<Vec<Said>, String>> = join_all(said).await.into_iter().collect();
    for (member, subject, selector) in wanted {
        let (ordinal, name) = (member.ordinal, member.name(&cluster.name_any()));
        let Some(since) = away(ordinal) else { continue };
        let before = known(ordinal, &selector);
        let why = match said.get(&selector) {
            None => before.and_then(|before| before.why.clone()),
            Some(answer) => {
                if let Err(error) = answer {
                    tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), error, "events cannot be read");
                }
                let explained = |events: &Vec<Said>| explanation(subject, events, &name, recorded(cluster, ordinal));
                let read = answer.as_ref().map(explained);
                let explanation = Explanation::after(before, (&selector, since), read, now);
                let why = explanation.why.clone();
                context.remember(&uid, |memory| drop(memory.explanations.insert(ordinal, explanation)));
                why
            }
        };
        if let Some(why) = why {
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
