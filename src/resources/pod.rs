//! The pod template of a member: one container, in which the agent is process 1 and runs mysqld.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, KeyToPath, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::object::Settings;
use super::reserved::MOUNTS;
use super::{config, labels, overlay};
use crate::api::{MultiMasterCluster, Positioning};
use crate::names::{self, paths};

/// User and group `mysql` of the official image.
const MYSQL_UID: i64 = 999;
/// Mode of the Secrets' files: readable by the group of `fsGroup` only.
const SECRET_MODE: i32 = 0o440;
/// The agent's binary in the operator's image.
const AGENT_IN_OPERATOR_IMAGE: &str = "/multimaster";
/// Mount path in the init container of the volume that the MySQL container has at the folder of [`paths::BINARY`].
const BINARY_IN_INIT: &str = "/multimaster-bin";

/// The template of the members' pods, with `spec.podTemplate` merged over it.
pub fn pod_template(cluster: &MultiMasterCluster, settings: &Settings) -> PodTemplateSpec {
    let built = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels::all(cluster)),
            annotations: Some(BTreeMap::from([
                (names::ANNOTATION_CONFIG_HASH.to_owned(), config::config_hash(cluster)),
                // `kubectl logs` and `kubectl exec` use this container, also where a sidecar was added.
                (
                    "kubectl.kubernetes.io/default-container".to_owned(),
                    names::MYSQL_CONTAINER.to_owned(),
                ),
            ])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(cluster, settings)),
    };
    match overlay::theirs(cluster) {
        Ok(Some(theirs)) => overlay::merge(cluster, built, theirs),
        // Nothing is applied while it cannot be read: see `validate`.
        Ok(None) | Err(_) => built,
    }
}

fn pod_spec(cluster: &MultiMasterCluster, settings: &Settings) -> PodSpec {
    PodSpec {
        init_containers: Some(vec![init_container(settings)]),
        containers: vec![mysql_container(cluster, settings)],
        volumes: Some(volumes(cluster)),
        affinity: Some(anti_affinity(&labels::selector(cluster))),
        topology_spread_constraints: Some(spread(&labels::selector(cluster))),
        security_context: Some(PodSecurityContext {
            // Changing the owner of every file of a large volume would take minutes at each start.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            ..run_as(MYSQL_UID)
        }),
        // Members send no requests to the API server.
        automount_service_account_token: Some(false),
        // The variables of many Services slow down a start, and mysqld reads some names as its own.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(120),
        ..PodSpec::default()
    }
}

/// What containers of the product ask for: little, so that they find a node, and something, because a namespace with a ResourceQuota takes no container
/// that does not say.
pub(super) fn small(requests: [(&str, &str); 2], limits: &[(&str, &str)]) -> ResourceRequirements {
    let quantities = |list: &[(&str, &str)]| {
        let quantities = list
            .iter()
            .map(|(name, size)| ((*name).to_owned(), Quantity((*size).into())));
        Some(quantities.collect())
    };
    ResourceRequirements {
        requests: quantities(&requests),
        limits: (!limits.is_empty()).then(|| quantities(limits)).flatten(),
        ..ResourceRequirements::default()
    }
}

