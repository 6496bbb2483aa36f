//! The resource `MultiMasterCluster`: what people write.
//!
//! Rules that the schema can check are CEL rules here, so a bad manifest is refused by the API server itself, with a message
//! that names the field. What CEL cannot express is in [`crate::resources::validate`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::balancer::Balancer;
use super::ring::{Comparison, Conflicts, FailureDetection, Isolation, Replication};
use super::status::MultiMasterClusterStatus;
use crate::names;

/// The fewest members that make a ring.
pub const MIN_MEMBERS: u8 = 2;

/// The most members: `auto_increment_increment` is 9 for the life of a cluster, so that values of two members never collide.
pub const MAX_MEMBERS: u8 = 9;

/// A ring of MySQL servers that all take writes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "multimaster.dev",
    version = "v1alpha1",
    kind = "MultiMasterCluster",
    plural = "multimasterclusters",
    singular = "multimastercluster",
    shortname = "mmc",
    category = "all",
    category = "mysql",
    namespaced,
    status = "MultiMasterClusterStatus",
    derive = "PartialEq",
    scale(spec_replicas_path = ".spec.members", status_replicas_path = ".status.members", label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Members", type_ = "string", json_path = ".status.serving", description = "members that serve / members desired"),
    printcolumn(name = "Ring", type_ = "string", json_path = ".status.ring"),
    printcolumn(name = "Max-Lag", type_ = "integer", json_path = ".status.maxLagSeconds", description = "seconds"),
    printcolumn(name = "Conflicts", type_ = "integer", json_path = ".status.conflicts"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Writer", type_ = "string", json_path = ".status.writer.name", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // The name is part of pod host names and of certificate names: <name>-members must be a DNS label.
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name: at most 40 characters, because Services and pods are named after it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: lower case letters, digits and '-', beginning with a letter, because Services are named after it"),
    validation = Rule::new("self.spec.isolation.afterSeconds >= self.spec.failureDetection.periodSeconds").message("spec.isolation.afterSeconds: at least spec.failureDetection.periodSeconds, because the operator asks no more often than that"),
    validation = Rule::new("self.spec.writes != 'SingleWriter' || self.spec.isolation.leaseSeconds >= 2 * self.spec.failureDetection.periodSeconds").message("spec.isolation.leaseSeconds: at least two of spec.failureDetection.periodSeconds, because the operator confirms the writer no more often than that")
)]
// `remote`: how it is read is in `newer`, on top of what is derived here.
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
#[x_kube(
    validation = Rule::new("!has(self.conflicts) || !has(self.conflicts.prefer) || self.conflicts.prefer.all(ordinal, ordinal < self.members)")
        .message("spec.conflicts.prefer: names a member that is not there; ordinals go from 0 to spec.members - 1"),
    validation = Rule::new("!has(self.balancer) || !has(self.balancer.members) || self.balancer.members.all(member, member.ordinal < self.members)")
        .message("spec.balancer.members: names a member that is not there; ordinals go from 0 to spec.members - 1")
)]
pub struct MultiMasterClusterSpec {
    /// Paths, below `spec`, of fields and values that this version does not know. See [`MultiMasterCluster::as_recorded`].
    #[serde(skip)]
    pub unknown: Vec<String>,

    /// Number of MySQL servers in the ring, 2 to 9. If it grows, new members are copies of others, and join without a restart of any member. If it
    /// shrinks, the last members leave, one at a time, once another member has all that they hold; their volumes stay.
    #[serde(default = "default_members")]
    #[x_kube(
        validation = Rule::new("self >= 2 && self <= 9").message("spec.members: a ring has 2 to 9 members")
    )]
    pub members: u8,

    /// Image with mysqld 9.7 (the official `mysql` image, or one with the same layout). Unset: the operator's default.
    #[x_kube(validation = Rule::new("self != ''").message("spec.image: is empty; remove it for the operator's default"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 1024))]
    pub image: Option<String>,

    /// The volume of each member.
    pub storage: Storage,

    /// Compute resources of each member's MySQL container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::limits::resources)]
    pub resources: Option<ResourceRequirements>,

    /// Merged over the pod template of the members (strategic merge: containers and volumes by name). What the ring needs -
    /// the agent's command, its volumes, ports and probes - stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<Value>,

    /// MySQL settings of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql: Option<Mysql>,

    /// How members replicate.
    #[serde(default)]
    pub replication: Replication,

    /// When a member that does not answer is taken for lost.
    #[serde(default)]
    pub failure_detection: FailureDetection,

    /// What is done when members wrote the same row in ways that exclude each other.
    #[serde(default)]
    pub conflicts: Conflicts,

    /// Which members take writes.
    #[serde(default)]
    pub writes: Writes,

    /// A member that is further behind than this many seconds is out of the Service `<name>-reads` until it has caught up. Unset: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 86400").message("spec.maxLagSeconds: 1 to 86400"))]
    pub max_lag_seconds: Option<u32>,

    /// What a member does when it finds itself cut off.
    #[serde(default)]
    pub isolation: Isolation,

    /// When members are compared: equal GTID sets should mean equal rows.
    #[serde(default)]
    pub comparison: Comparison,

    /// How connections of applications are balanced over the members, behind the Service with the name of this resource.
    #[serde(default)]
    pub balancer: Balancer,

    /// A first database and its user, created once after the ring first closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,

    /// The operator watches and reports, and changes nothing, while this is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// The volume of each member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("spec.storage.storageClassName: cannot be changed on a living cluster; its volumes exist. Create a second cluster on the other class")
)]
pub struct Storage {
    /// Size of each member's volume, less than 1Ei. It can grow if the storage class allows expansion. If it does not, set the size back. A size below
    /// that of the volumes changes nothing, and a condition says so: a volume cannot shrink.
    #[x_kube(
        validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('1')) >= 0 && quantity(string(self)).compareTo(quantity('1Ei')) < 0").message("spec.storage.size: is not a size that a volume can have, from one byte to less than 1Ei; write it like 10Gi")
    )]
    #[schemars(extend("maxLength" = 64))]
    pub size: Quantity,
    /// StorageClass of the volumes. Unset: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volumes and the credentials when this resource is deleted.
    #[serde(default)]
    pub reclaim: Reclaim,
}

