//! How connections are balanced over the members: `spec.balancer`.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How connections of applications are balanced over the members.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.affinity) || !has(self.type) || self.type == 'Service'")
        .message("spec.balancer.affinity: only with type Service; with type HAProxy set spec.balancer.sticky"),
    validation = Rule::new("(has(self.type) && self.type == 'HAProxy') || !(has(self.image) || has(self.replicas) || has(self.resources) || has(self.algorithm) || has(self.sticky) || has(self.maxConnections) || has(self.members) || has(self.checkMilliseconds) || has(self.timeouts))")
        .message("spec.balancer: image, replicas, resources, algorithm, sticky, maxConnections, members, checkMilliseconds and timeouts are settings of HAProxy; set spec.balancer.type to HAProxy, or remove them")
)]
pub struct Balancer {
    /// Who balances. It can be changed at any time; open connections stay where they are.
    #[serde(rename = "type", default)]
    pub type_: BalancerType,
    /// With type Service: whether connections of one client go to the same member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Image with `haproxy` 3.0 or later (the official `haproxy` image, or one with the same layout). Unset: the operator's default.
    #[x_kube(validation = Rule::new("self != ''").message("spec.balancer.image: is empty; remove it for the operator's default"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 1024))]
    pub image: Option<String>,
    /// Number of HAProxy pods, 1 to 5; unset: 2. With 1 no other pod takes over when its node is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 5").message("spec.balancer.replicas: 1 to 5"))]
    pub replicas: Option<u8>,
    /// Compute resources of each HAProxy container. Unset: it requests 50m CPU and 64Mi of memory, without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::limits::resources)]
    pub resources: Option<ResourceRequirements>,
    /// How a member is chosen for a new connection; unset: RoundRobin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// Whether a client (an IP address) stays with its member; unset: no. When the member fails the client gets another one, and stays there
    /// after the first has recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<bool>,
    /// The most connections in all, divided among the HAProxy pods; unset: 500. A client beyond the limit waits for `timeouts.queueSeconds`, then its
    /// connection is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("spec.balancer.maxConnections: 1 to 100000"))]
    pub max_connections: Option<u32>,
    /// Settings of single members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 9))]
    #[x_kube(
        validation = Rule::new("self.all(member, self.exists_one(other, other.ordinal == member.ordinal))").message("spec.balancer.members: names a member twice")
    )]
    pub members: Vec<BalancedMember>,
    /// Milliseconds between two health checks of a member, 200 to 10000; unset: 1000. A member is taken out after two that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 200 && self <= 10000").message("spec.balancer.checkMilliseconds: 200 to 10000"))]
    pub check_milliseconds: Option<u16>,
    /// HAProxy's time-outs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// Who balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BalancerType {
    /// kube-proxy: the Service has the members that serve as its endpoints.
    #[default]
    Service,
    /// HAProxy pods behind the same Service: they notice a frozen member, close the sessions of a failed one, and limit connections.
    HAProxy,
}

/// Whether connections of one client go to the same member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Affinity {
    /// By the client's IP address, until the client has made no connection for three hours or the member is out of the Service.
    ClientIP,
}

/// How a member is chosen for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// In turns, by weight.
    #[default]
    RoundRobin,
    /// The member with the fewest connections, by weight.
    LeastConnections,
    /// By the client's IP address. A client returns to its first member when that member recovers; with `sticky` it stays with the second.
    Source,
}

/// Settings of one member.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BalancedMember {
    /// Its ordinal.
    pub ordinal: u8,
    /// Its share of new connections in relation to the others', 1 to 100; unset: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("spec.balancer.members.weight: 1 to 100"))]
    pub weight: Option<u8>,
    /// Its connections in all, divided among the HAProxy pods; unset: as many as there can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("spec.balancer.members.maxConnections: 1 to 100000"))]
    pub max_connections: Option<u32>,
}

/// HAProxy's time-outs.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// Milliseconds that a connection to a member may take before another member is tried, 50 to 10000.
    #[serde(default = "default_connect")]
    #[x_kube(validation = Rule::new("self >= 50 && self <= 10000").message("spec.balancer.timeouts.connectMilliseconds: 50 to 10000"))]
    pub connect_milliseconds: u16,
    /// Seconds that a client waits for a free connection before it is closed, 1 to 300.
    #[serde(default = "default_queue")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 300").message("spec.balancer.timeouts.queueSeconds: 1 to 300"))]
    pub queue_seconds: u16,
    /// Seconds without a byte after which a connection is closed, 1 to 604800.
    #[serde(default = "default_idle")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 604800").message("spec.balancer.timeouts.idleSeconds: 1 to 604800"))]
    pub idle_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_milliseconds: default_connect(),
            queue_seconds: default_queue(),
            idle_seconds: default_idle(),
        }
    }
}

fn default_connect() -> u16 {
    300
}

fn default_queue() -> u16 {
    2
}

/// As mysqld's own `wait_timeout`: 8 hours.
fn default_idle() -> u32 {
    28_800
}

impl Balancer {
    /// Whether HAProxy balances.
    pub fn is_haproxy(&self) -> bool {
        self.type_ == BalancerType::HAProxy
    }

    /// Number of HAProxy pods.
    pub fn replicas(&self) -> u8 {
        self.replicas.unwrap_or(2)
    }

    /// Connections that one HAProxy pod may have.
    pub fn share(&self) -> u32 {
        self.divided(self.max_connections.unwrap_or(500))
    }

    /// Weight of a member, 1 to 100.
    pub fn weight(&self, ordinal: u8) -> u8 {
        self.member(ordinal).and_then(|member| member.weight).unwrap_or(100)
    }

    /// Connections that one HAProxy pod may have with a member; `None`: no limit of its own.
    pub fn member_share(&self, ordinal: u8) -> Option<u32> {
        let limit = self.member(ordinal)?.max_connections?;
        Some(self.divided(limit))
    }

    fn member(&self, ordinal: u8) -> Option<&BalancedMember> {
        self.members.iter().find(|member| member.ordinal == ordinal)
    }

    /// The share of one pod, rounded down, so that all pods together stay within the limit. A limit below the number of pods becomes 1 for each pod.
    fn divided(&self, limit: u32) -> u32 {
        (limit / u32::from(self.replicas())).max(1)
    }
}
