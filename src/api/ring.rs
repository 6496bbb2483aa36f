//! How the ring replicates, notices failures, heals, settles conflicts and is compared.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// What the other members do while a member is unreachable. Unset: Bypass with positioning Gtid, Wait with FilePosition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healing: Option<Healing>,
}

impl Replication {
    /// What the other members do while a member is unreachable.
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

/// What the other members do while a member is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Healing {
    /// They close the ring around it. When it returns, they take it back, with the transactions that only it has.
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
    /// Seconds between two observations of every member.
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
    /// Who decides about a conflict.
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

/// What a member does when it finds itself cut off: from the operator, from the API server and from every other member.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Isolation {
    /// Whether it continues to take writes.
    #[serde(default)]
    pub policy: IsolationPolicy,
    /// With policy Fence: seconds without contact to the operator, the API server or any other member after which it fences itself.
    #[serde(default = "default_isolation_after")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 3600").message("spec.isolation.afterSeconds: 1 to 3600"))]
    pub after_seconds: u16,
    /// With `spec.writes: SingleWriter`: seconds of the writer's lease. The writer fences itself, whatever the policy says, if within this time neither
    /// the operator nor all other members of the ring together confirm that it is the writer. If it cannot be asked, no other member opens earlier.
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

/// Whether a member that is cut off continues to take writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IsolationPolicy {
    /// It does. Its writes are merged when it is back.
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
