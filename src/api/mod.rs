//! The `MultiMasterCluster` resource: what people write ([`MultiMasterClusterSpec`]) and what they read ([`status`]).
//!
//! Rules that the schema can check are CEL rules here, so a bad manifest is refused by the API server itself, with a message
//! that names the field. What CEL cannot express is in [`crate::decide::validate`].

pub mod as_read;
pub mod balancer;
#[allow(
    dead_code,
    reason = "KubeSchema makes a copy of each struct, of which only the schema is used"
)]
pub mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names;
use balancer::Balancer;
use status::MultiMasterClusterStatus;

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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.conflicts) || !has(self.conflicts.prefer) || self.conflicts.prefer.all(ordinal, ordinal < self.members)")
        .message("spec.conflicts.prefer: names a member that is not there; ordinals go from 0 to spec.members - 1"),
    validation = Rule::new("!has(self.balancer) || !has(self.balancer.members) || self.balancer.members.all(member, member.ordinal < self.members)")
        .message("spec.balancer.members: names a member that is not there; ordinals go from 0 to spec.members - 1")
)]
pub struct MultiMasterClusterSpec {
    /// Number of MySQL servers in the ring, 2 to 9. More: new members are copies of others, and join without a restart of anybody. Fewer: the
    /// last ones leave, one at a time, once all they hold is on another; their volumes stay.
    #[serde(default = "default_members")]
    #[x_kube(
        validation = Rule::new("self >= 2 && self <= 9").message("spec.members: a ring has 2 to 9 members")
    )]
    pub members: u8,

    /// Image with mysqld 9.7 (the official `mysql` image, or one with the same layout). Unset: the operator's default.
    #[x_kube(validation = Rule::new("self != ''").message("spec.image: is empty; remove it for the operator's default"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// The volume of each member.
    pub storage: Storage,

    /// Compute resources of each member's MySQL container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Merged over the pod template of the members (strategic merge: containers and volumes by name). What the ring needs -
    /// the agent's command, its volumes, ports and probes - stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<PodTemplateSpec>,

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

    /// What a member does that finds itself cut off.
    #[serde(default)]
    pub isolation: Isolation,

    /// When members are compared: equal GTID sets should mean equal rows.
    #[serde(default)]
    pub comparison: Comparison,

    /// What stands between applications and the members, behind the Service that is named as this resource.
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
    /// Size of each member's volume. It can grow where the storage class allows expansion; it cannot shrink.
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0").message("spec.storage.size: a volume cannot shrink")
    )]
    pub size: Quantity,
    /// StorageClass of the volumes. Unset: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[schemars(extend("maxProperties" = 100))]
    pub config: BTreeMap<String, String>,
}

/// How members replicate.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.positioning != 'FilePosition' || !has(self.healing) || self.healing == 'Wait'")
        .message("spec.replication.healing: with positioning FilePosition only Wait is possible, because a position means nothing in another server's binary logs")
)]
pub struct Replication {
    /// How a link finds its place in its upstream's binary logs.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.replication.positioning: cannot be changed on a living cluster"))]
    pub positioning: Positioning,
    /// What the others do while a member is away. Unset: Bypass with positioning Gtid, Wait with FilePosition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healing: Option<Healing>,
}

impl Replication {
    /// What the others do while a member is away.
    pub fn healing(&self) -> Healing {
        match (self.positioning, self.healing) {
            (Positioning::FilePosition, _) | (_, Some(Healing::Wait)) => Healing::Wait,
            (Positioning::Gtid, _) => Healing::Bypass,
        }
    }
}

/// How a link finds its place in its upstream's binary logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Positioning {
    /// By GTID set (`SOURCE_AUTO_POSITION=1`).
    #[default]
    Gtid,
    /// By binary log file and offset (`SOURCE_LOG_FILE`, `SOURCE_LOG_POS`), recorded in status.
    FilePosition,
}

/// What the others do while a member is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Healing {
    /// They close the ring around it, and take it back with what only it had when it returns.
    Bypass,
    /// They keep serving and wait for it; its link resumes where it stopped.
    Wait,
}

/// When a member that does not answer is taken for lost.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.bypassAfterSeconds >= 2 * self.periodSeconds")
        .message("spec.failureDetection.bypassAfterSeconds: at least two periods, because one look that failed proves nothing")
)]
pub struct FailureDetection {
    /// Seconds between two looks at every member.
    #[serde(default = "default_period")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10").message("spec.failureDetection.periodSeconds: 1 to 10"))]
    pub period_seconds: u16,
    /// With healing Bypass: the others close the ring around a member that has been absent for this long.
    #[serde(default = "default_bypass_after")]
    #[x_kube(validation = Rule::new("self >= 2 && self <= 3600").message("spec.failureDetection.bypassAfterSeconds: 2 to 3600"))]
    pub bypass_after_seconds: u16,
    /// A member that is bypassed twice within five minutes is held out of the ring for this long.
    #[serde(default = "default_hold_out")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 3600").message("spec.failureDetection.holdOutSeconds: 0 to 3600"))]
    pub hold_out_seconds: u16,
}

impl Default for FailureDetection {
    fn default() -> Self {
        Self {
            period_seconds: default_period(),
            bypass_after_seconds: default_bypass_after(),
            hold_out_seconds: default_hold_out(),
        }
    }
}

fn default_period() -> u16 {
    1
}

