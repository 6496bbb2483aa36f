//! The labels that Services select, and deletion of a pod for a restart.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::MultiMasterCluster;
use crate::names;
use crate::operator::kubernetes::{KubernetesError, ask};
use crate::operator::shared::Context;
use crate::resources::labels;

fn api(cluster: &MultiMasterCluster, context: &Context) -> Api<Pod> {
    Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default())
}

/// Sets or removes a label of the pod that was observed, and of no other: the UID in the patch makes the API server refuse it for
/// a pod that came in its place.
///
/// # Errors
/// [`KubernetesError`].
pub async fn label(
    cluster: &MultiMasterCluster,
    name: &str,
    pod_uid: &str,
    (label, serving): (&str, bool),
    context: &Context,
) -> Result<(), KubernetesError> {
    let value = if serving { json!("true") } else { json!(null) };
    let patch = json!({ "metadata": { "uid": pod_uid, "labels": { label: value } } });
    let params = PatchParams {
        field_manager: Some(names::FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    match ask(
        &format!("label of Pod {name}"),
        api(cluster, context).patch_metadata(name, &params, &Patch::Merge(patch)),
    )
    .await
    {
        Ok(_) => Ok(()),
        // A pod that is gone serves nobody.
        Err(KubernetesError::Api {
            source: kube::Error::Api(status),
            ..
        }) if !serving && (status.is_not_found() || status.is_conflict()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether this HAProxy pod is in the Service, and another one that stays, as the API server has it now.
///
/// # Errors
/// [`KubernetesError`].
pub async fn is_one_of_several(
    cluster: &MultiMasterCluster,
    name: &str,
    context: &Context,
) -> Result<bool, KubernetesError> {
    let selector = labels::text(&labels::serving(labels::balancer_selector(cluster)));
    let params = ListParams::default().labels(&selector);
    let serving = ask("HAProxy's pods", api(cluster, context).list_metadata(&params)).await?;
    let mut others = serving.items.iter().filter(|pod| pod.name_any() != name);
    let another = others.any(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(another && serving.items.iter().any(|pod| pod.name_any() == name))
}

/// Deletes the pod that was observed, gracefully.
///
/// # Errors
/// [`KubernetesError`].
pub async fn delete(
    cluster: &MultiMasterCluster,
    ordinal: u8,
    pod_uid: &str,
    context: &Context,
) -> Result<(), KubernetesError> {
    let name = names::member(&cluster.name_any(), ordinal);
    let only_this = Preconditions {
        uid: Some(pod_uid.into()),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(only_this),
        ..DeleteParams::default()
    };
    ask(&format!("Pod {name}"), api(cluster, context).delete(&name, &params))
        .await
        .map(drop)
}
