//! What all objects of a cluster have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::labels;
use crate::api::MultiMasterCluster;
use crate::names;

/// Settings from the operator's command line for the objects that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's image: the init container copies the agent out of it.
    pub operator_image: String,
    /// The image of members where `spec.image` is unset.
    pub default_mysql_image: String,
    /// The image of HAProxy where `spec.balancer.image` is unset.
    pub default_haproxy_image: String,
    /// `LOG_FORMAT` of the agents: `Text` or `Json`.
    pub log_format: String,
}

/// Metadata of an object that is deleted with the resource.
pub(crate) fn owned(cluster: &MultiMasterCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        labels: Some(labels::all(cluster)),
        owner_references: owner(cluster).map(|owner| vec![owner]),
        ..unowned(cluster, name)
    }
}

/// Metadata of an object of HAProxy. It is deleted with the resource.
pub(crate) fn owned_balancer(cluster: &MultiMasterCluster) -> ObjectMeta {
    ObjectMeta {
        labels: Some(labels::all_of_balancer(cluster)),
        ..owned(cluster, names::balancer(&cluster.name_any()))
    }
}

/// Metadata of an object that stays when the resource is deleted.
pub(crate) fn unowned(cluster: &MultiMasterCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.namespace(),
        labels: Some(labels::lasting(cluster)),
        ..ObjectMeta::default()
    }
}

/// The reference that makes the garbage collector delete an object with its cluster. `None` for a resource that did not come
/// from an API server and so has no UID.
pub fn owner(cluster: &MultiMasterCluster) -> Option<OwnerReference> {
    Some(OwnerReference {
        block_owner_deletion: Some(true),
        ..cluster.controller_owner_ref(&())?
    })
}
