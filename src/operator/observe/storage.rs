//! Reads the volumes of one cluster: whose claims they are, and why they are not as the spec wants them.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::api::MultiMasterCluster;
use crate::api::reasons::Reason;
use crate::decide::observed::Problem;
use crate::decide::volumes;
use crate::names;
use crate::operator::kubernetes::{KubernetesError, ask};
use crate::operator::shared::Context;

/// How long a pass waits for the API server about a claim.
const SOON: Duration = Duration::from_millis(300);

/// UID of the claim of a member's volume. A pod keeps its claim, so it is read once for each pod.
pub(super) async fn claim(
    cluster: &MultiMasterCluster,
    ordinal: u8,
    pod_uid: &str,
    context: &Context,
) -> Option<String> {
    let uid = cluster.uid().unwrap_or_default();
    if let Some((of, claim)) = context.recall(&uid).claims.get(&ordinal)
        && of == pod_uid
    {
        return Some(claim.clone());
    }
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let name = names::claim(&cluster.name_any(), ordinal);
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = tokio::time::timeout(SOON, ask("PersistentVolumeClaim", api.list_metadata(&only))).await;
    match found {
        Err(_) => {
            tracing::warn!(
                claim = name,
                "the API server does not answer in time about the claim; asking again in the next pass"
            );
            None
        }
        Ok(Ok(found)) => {
            let claim = found.items.first().and_then(ResourceExt::uid)?;
            context.remember(&uid, |memory| {
                memory.claims.insert(ordinal, (pod_uid.to_owned(), claim.clone()));
            });
            Some(claim)
        }
        Ok(Err(error)) => {
            tracing::warn!(claim = name, %error, "the claim cannot be read; asking again in the next pass");
            None
        }
    }
}

/// Why the volumes of a cluster whose StatefulSet is there do not get the size of the spec. The StatefulSet keeps the size that it has, so nothing
/// else waits for this. An operator that has not looked yet takes what status says of this generation.
pub(super) fn size_problem(
    cluster: &MultiMasterCluster,
    invalid: Option<Problem>,
    context: &Context,
) -> Option<Problem> {
    let seen = context.recall(&cluster.uid().unwrap_or_default()).volumes;
    let of_this_size = seen.filter(|seen| seen.wanted == cluster.spec.storage.size.0);
    invalid.or_else(|| match of_this_size {
        Some(seen) => seen.problem,
        None => volumes::recorded(cluster),
    })
}

/// A StorageClass that does not exist.
///
/// # Errors
/// [`KubernetesError`] when the API server cannot be asked.
pub(super) async fn storage_class_problem(
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<Option<Problem>, KubernetesError> {
    let Some(class) = &cluster.spec.storage.storage_class_name else {
        return Ok(None);
    };
    let api: Api<StorageClass> = Api::all(context.client.clone());
    let found = ask("StorageClass", api.get_opt(class)).await?;
    let message = || {
        format!(
            "spec.storage.storageClassName: there is no StorageClass {class:?}; create it, or delete this resource and name one that `kubectl get storageclass` lists"
        )
    };
    Ok(found.is_none().then(|| Problem {
        reason: Reason::StorageClassMissing,
        message: message(),
    }))
}
