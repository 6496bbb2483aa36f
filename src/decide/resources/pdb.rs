//! PodDisruptionBudget: a drain takes one member at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{labels, owned};
use crate::api::MultiMasterCluster;

/// At most one member is away by eviction. A member that is not ready may always be evicted: it serves nobody, and a broken
/// member must not keep its node from being drained.
pub fn pod_disruption_budget(cluster: &MultiMasterCluster) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned(cluster, cluster.name_any()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(cluster)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
