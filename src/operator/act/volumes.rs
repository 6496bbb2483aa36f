//! Lets the volumes grow, one by one. They cannot be changed through their StatefulSet. A size that cannot be had is remembered and told, and holds up
//! nothing else.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::MultiMasterCluster;
use crate::decide::observed::Problem;
use crate::decide::volumes::{self, Claim, Growth};
use crate::names;
use crate::operator::kubernetes::{KubernetesError, ask};
use crate::operator::observe::objects::find;
use crate::operator::shared::{Context, VolumeSizes};
use crate::resources::validate;

use super::current::is_current;
use super::error::ActError;

/// While a volume has not the size of the spec, the claims are looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Lets the claims of all members ask for the size of the spec. Whether anything was written.
///
/// # Errors
/// [`ActError::Api`] when the API server does not answer, or refuses to be read. If it refuses the size, that is no error.
pub async fn grow(cluster: &MultiMasterCluster, context: &Context) -> Result<bool, ActError> {
    if validate::storage_size(cluster).is_some() {
        return Ok(false);
    }
    let uid = cluster.uid().unwrap_or_default();
    let (wanted, pods) = (cluster.spec.storage.size.0.clone(), pods(cluster, context));
    let is_known = |seen: VolumeSizes| {
        let is_same = seen.wanted == wanted && seen.pods == pods;
        is_same && (seen.settled || seen.at.elapsed() < LOOK_AGAIN)
    };
    if context.recall(&uid).volumes.is_some_and(is_known) {
        return Ok(false);
    }
    let claims = claims(cluster, context).await?;
    if claims.iter().any(|claim| claim.growth(&wanted) == Growth::Ask) {
        is_current(cluster, context).await?;
    }
    let (written, refusal) = match let_ask(cluster, &claims, context).await {
        Ok(done) => done,
        Err(error) => {
            tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "a volume cannot ask for its size now");
            (false, None)
        }
    };
    let problem = refusal.or_else(|| volumes::told(&claims, &wanted));
    let have_it = claims.iter().all(|claim| claim.growth(&wanted) == Growth::Nothing);
    let settled = have_it && claims.len() == cluster.ordinals().count();
    context.remember(&uid, |memory| {
        memory.volumes = Some(VolumeSizes {
            at: Instant::now(),
            wanted,
            pods,
            settled,
            problem,
        });
    });
    Ok(written)
}

/// UIDs of the members' pods.
fn pods(cluster: &MultiMasterCluster, context: &Context) -> Vec<String> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let uid = |ordinal| find(&context.stores.pods, &names::member(&name, ordinal), &namespace)?.uid();
    cluster.ordinals().filter_map(uid).collect()
}

/// The claims of the members that there are. The claim of a member that has left stays, and stays as it is.
async fn claims(cluster: &MultiMasterCluster, context: &Context) -> Result<Vec<Claim>, KubernetesError> {
    let selector = ListParams::default().labels(&format!("{}={}", names::LABEL_CLUSTER, cluster.name_any()));
    let own: BTreeSet<String> = cluster
        .ordinals()
        .map(|ordinal| names::claim(&cluster.name_any(), ordinal))
        .collect();
    let found = ask("PersistentVolumeClaims", api(cluster, context).list(&selector)).await?;
    let claims = found.items.iter().filter(|claim| own.contains(&claim.name_any()));
    Ok(claims.map(claim).collect())
}

fn api(cluster: &MultiMasterCluster, context: &Context) -> Api<PersistentVolumeClaim> {
    Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default())
}

