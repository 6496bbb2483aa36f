//! The StatefulSet of the members.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;

use super::object::{Settings, owned};
use super::{labels, pod};
use crate::api::{MultiMasterCluster, Reclaim};
use crate::names;

/// StatefulSet `<cluster>`.
///
/// It is `OnDelete`, because the operator restarts members itself, one at a time and only while the ring is closed. It is `Parallel`, because a
/// member must be able to start while a lower ordinal is down.
///
/// The API server refuses any change of the fields taken from `live`. Volumes grow by their claims, not by the template.
pub fn stateful_set(cluster: &MultiMasterCluster, settings: &Settings, live: Option<&StatefulSet>) -> StatefulSet {
    let live = live.and_then(|live| live.spec.as_ref());
    let mut template = pod::pod_template(cluster, settings);
    let mut selector = LabelSelector {
        match_labels: Some(labels::selector(cluster)),
        ..LabelSelector::default()
    };
    let mut volume_claim_templates = Some(vec![volume_claim(cluster)]);
    let mut service_name = Some(names::members_service(&cluster.name_any()));
    let mut pod_management_policy = Some("Parallel".to_owned());
    if let Some(live) = live {
        selector = live.selector.clone();
        volume_claim_templates = live.volume_claim_templates.clone();
        service_name = live.service_name.clone();
        pod_management_policy = live.pod_management_policy.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.extend(selector.match_labels.clone().unwrap_or_default());
    }
    let when_deleted = match cluster.spec.storage.reclaim {
        Reclaim::Retain => "Retain",
        Reclaim::Delete => "Delete",
    };
    StatefulSet {
        metadata: owned(cluster, cluster.name_any()),
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(cluster.ordinals().count()).ok(),
            service_name,
            pod_management_policy,
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(when_deleted.into()),
                when_scaled: Some("Retain".into()),
            }),
            selector,
            template,
            volume_claim_templates,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn volume_claim(cluster: &MultiMasterCluster) -> PersistentVolumeClaim {
    let storage = &cluster.spec.storage;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.into()),
            labels: Some(labels::lasting(cluster)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
