//! The Kubernetes objects of a cluster, one file each.
//!
//! Every builder is a pure function of the resource. So a pass in which nothing changed builds the same objects, and [`drift::is_subset`] finds that
//! nothing needs to be written.

mod balancer;
pub mod config;
pub mod drift;
pub mod foreign;
pub mod labels;
pub(crate) mod object;
pub(crate) mod overlay;
mod pdb;
pub(crate) mod pod;
pub mod quantity;
pub(crate) mod reserved;
pub mod secrets;
mod services;
mod statefulset;
pub mod validate;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;

use crate::api::MultiMasterCluster;

pub use object::{Settings, owner};
pub use pdb::pod_disruption_budget;
pub use pod::pod_template;
pub use services::{members_service, reads_service, service};
pub use statefulset::stateful_set;

/// All objects that are server-side applied. The Secrets are not among them: they are created once and never applied over, because the servers on
/// old volumes know the old passwords.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The user's part of the MySQL configuration.
    pub config_map: ConfigMap,
    /// The headless Service that gives every member its DNS name.
    pub members_service: Service,
    /// The Service that applications use.
    pub service: Service,
    /// The Service for their reads.
    pub reads_service: Service,
    /// It lets at most one member be evicted at a time.
    pub pod_disruption_budget: PodDisruptionBudget,
    /// The members.
    pub stateful_set: StatefulSet,
    /// HAProxy; `None` where kube-proxy balances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancer: Option<Deployment>,
    /// It lets at most one HAProxy pod be evicted at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancer_disruption_budget: Option<PodDisruptionBudget>,
}

/// The objects of this cluster. `live`: the present StatefulSet, whose immutable fields stay.
pub fn desired(cluster: &MultiMasterCluster, settings: &Settings, live: Option<&StatefulSet>) -> Desired {
    Desired {
        config_map: config::config_map(cluster),
        members_service: members_service(cluster),
        service: service(cluster),
        reads_service: reads_service(cluster),
        pod_disruption_budget: pod_disruption_budget(cluster),
        stateful_set: stateful_set(cluster, settings, live),
        balancer: balancer::deployment(cluster, settings),
        balancer_disruption_budget: pdb::of_balancer(cluster),
    }
}

#[cfg(test)]
pub(crate) mod tests;