/// Copies the agent's static binary out of the operator's image. So a new agent reaches a member only by a restart.
pub(super) fn init_container(settings: &Settings) -> Container {
    Container {
        name: names::AGENT_INIT_CONTAINER.into(),
        image: Some(settings.operator_image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(
            [AGENT_IN_OPERATOR_IMAGE, "install", BINARY_IN_INIT]
                .map(Into::into)
                .to_vec(),
        ),
        resources: Some(small(
            [("cpu", "50m"), ("memory", "64Mi")],
            &[("cpu", "500m"), ("memory", "128Mi")],
        )),
        volume_mounts: Some(vec![mount("binary", BINARY_IN_INIT, false)]),
        security_context: Some(locked_down()),
        ..Container::default()
    }
}

fn mysql_container(cluster: &MultiMasterCluster, settings: &Settings) -> Container {
    Container {
        name: names::MYSQL_CONTAINER.into(),
        image: Some(image(cluster, settings).into()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some([paths::BINARY, "agent"].map(Into::into).to_vec()),
        env: Some(environment(cluster, settings)),
        ports: Some(vec![
            port("mysql", names::MYSQL_PORT),
            port("mysql-admin", names::MYSQL_ADMIN_PORT),
            port("agent-probe", names::AGENT_PROBE_PORT),
            port("agent", names::AGENT_PORT),
        ]),
        resources: cluster.spec.resources.clone(),
        // Startup and liveness ask the agent only: a query would kill members in crash recovery, clone or an I/O stall.
        startup_probe: Some(probe("/livez", 1, 5, 120)),
        liveness_probe: Some(probe("/livez", 10, 5, 6)),
        readiness_probe: Some(probe("/readyz", 1, 1, 2)),
        volume_mounts: Some(
            MOUNTS
                .map(|(volume, path, read_only)| mount(volume, path, read_only))
                .to_vec(),
        ),
        // The agent writes the reason of its failure here, and the operator shows it.
        termination_message_path: Some("/dev/termination-log".into()),
        termination_message_policy: Some("File".into()),
        security_context: Some(locked_down()),
        ..Container::default()
    }
}

fn image<'a>(cluster: &'a MultiMasterCluster, settings: &'a Settings) -> &'a str {
    cluster.spec.image.as_ref().unwrap_or(&settings.default_mysql_image)
}

/// A variable with a field of the pod.
pub(super) fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.into(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// A variable with a text.
pub(super) fn text(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: Some(value.into()),
        ..EnvVar::default()
    }
}

fn environment(cluster: &MultiMasterCluster, settings: &Settings) -> Vec<EnvVar> {
    let positioning = match cluster.spec.replication.positioning {
        Positioning::Gtid => "Gtid",
        Positioning::FilePosition => "FilePosition",
    };
    let mut environment = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        text("CLUSTER", &cluster.name_any()),
        text("MULTIMASTER_CLUSTER_UID", &cluster.uid().unwrap_or_default()),
        text("POSITIONING", positioning),
        text("LOG_FORMAT", &settings.log_format),
        text("IMAGE", image(cluster, settings)),
    ];
    environment.extend(
        cluster
            .spec
            .database
            .iter()
            .map(|database| text("APP_USER", &database.user)),
    );
    environment
}

fn volumes(cluster: &MultiMasterCluster) -> Vec<Volume> {
    let cluster = cluster.name_any();
    vec![
        empty("run", Some("Memory")),
        empty("tmp", None),
        empty("binary", None),
        Volume {
            name: "config".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(&cluster),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        secret("credentials", names::credentials_secret(&cluster), &[]),
        // Never ca.key: an intruder in one member must not be able to make certificates.
        secret("tls", names::tls_secret(&cluster), &["ca.crt", "tls.crt", "tls.key"]),
    ]
}

/// Scratch space that lives as long as the pod.
pub(super) fn empty(name: &str, medium: Option<&str>) -> Volume {
    Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(Into::into),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// These keys of a Secret as files; all keys if the list is empty.
pub(super) fn secret(name: &str, secret: String, keys: &[&str]) -> Volume {
    let items = keys.iter().map(|key| KeyToPath {
        key: (*key).into(),
        path: (*key).into(),
        mode: None,
    });
    Volume {
        name: name.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: (!keys.is_empty()).then(|| items.collect()),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Prefers one of these pods on each node. Two on one node are allowed, because a pod without a node is worse.
pub(super) fn anti_affinity(pods: &BTreeMap<String, String>) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    topology_key: "kubernetes.io/hostname".into(),
                    label_selector: Some(matching(pods)),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Spreads pods over nodes and zones where possible.
pub(super) fn spread(pods: &BTreeMap<String, String>) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(matching(pods)),
        ..TopologySpreadConstraint::default()
    };
    ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        .map(over)
        .to_vec()
}

fn matching(pods: &BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(pods.clone()),
        ..LabelSelector::default()
    }
}

/// Everything in the pod runs as this user and group, which is not root.
pub(super) fn run_as(id: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_user: Some(id),
        run_as_group: Some(id),
        run_as_non_root: Some(true),
        fs_group: Some(id),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

pub(super) fn locked_down() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            ..Capabilities::default()
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

pub(super) fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(names::AGENT_PROBE_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

pub(super) fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        // The API server does not keep `false`.
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
