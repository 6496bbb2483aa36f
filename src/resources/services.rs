//! The Services: for applications, for their reads, for the members' names.

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::labels;
use super::object::owned;
use crate::api::MultiMasterCluster;
use crate::api::balancer::Affinity;
use crate::names;

/// Seconds without a new connection after which a client may get another member. It is Kubernetes' own default.
const AFFINITY_SECONDS: i32 = 10_800;

/// Service `<cluster>` for applications. It leads to the members that serve, or to HAProxy's pods once these serve.
pub fn service(cluster: &MultiMasterCluster) -> Service {
    let selector = match cluster.leads_to_haproxy() {
        true => labels::balancer_selector(cluster),
        false => labels::selector(cluster),
    };
    let affinity = cluster
        .spec
        .balancer
        .affinity
        .map(|Affinity::ClientIP| SessionAffinityConfig {
            client_ip: Some(ClientIPConfig {
                timeout_seconds: Some(AFFINITY_SECONDS),
            }),
        });
    Service {
        metadata: owned(cluster, cluster.name_any()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(labels::serving(selector)),
            ports: Some(vec![port("mysql", names::MYSQL_PORT)]),
            session_affinity: Some(if affinity.is_some() { "ClientIP" } else { "None" }.into()),
            session_affinity_config: affinity,
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Service `<cluster>-reads`: the members that serve reads, and are not too far behind.
pub fn reads_service(cluster: &MultiMasterCluster) -> Service {
    Service {
        metadata: owned(cluster, names::reads_service(&cluster.name_any())),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(labels::reads(cluster)),
            ports: Some(vec![port("mysql", names::MYSQL_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Service `<cluster>-members`: a DNS name for each member, ready or not. Reason: a member that is not ready still replicates, and the operator still
/// connects to it.
pub fn members_service(cluster: &MultiMasterCluster) -> Service {
    Service {
        metadata: owned(cluster, names::members_service(&cluster.name_any())),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::selector(cluster)),
            ports: Some(vec![
                port("mysql", names::MYSQL_PORT),
                port("mysql-admin", names::MYSQL_ADMIN_PORT),
                port("agent-probe", names::AGENT_PROBE_PORT),
                port("agent", names::AGENT_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number.into(),
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(number.into())),
        ..ServicePort::default()
    }
}
