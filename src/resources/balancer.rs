//! HAProxy's Deployment: one container, in which `multimaster balancer` is process 1 and runs HAProxy.
//!
//! The template holds no setting that can be changed while HAProxy runs, so a change of such a setting replaces no pod.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::labels;
use super::object::{Settings, owned_balancer};
use super::pod::{self, empty, field, mount, port, probe, secret, text};
use super::reserved::BINARY_FOLDER;
use crate::api::MultiMasterCluster;
use crate::names::{self, paths};

/// User and group `haproxy` of the official image.
const HAPROXY_UID: i64 = 99;
/// Seconds for which open sessions may continue after SIGTERM.
const DRAIN_SECONDS: i64 = 300;
/// Seconds after which the pod is replaced when its node does not answer. Kubernetes' default is five minutes; this pod holds no data.
const LEAVE_NODE_SECONDS: i64 = 10;

/// Deployment `<cluster>-balancer`; `None` where kube-proxy balances.
pub fn deployment(cluster: &MultiMasterCluster, settings: &Settings) -> Option<Deployment> {
    let balancer = &cluster.spec.balancer;
    balancer.is_haproxy().then(|| Deployment {
        metadata: owned_balancer(cluster),
        spec: Some(DeploymentSpec {
            replicas: Some(balancer.replicas().into()),
            // An old pod ends only after this time, because the new pod gets its label a moment after it is Ready.
            min_ready_seconds: Some(5),
            // The new pod serves before an old pod ends.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            selector: LabelSelector {
                match_labels: Some(labels::balancer_selector(cluster)),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels::all_of_balancer(cluster)),
                    annotations: Some(BTreeMap::from([(
                        "kubectl.kubernetes.io/default-container".to_owned(),
                        names::HAPROXY_CONTAINER.to_owned(),
                    )])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(cluster, settings)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    })
}

fn pod_spec(cluster: &MultiMasterCluster, settings: &Settings) -> PodSpec {
    let (name, pods) = (cluster.name_any(), labels::balancer_selector(cluster));
    let tolerate = |key: &str| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(LEAVE_NODE_SECONDS),
        ..Toleration::default()
    };
    PodSpec {
        init_containers: Some(vec![pod::init_container(settings)]),
        containers: vec![container(cluster, settings)],
        volumes: Some(vec![
            empty("run", Some("Memory")),
            empty("binary", None),
            // Only the token: HAProxy passes logins on and needs no password.
            secret(
                "credentials",
                names::credentials_secret(&name),
                &[names::keys::AGENT_TOKEN],
            ),
            secret("tls", names::tls_secret(&name), &["tls.crt", "tls.key"]),
        ]),
        affinity: Some(pod::anti_affinity(&pods)),
        topology_spread_constraints: Some(pod::spread(&pods)),
        tolerations: Some(vec![
            tolerate("node.kubernetes.io/not-ready"),
            tolerate("node.kubernetes.io/unreachable"),
        ]),
        security_context: Some(pod::run_as(HAPROXY_UID)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(DRAIN_SECONDS),
        ..PodSpec::default()
    }
}

fn container(cluster: &MultiMasterCluster, settings: &Settings) -> Container {
    let balancer = &cluster.spec.balancer;
    let image = balancer.image.as_ref().unwrap_or(&settings.default_haproxy_image);
    Container {
        name: names::HAPROXY_CONTAINER.into(),
        image: Some(image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some([paths::BINARY, "balancer"].map(Into::into).to_vec()),
        env: Some(vec![
            field("POD_NAME", "metadata.name"),
            field("POD_IP", "status.podIP"),
            text("LOG_FORMAT", &settings.log_format),
        ]),
        ports: Some(vec![
            port("mysql", names::MYSQL_PORT),
            port("agent-probe", names::AGENT_PROBE_PORT),
            port("agent", names::AGENT_PORT),
            port("peers", names::BALANCER_PEER_PORT),
            port("statistics", names::BALANCER_STATISTICS_PORT),
        ]),
        // No limit: how much HAProxy needs depends on its connections, and too little would end sessions.
        resources: balancer
            .resources
            .clone()
            .or_else(|| Some(pod::small([("cpu", "50m"), ("memory", "64Mi")], &[]))),
        startup_probe: Some(probe("/livez", 1, 5, 120)),
        liveness_probe: Some(probe("/livez", 10, 5, 6)),
        readiness_probe: Some(probe("/readyz", 1, 1, 2)),
        volume_mounts: Some(vec![
            mount("run", paths::RUN, false),
            mount("binary", BINARY_FOLDER, true),
            mount("credentials", paths::CREDENTIALS, true),
            mount("tls", paths::TLS, true),
        ]),
        security_context: Some(pod::locked_down()),
        ..Container::default()
    }
}