/// What becomes of volumes and credentials when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reclaim {
    /// They stay; a cluster of the same name finds its data and its passwords again.
    #[default]
    Retain,
    /// They go with the resource.
    Delete,
}

/// MySQL settings of the user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mysql {
    /// Keys and values of the `[mysqld]` section of my.cnf. Settings that the ring owns (server_id, gtid_mode, log_bin,
    /// auto_increment_increment, ...) are refused. An empty value writes the bare key. A change restarts one member at a time.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 100), transform = super::limits::values)]
    pub config: BTreeMap<String, String>,
}

/// Which members take writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Writes {
    /// All members: the Service with the name of this resource leads to every one.
    #[default]
    AllMembers,
    /// One member, which the operator chooses, and another one when it fails. The others replicate and serve reads behind `<name>-reads`.
    SingleWriter,
}

/// A first database and its user.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.name == oldSelf.name && self.user == oldSelf.user")
        .message("spec.database: cannot be changed, because it is created once; create other databases and users with SQL. While status.databaseCreated is not true, remove spec.database first, then set it anew")
)]
pub struct Database {
    /// Name of the database: letters, digits and `_`.
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_]{1,64}$')").message("spec.database.name: 1 to 64 letters, digits or '_'"),
        validation = Rule::new("!(self.lowerAscii() in ['mysql', 'sys', 'information_schema', 'performance_schema', 'multimaster'])").message("spec.database.name: is a schema of the system")
    )]
    #[schemars(extend("maxLength" = 253))]
    pub name: String,
    /// Name of the user that gets all rights on this database and no other; its password is the Secret's `app-password`.
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_]{1,32}$')").message("spec.database.user: 1 to 32 letters, digits or '_'"),
        validation = Rule::new("self != 'root' && !self.startsWith('multimaster') && !self.startsWith('mysql.')").message("spec.database.user: is an account of the system")
    )]
    #[schemars(extend("maxLength" = 253))]
    pub user: String,
}

impl MultiMasterCluster {
    /// The ring left epoch 0: there is data.
    pub fn is_founded(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.epoch > 0)
    }

    /// Whether one member takes the writes of all.
    pub fn has_single_writer(&self) -> bool {
        self.spec.writes == Writes::SingleWriter
    }

    /// Ordinal of the member that takes the writes, where it is one.
    pub fn writer(&self) -> Option<u8> {
        let writer = self.status.as_ref()?.writer.as_ref()?;
        let ordinal = names::ordinal_of(self.metadata.name.as_deref()?, &writer.name);
        ordinal.filter(|_| self.has_single_writer())
    }

    /// Whether the Service for applications leads to HAProxy's pods: they are wanted, and have served.
    pub fn leads_to_haproxy(&self) -> bool {
        let status = self.status.as_ref();
        self.spec.balancer.is_haproxy() && status.is_some_and(|status| status.balancer.is_haproxy())
    }

    /// Ordinals of all members that there are to be: those that are desired, and those that status has not let go yet.
    pub fn ordinals(&self) -> impl Iterator<Item = u8> + use<> {
        let known = self.status.as_ref().map_or(0, |status| status.member_statuses.len());
        0..self.spec.members.max(u8::try_from(known).unwrap_or(MAX_MEMBERS))
    }
}

fn default_members() -> u8 {
    3
}

/// The full pod template schema is larger than all the rest of the CRD; the API server checks it when the StatefulSet is applied.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "maxProperties": 100, "x-kubernetes-preserve-unknown-fields": true })
}