/// Lets each claim ask for the size that has to, if its StorageClass lets it. Whether anything was written, and the first refusal.
async fn let_ask(
    cluster: &MultiMasterCluster,
    claims: &[Claim],
    context: &Context,
) -> Result<(bool, Option<Problem>), KubernetesError> {
    let wanted = &cluster.spec.storage.size.0;
    let asking = || claims.iter().filter(|claim| claim.growth(wanted) == Growth::Ask);
    let classes: BTreeSet<&String> = asking().filter_map(|claim| claim.class.as_ref()).collect();
    let mut rigid = BTreeSet::new();
    for class in classes {
        if forbids_growth(class, context).await? {
            rigid.insert(class);
        }
    }
    let (mut written, mut refusal) = (false, None);
    for claim in asking() {
        let forbids = claim.class.as_ref().filter(|class| rigid.contains(class));
        let why = match forbids {
            Some(class) => Some(volumes::forbids_growth(class)),
            None => let_it_ask(cluster, claim, context).await?,
        };
        match why {
            Some(why) => refusal = refusal.or_else(|| Some(volumes::refused(claims, claim, wanted, &why))),
            None => written = true,
        }
    }
    Ok((written, refusal))
}

/// What the API server answers if it refuses.
async fn let_it_ask(
    cluster: &MultiMasterCluster,
    claim: &Claim,
    context: &Context,
) -> Result<Option<String>, KubernetesError> {
    let wanted = json!({ "spec": { "resources": { "requests": { "storage": cluster.spec.storage.size } } } });
    let what = format!("spec.storage.size for PersistentVolumeClaim {}", claim.name);
    let params = PatchParams {
        field_manager: Some(names::FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let patched = ask(
        &what,
        api(cluster, context).patch(&claim.name, &params, &Patch::Merge(&wanted)),
    )
    .await;
    match patched {
        Ok(_) => Ok(None),
        Err(KubernetesError::Api {
            source: kube::Error::Api(status),
            ..
        }) if matches!(status.code, 400 | 403 | 422) => Ok(Some(status.message)),
        Err(KubernetesError::Api {
            source: kube::Error::Api(status),
            ..
        }) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The StorageClass says that volumes cannot grow. If it is gone, the API server knows.
async fn forbids_growth(class: &str, context: &Context) -> Result<bool, KubernetesError> {
    let api: Api<StorageClass> = Api::all(context.client.clone());
    let found = ask("StorageClass", api.get_opt(class)).await?;
    Ok(found.is_some_and(|class| class.allow_volume_expansion != Some(true)))
}

fn claim(claim: &PersistentVolumeClaim) -> Claim {
    let spec = claim.spec.clone().unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    let asks = spec
        .resources
        .and_then(|resources| resources.requests?.remove("storage"));
    let mut conditions = status.conditions.unwrap_or_default().into_iter();
    let failed = conditions.find(|condition| {
        let is_failure = ["ControllerResizeError", "NodeResizeError"].contains(&condition.type_.as_str());
        is_failure && condition.status == "True"
    });
    Claim {
        name: claim.name_any(),
        asks: asks.unwrap_or_default().0,
        has: status
            .capacity
            .and_then(|mut capacity| capacity.remove("storage"))
            .map(|size| size.0),
        class: spec.storage_class_name.filter(|class| !class.is_empty()),
        failure: failed.and_then(|condition| condition.message.or(condition.reason)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_says_what_it_asks_for_what_it_has_and_why_it_does_not_grow() {
        let failed = json!({"type": "ControllerResizeError", "status": "True", "message": "no room"});
        let read = |status: serde_json::Value| {
            let spec = json!({"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}});
            let live = json!({"metadata": {"name": "data-demo-0"}, "spec": spec, "status": status});
            claim(&serde_json::from_value(live).unwrap())
        };
        let expected = Claim {
            name: "data-demo-0".into(),
            asks: "2Gi".into(),
            has: None,
            class: Some("fast".into()),
            failure: None,
        };
        assert_eq!(read(json!({"phase": "Pending"})), expected);
        assert_eq!(
            read(json!({"capacity": {"storage": "1Gi"}, "conditions": [failed]})),
            Claim {
                has: Some("1Gi".into()),
                failure: Some("no room".into()),
                ..expected
            }
        );
    }
}
