//! Sets the labels that Services select, and deletes a pod for a restart.

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

/// Sets or removes a label of the pod that was observed, and of no other pod: with the UID in the patch, the API server refuses a pod that has
/// replaced it.
///
/// # Errors
/// [`KubernetesError`] when the API server refuses or does not answer. A pod that is gone needs no label removed, so that is no error.
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
        // A pod that is gone serves no client.
        Err(KubernetesError::Api {
            source: kube::Error::Api(status),
            ..
        }) if !serving && (status.is_not_found() || status.is_conflict()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether this HAProxy pod and another pod, which is not being deleted, are in the Service. It asks the API server, not the cache.
///
/// # Errors
/// [`KubernetesError`] when the API server refuses or does not answer.
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
/// [`KubernetesError`] when the API server refuses, for example because another pod has replaced it, or does not answer.
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
