//! Whose an object is. What is not this cluster's is neither written nor deleted nor mounted. `docs/ring.md`, "Whose an
//! object is".

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use crate::api::MultiMasterCluster;
use crate::names::LABEL_CLUSTER;

/// Why an object is not this cluster's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It is of an earlier resource of this name. The garbage collector deletes it.
    Earlier(String),
    /// It is somebody else's.
    Other(String),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Earlier(why) | Self::Other(why)) = self;
        f.write_str(why)
    }
}

/// Whether a claim is not this cluster's. A StatefulSet or a pod may own it.
pub fn foreign_claim(claim: &ObjectMeta, cluster: &MultiMasterCluster) -> Option<Foreign> {
    by_label(claim, cluster)
}

/// Whether an object is not this cluster's: something else owns it, or nothing does and it lacks the label with this cluster's name. Secrets and claims
/// that outlive the resource have no owner, and so has every object after `kubectl delete --cascade=orphan`.
pub fn foreign(object: &ObjectMeta, cluster: &MultiMasterCluster) -> Option<Foreign> {
    let name = cluster.name_any();
    let owners = object.owner_references.as_deref().unwrap_or_default();
    if owners
        .iter()
        .any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref())
    {
        return None;
    }
    let kind = MultiMasterCluster::kind(&());
    let is_earlier = |owner: &&OwnerReference| owner.kind == kind && owner.name == name;
    if let Some(owner) = owners.iter().find(is_earlier) {
        return Some(Foreign::Earlier(format!(
            "belongs to an earlier {kind} {name} (uid {}), and goes with it",
            owner.uid
        )));
    }
    if let Some(owner) = owners.first() {
        return Some(Foreign::Other(format!("belongs to {} {}", owner.kind, owner.name)));
    }
    by_label(object, cluster)
}

fn by_label(object: &ObjectMeta, cluster: &MultiMasterCluster) -> Option<Foreign> {
    let kind = MultiMasterCluster::kind(&());
    let label = object.labels.as_ref().and_then(|labels| labels.get(LABEL_CLUSTER));
    match label {
        Some(label) if *label == cluster.name_any() => None,
        Some(label) => Some(Foreign::Other(format!("belongs to {kind} {label}"))),
        None => Some(Foreign::Other("exists, and is not this cluster's".into())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::tests::minimal;

    #[test]
    fn an_object_is_its_owners_or_else_that_of_its_label() {
        let mut demo = minimal();
        demo.metadata.uid = Some("1-2-3".into());
        let owner =
            |kind: &str, name: &str, uid: &str| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid});
        let (own, earlier) = (
            owner("MultiMasterCluster", "demo", "1-2-3"),
            owner("MultiMasterCluster", "demo", "0"),
        );
        let label = |name: &str| json!({LABEL_CLUSTER: name, "app.kubernetes.io/managed-by": "multimaster-operator"});
        let earlier_said = "belongs to an earlier MultiMasterCluster demo (uid 0), and goes with it";
        for (object, expected) in [
            (json!({"ownerReferences": [own], "labels": label("demo")}), None),
            // A label can be lost, and comes back.
            (json!({"ownerReferences": [own]}), None),
            (json!({"ownerReferences": [owner("Secret", "a", "9"), own]}), None),
            (json!({"labels": label("demo")}), None),
            (
                json!({}),
                Some(Foreign::Other("exists, and is not this cluster's".into())),
            ),
            (
                json!({"labels": label("other")}),
                Some(Foreign::Other("belongs to MultiMasterCluster other".into())),
            ),
            (
                json!({"ownerReferences": [owner("Deployment", "web", "9")], "labels": label("demo")}),
                Some(Foreign::Other("belongs to Deployment web".into())),
            ),
            (
                json!({"ownerReferences": [owner("MultiMasterCluster", "shop", "9")]}),
                Some(Foreign::Other("belongs to MultiMasterCluster shop".into())),
            ),
            (
                json!({"ownerReferences": [earlier], "labels": label("demo")}),
                Some(Foreign::Earlier(earlier_said.into())),
            ),
        ] {
            let meta: ObjectMeta = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(foreign(&meta, &demo), expected, "{object}");
        }
    }
}
