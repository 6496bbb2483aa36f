//! Objects that are there and do not change with the operator: volumes, passwords, selectors.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec, Secret};
use multimaster::api::MultiMasterCluster;
use multimaster::names;
use multimaster::resources::secrets::missing_keys;
use multimaster::resources::{Desired, Settings, desired};
use serde_json::Value;

use crate::VERSIONS;
use crate::kept::{Ring, rings};

type Labels = BTreeMap<String, String>;

fn wanted(cluster: &MultiMasterCluster, live: &StatefulSet) -> Desired {
    let settings = Settings {
        operator_image: "multimaster/operator:dev".into(),
        default_mysql_image: "mysql:9.7".into(),
        default_haproxy_image: "haproxy:3.2".into(),
        log_format: "Json".into(),
    };
    desired(cluster, &settings, Some(live))
}

/// The passwords that running servers know are found under the names that they have.
#[test]
fn secrets_are_whole() {
    for version in VERSIONS {
        for ring in rings(version) {
            let cluster = name(&ring);
            let credentials: Secret = ring.read("credentials.json");
            assert_eq!(credentials.metadata.name, Some(names::credentials_secret(&cluster)));
            assert_eq!(missing_keys(&credentials), Vec::<&str>::new(), "{}", ring.name);
            let tls: Secret = ring.read("tls.json");
            assert_eq!(tls.metadata.name, Some(names::tls_secret(&cluster)));
            let keys: BTreeSet<String> = tls.data.unwrap().into_keys().collect();
            let known = ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(ToOwned::to_owned);
            assert!(keys.is_superset(&BTreeSet::from(known)), "{}: {keys:?}", ring.name);
        }
    }
}

/// The API server refuses any other change of a StatefulSet; and a Deployment's selector.
#[test]
fn what_cannot_be_changed_stays() {
    for version in VERSIONS {
        let mut balancers = 0;
        for ring in rings(version) {
            let (cluster, live) = (ring.cluster(), ring.read::<StatefulSet>("statefulset.json"));
            let wanted = wanted(&cluster, &live);
            let (live, next) = (live.spec.unwrap(), wanted.stateful_set.spec.unwrap());
            assert_eq!(next.selector, live.selector, "{}", ring.name);
            assert_eq!(next.service_name, live.service_name, "{}", ring.name);
            assert_eq!(next.pod_management_policy, live.pod_management_policy, "{}", ring.name);
            assert_eq!(
                next.volume_claim_templates, live.volume_claim_templates,
                "{}",
                ring.name
            );
            if let Some(live) = ring.find::<Deployment>("deployment.json") {
                let next = wanted.balancer.unwrap();
                assert_eq!(next.metadata.name, live.metadata.name, "{}", ring.name);
                assert_eq!(
                    next.spec.unwrap().selector,
                    live.spec.unwrap().selector,
                    "{}",
                    ring.name
                );
                balancers += 1;
            }
        }
        assert!(balancers > 0, "{version}");
    }
}

/// A member finds its volume where it was.
#[test]
fn volumes_are_mounted_where_they_were() {
    for version in VERSIONS {
        for ring in rings(version) {
            let (cluster, live) = (ring.cluster(), ring.read::<StatefulSet>("statefulset.json"));
            let claims = live.spec.as_ref().unwrap().volume_claim_templates.clone().unwrap();
            let claim = claims[0].metadata.name.clone().unwrap();
            let bound: PersistentVolumeClaim = ring.read("claim.json");
            assert_eq!(
                bound.metadata.name,
                Some(format!("{claim}-{}", names::member(&name(&ring), 0)))
            );
            let before = &live.spec.as_ref().unwrap().template;
            let next = wanted(&cluster, &live).stateful_set.spec.unwrap().template;
            let place = mount(before, &claim);
            assert!(
                place.is_some() && mount(&next, &claim) == place,
                "{}: {place:?}",
                ring.name
            );
            assert_eq!(place.unwrap(), names::paths::VOLUME);
        }
    }
}

fn mount(template: &PodTemplateSpec, volume: &str) -> Option<String> {
    let containers = &template.spec.as_ref()?.containers;
    let mysql = containers
        .iter()
        .find(|container| container.name == names::MYSQL_CONTAINER)?;
    let mut mounts = mysql.volume_mounts.iter().flatten();
    mounts
        .find(|mount| mount.name == volume)
        .map(|mount| mount.mount_path.clone())
}

/// Until its restart a pod has the labels that it has: this version's Services and Deployments lead to it, too.
#[test]
fn services_lead_to_pods_that_were_not_restarted_yet() {
    for version in VERSIONS {
        for ring in rings(version) {
            let (cluster, live) = (ring.cluster(), ring.read::<StatefulSet>("statefulset.json"));
            let wanted = wanted(&cluster, &live);
            let members = (0..3).map(|ordinal| labels(&ring, &format!("member-{ordinal}")).unwrap());
            let balancers = (0..2).filter_map(|n| labels(&ring, &format!("balancer-{n}")));
            let pods: Vec<Labels> = members.chain(balancers).collect();
            for (service, kind) in [
                (&wanted.service, names::LABEL_SERVING),
                (&wanted.reads_service, names::LABEL_READS),
                (&wanted.members_service, names::LABEL_CLUSTER),
            ] {
                let mut selector = service.spec.as_ref().unwrap().selector.clone().unwrap();
                // Who has it now is for `decisions.rs`.
                for label in [names::LABEL_SERVING, names::LABEL_READS] {
                    selector.remove(label);
                }
                let selected = pods
                    .iter()
                    .filter(|pod| selector.iter().all(|(key, value)| pod.get(key) == Some(value)));
                let expected = if kind == names::LABEL_SERVING && cluster.spec.balancer.is_haproxy() {
                    2
                } else {
                    3
                };
                assert_eq!(selected.count(), expected, "{}: {selector:?}", ring.name);
            }
        }
    }
}

fn labels(ring: &Ring, pod: &str) -> Option<Labels> {
    let pod: Value = ring.find(&format!("{pod}/pod.json"))?;
    Some(serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap())
}

fn name(ring: &Ring) -> String {
    ring.cluster().metadata.name.unwrap()
}