fn default_bypass_after() -> u16 {
    5
}

fn default_hold_out() -> u16 {
    60
}

/// What is done about conflicts.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.policy != 'Prefer' || (has(self.prefer) && self.prefer.size() > 0)")
        .message("spec.conflicts.prefer: policy Prefer needs ordinals of members, the preferred one first, for example [0, 1, 2]"),
    validation = Rule::new("!has(self.prefer) || self.prefer.all(ordinal, self.prefer.exists_one(other, other == ordinal))")
        .message("spec.conflicts.prefer: names a member twice")
)]
pub struct Conflicts {
    /// Who decides.
    #[serde(default)]
    pub policy: ConflictPolicy,
    /// With policy Prefer: ordinals of members, the one whose rows win first. Those not named follow by ordinal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 9))]
    pub prefer: Vec<u8>,
}

/// Who decides about a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConflictPolicy {
    /// A person, by the annotation `multimaster.dev/settle`. Until then the link waits.
    #[default]
    Halt,
    /// The rows of the member that comes first in `prefer` win. What loses is kept in `multimaster.conflicts`.
    Prefer,
}

/// Which members take writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Writes {
    /// All: the Service that is named as this resource leads to every one.
    #[default]
    AllMembers,
    /// One, which the operator chooses, and another one once that fails. The others replicate and serve reads behind `<name>-reads`.
    SingleWriter,
}

/// What a member does that finds itself cut off: from the operator, from the API server and from every other member.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Isolation {
    /// Whether it goes on taking writes.
    #[serde(default)]
    pub policy: IsolationPolicy,
    /// With policy Fence: seconds for which it has to find nobody before it fences itself.
    #[serde(default = "default_isolation_after")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3600").message("spec.isolation.afterSeconds: 1 to 3600"))]
    pub after_seconds: u16,
    /// With `spec.writes: SingleWriter`: seconds after which the writer fences itself, whatever the policy says, unless the operator, or else all
    /// other members of the ring, have confirmed that it is the writer. Another one does not open earlier where this one cannot be asked.
    #[serde(default = "default_lease")]
    #[x_kube(validation = Rule::new("self >= 2 && self <= 60").message("spec.isolation.leaseSeconds: 2 to 60"))]
    pub lease_seconds: u16,
}

impl Default for Isolation {
    fn default() -> Self {
        Self {
            policy: IsolationPolicy::default(),
            after_seconds: default_isolation_after(),
            lease_seconds: default_lease(),
        }
    }
}

/// Whether a member that is cut off goes on taking writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IsolationPolicy {
    /// It does; what it took is merged when it is back.
    #[default]
    KeepWriting,
    /// Its agent fences it. The operator opens it again when it is back.
    Fence,
}

fn default_isolation_after() -> u16 {
    10
}

fn default_lease() -> u16 {
    3
}

/// When members are compared.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Comparison {
    /// Hours between two comparisons of all definitions, accounts and rows, 0 to 8760; 0: only when the annotation `multimaster.dev/compare` asks.
    #[serde(default = "default_comparison_period")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 8760").message("spec.comparison.periodHours: 0 to 8760; 0 compares only when the annotation multimaster.dev/compare asks"))]
    pub period_hours: u16,
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            period_hours: default_comparison_period(),
        }
    }
}

fn default_comparison_period() -> u16 {
    24
}

/// A first database and its user.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Database {
    /// Name of the database: letters, digits and `_`.
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_]{1,64}$')").message("spec.database.name: 1 to 64 letters, digits or '_'"),
        validation = Rule::new("!(self.lowerAscii() in ['mysql', 'sys', 'information_schema', 'performance_schema', 'multimaster'])").message("spec.database.name: is a schema of the system")
    )]
    pub name: String,
    /// Name of the user that gets all rights on this database and no other; its password is the Secret's `app-password`.
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_]{1,32}$')").message("spec.database.user: 1 to 32 letters, digits or '_'"),
        validation = Rule::new("self != 'root' && !self.startsWith('multimaster') && !self.startsWith('mysql.')").message("spec.database.user: is an account of the system")
    )]
    pub user: String,
}

impl MultiMasterCluster {
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

    /// Ordinals of all members that there are to be: those that are desired, and those that status has not let go yet.
    pub fn ordinals(&self) -> impl Iterator<Item = u8> + use<> {
        let known = self.status.as_ref().map_or(0, |status| status.member_statuses.len());
        0..self.spec.members.max(u8::try_from(known).unwrap_or(MAX_MEMBERS))
    }
}

/// The CustomResourceDefinition as it is installed.
///
/// # Errors
/// When it cannot be expressed as JSON, which would be a bug.
pub fn crd() -> serde_json::Result<CustomResourceDefinition> {
    let mut crd = serde_json::to_value(MultiMasterCluster::crd())?;
    drop_unsigned_formats(&mut crd);
    serde_json::from_value(crd)
}

/// schemars writes Rust's `uint8` and the like as formats; the API server warns of those that it does not know at every apply.
fn drop_unsigned_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let unsigned = |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint"));
            if map.get("format").is_some_and(unsigned) {
                map.remove("format");
            }
            map.values_mut().for_each(drop_unsigned_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_unsigned_formats),
        _ => {}
    }
}

fn default_members() -> u8 {
    3
}

/// The full pod template schema is larger than all the rest of the CRD; the API server checks it when the StatefulSet is applied.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
