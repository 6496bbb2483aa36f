//! PodDisruptionBudgets: a drain takes one pod at a time.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::labels;
use super::object::{owned, owned_balancer};
use crate::api::MultiMasterCluster;

/// At most one member is evicted at a time. A member that is not ready may always be evicted: it serves no client, and a broken member must not keep
/// its node from being drained.
pub fn pod_disruption_budget(cluster: &MultiMasterCluster) -> PodDisruptionBudget {
    budget(owned(cluster, cluster.name_any()), labels::selector(cluster))
}

/// At most one HAProxy pod is evicted at a time.
pub fn of_balancer(cluster: &MultiMasterCluster) -> Option<PodDisruptionBudget> {
    let budget = || budget(owned_balancer(cluster), labels::balancer_selector(cluster));
    cluster.spec.balancer.is_haproxy().then(budget)
}

fn budget(metadata: ObjectMeta, pods: BTreeMap<String, String>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            selector: Some(LabelSelector {
                match_labels: Some(pods),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
