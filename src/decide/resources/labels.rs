//! Labels of the objects, and what Services, the StatefulSet and people select members by.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::api::MultiMasterCluster;
use crate::names;

/// What tells members from other pods that a cluster may have one day (a balancer, for example).
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "member");

/// The labels that every member's pod has for as long as it exists.
pub fn selector(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    map([
        (names::LABEL_CLUSTER, cluster.name_any()),
        (COMPONENT.0, COMPONENT.1.into()),
    ])
}

/// The members that serve: what the application's Service selects.
pub fn serving(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    map([
        (names::LABEL_CLUSTER, cluster.name_any()),
        (names::LABEL_SERVING, "true".into()),
    ])
}

/// The labels of all objects. Never the serving label: only the operator's own decision sets that.
pub fn all(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.extend(map([
        ("app.kubernetes.io/name", "mysql".into()),
        ("app.kubernetes.io/instance", cluster.name_any()),
        ("app.kubernetes.io/managed-by", names::FIELD_MANAGER.into()),
    ]));
    labels
}

/// [`selector`] as text: for `status.selector` and for listing pods.
pub fn selector_text(cluster: &MultiMasterCluster) -> String {
    let pairs: Vec<String> = selector(cluster)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Whether users may set this label or annotation on members' pods.
pub(crate) fn is_free(cluster: &MultiMasterCluster, key: &str) -> bool {
    !key.starts_with(&format!("{}/", names::GROUP)) && !all(cluster).contains_key(key)
}

fn map<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
