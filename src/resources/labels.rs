//! Labels of the objects, and what Services, the StatefulSet and people select members by.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::api::MultiMasterCluster;
use crate::names;

/// The label that differs between members and HAProxy's pods.
const COMPONENT: &str = "app.kubernetes.io/component";
/// The label of an application that has the object.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
const MEMBER: &str = "member";
const BALANCER: &str = "balancer";

/// The labels that every member's pod has for as long as it exists.
pub fn selector(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    component(cluster, MEMBER)
}

/// The labels that every HAProxy pod has for as long as it exists.
pub fn balancer_selector(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    component(cluster, BALANCER)
}

fn component(cluster: &MultiMasterCluster, component: &str) -> BTreeMap<String, String> {
    map([
        (names::LABEL_CLUSTER, cluster.name_any()),
        (COMPONENT, component.into()),
    ])
}

/// The pods that serve, of members or of HAProxy: what the application's Service selects.
pub fn serving(mut selector: BTreeMap<String, String>) -> BTreeMap<String, String> {
    selector.insert(names::LABEL_SERVING.into(), "true".into());
    selector
}

/// The members that serve reads.
pub fn reads(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    let mut selector = selector(cluster);
    selector.insert(names::LABEL_READS.into(), "true".into());
    selector
}

/// The labels of all objects. The serving label is not among them: only a decision of the operator sets it.
pub fn all(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    common(cluster, "mysql", selector(cluster))
}

/// The labels of what outlives the resource: Secrets and claims. By [`INSTANCE`] Argo CD finds what it may prune, and it prunes what has no owner and is
/// not in git.
pub fn lasting(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    let mut labels = all(cluster);
    labels.remove(INSTANCE);
    labels
}

/// The labels of all objects of HAProxy.
pub fn all_of_balancer(cluster: &MultiMasterCluster) -> BTreeMap<String, String> {
    common(cluster, "haproxy", balancer_selector(cluster))
}

fn common(cluster: &MultiMasterCluster, name: &str, mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.extend(map([
        ("app.kubernetes.io/name", name.into()),
        (INSTANCE, cluster.name_any()),
        ("app.kubernetes.io/managed-by", names::FIELD_MANAGER.into()),
    ]));
    labels
}

/// [`selector`] as text: for `status.selector` and for listing pods.
pub fn selector_text(cluster: &MultiMasterCluster) -> String {
    text(&selector(cluster))
}

/// Labels as a selector in text.
pub fn text(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Whether users may set this label or annotation on members' pods.
pub(crate) fn is_free(cluster: &MultiMasterCluster, key: &str) -> bool {
    !key.starts_with(&format!("{}/", names::GROUP)) && !all(cluster).contains_key(key)
}

fn map<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
