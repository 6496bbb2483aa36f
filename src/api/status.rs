//! What people read: phases, member states, conditions and their reasons. `docs/ring.md` says what each value means.

pub mod conditions;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::as_read::AsRead;
use super::balancer::BalancerType;
use super::voters::Voters;

/// The observed state of a ring. Never better than the truth: what cannot be seen is `Unknown` or absent.
// `remote`: how it is read and written is in `as_read`, on top of what is derived here.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct MultiMasterClusterStatus {
    /// What this was read from: another version's fields are in it.
    #[serde(skip)]
    pub as_read: AsRead,
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people; programs read conditions.
    #[serde(default)]
    pub phase: Phase,
    /// Members that have a pod.
    #[serde(default)]
    pub members: u8,
    /// Members that are in the closed ring and serve, writes or reads, behind the Services.
    #[serde(default)]
    pub ready_members: u8,
    /// `serving/desired`, for the printer column.
    #[serde(default)]
    pub serving: String,
    /// Label selector of the members' pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Grows with every change of ring membership; 0 until the ring was founded.
    #[serde(default)]
    pub epoch: i64,
    /// The links that were seen, `0→1→2→0`; a link that does not replicate is `✗`. An observation, never an input.
    #[serde(default)]
    pub ring: String,
    /// The largest lag of a link in seconds; absent when no link's lag can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag_seconds: Option<i64>,
    /// Transactions that an applier could not apply, and which are not settled.
    #[serde(default)]
    pub conflicts: u32,
    /// True once the first database and its user were created.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub database_created: bool,
    /// The member that takes the writes, with `spec.writes: SingleWriter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterStatus>,
    /// What stands behind the Service.
    #[serde(default)]
    pub balancer: BalancerStatus,
    /// The last comparison of the members that came to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonStatus>,
    /// When positions and GTID sets below were last recorded. They are not recorded more often than every few seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Time>,
    /// One entry for each member, by ordinal.
    #[serde(default)]
    #[schemars(extend("maxItems" = 100))]
    pub member_statuses: Vec<MemberStatus>,
    /// `metav1.Condition`s; see [`conditions`].
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(extend("maxItems" = 100))]
    pub conditions: Vec<Condition>,
}

/// The one member that takes writes. It may not be open yet: see its entry in `memberStatuses`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterStatus {
    /// Name of the member.
    pub name: String,
    /// Since when it is the one.
    pub since: Time,
    /// Why it was chosen.
    #[serde(default)]
    pub why: String,
}

/// What stands behind the Service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BalancerStatus {
    /// What the Service selects: after a change of `spec.balancer.type` to HAProxy the members, until an HAProxy pod serves.
    #[serde(rename = "type", default)]
    pub type_: BalancerType,
    /// HAProxy pods in the Service.
    #[serde(default)]
    pub serving: u8,
    /// Why it is not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl BalancerStatus {
    /// Whether HAProxy is behind the Service.
    pub fn is_haproxy(&self) -> bool {
        self.type_ == BalancerType::HAProxy
    }
}

/// A comparison of all members that came to an end.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonStatus {
    /// The text of the annotation `multimaster.dev/compare` that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Tables whose rows were compared.
    #[serde(default)]
    pub tables: u32,
    /// Chunks of rows that were compared.
    #[serde(default)]
    pub chunks: u64,
    /// Rows that were compared.
    #[serde(default)]
    pub rows: u64,
    /// For how long all members refused writes, in milliseconds; 0 unless something differed while writes went on.
    #[serde(default)]
    pub writes_stopped_milliseconds: u64,
    /// Definitions, accounts and chunks of rows that differ at equal GTID sets.
    #[serde(default)]
    pub differing: u32,
    /// The first of these, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 100))]
    pub differences: Vec<Difference>,
    /// Objects that were not compared, because their text or one of their rows is too long; the first 20 of them, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 100))]
    pub not_compared: Vec<String>,
}

/// Something that is not the same on all members although they have executed the same.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// What it is: `table shop.orders`, `account 'bob'@'%'`.
    pub object: String,
    /// The rows that differ are among those with these primary keys; absent: the definition differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// Members that agree, between bars: `demo-0,demo-2 | demo-1`.
    pub members: String,
}

/// One word for the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing was observed yet.
    #[default]
    Pending,
    /// The ring is being founded.
    Creating,
    /// Every member serves in the closed ring, behind the Services.
    Running,
    /// Some members serve, not all, or the ring is open.
    Degraded,
    /// Members are restarted one at a time for a new image or configuration.
    Updating,
    /// No member takes writes through the Service.
    Unavailable,
    /// `spec.paused` is true.
    Paused,
    /// The spec cannot be carried out; the Ready condition names the field.
    Invalid,
}

/// One member as last observed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Name of the member and of its pod.
    pub name: String,
    /// What the member is doing.
    #[serde(default)]
    pub state: MemberState,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The others have closed the ring around it. It never serves; when it is back it is fenced, catches up, and is re-inserted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypassed: bool,
    /// When it was last bypassed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypassed_at: Option<Time>,
    /// It was bypassed too often and is not re-inserted before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_until: Option<Time>,
    /// A copy into its empty volume failed, and the next one does not begin before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_clone_at: Option<Time>,
    /// Since when it cannot take part in the ring: no pod, mysqld down, failed, empty, foreign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<Time>,
    /// Why, where the state alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its pod has the label of the Service for reads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads: bool,
    /// server_id of the present life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<u32>,
    /// Server UUID of the present life.
    #[serde(default, rename = "serverUUID", skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<String>,
    /// Server UUIDs of earlier lives of this ordinal, oldest first.
    #[serde(default, rename = "formerServerUUIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 40000))]
    pub former_server_uuids: Vec<String>,
    /// Whether it takes writes (`super_read_only` is off); absent when it cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<bool>,
    /// `gtid_executed` as last recorded. It has at most 16 KiB; see `gtidExecutedOmitted`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gtid_executed: String,
    /// Server UUIDs whose transactions `gtidExecuted` leaves out, because it would be too long. `*`: those of every UUID that it does not name and
    /// that is no member's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 1000))]
    pub gtid_executed_omitted: Vec<String>,
    /// What a returned member must hold before it is opened: its upstream's `gtid_executed` at contact. If that is longer than 16 KiB: what of it
    /// the member lacked then, or a text that begins with `omitted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_to: Option<String>,
    /// Its own agent fenced it, because it was cut off; absent once it is open again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced_itself: Option<FencedItself>,
    /// Ordinals of the members whose agents may confirm it as the one writer while no operator does; two sets while its agent may not have the
    /// second yet. None once it is seen fenced and another member is the writer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 2))]
    pub voters: Vec<Voters>,
    /// Folders of its volume with data that it gave up while no other member had all of it. They are for people; nothing ever removes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 40000))]
    pub kept: Vec<String>,
    /// How full its volume is; absent when its agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStatus>,
    /// The link whose downstream this member is, then channels that are left over from another ring.
    #[serde(default)]
    #[schemars(extend("maxItems" = 1000))]
    pub links: Vec<LinkStatus>,
}

/// How full a member's volume is: the whole file system that the data directory is on, with everything else that is on it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Size of the file system in bytes. A change of less than 1 % is not shown.
    #[serde(default)]
    pub size_bytes: i64,
    /// Use in per cent, in steps of 5. It falls only once the use is more than 5 points lower, so it is off by 5 points at most.
    #[serde(default)]
    pub used_percent: u8,
}

/// A member was cut off, and its agent fenced it (`spec.isolation`): from the operator, the API server and every other member; or, as the one
/// writer, from the operator and some other member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FencedItself {
    /// Since when it was cut off.
    pub cut_off_since: Time,
    /// When it was fenced.
    pub at: Time,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// It has no running pod.
    #[default]
    Pending,
    /// Its pod runs; mysqld does not answer yet.
    Starting,
    /// Its data directory holds nothing; it waits to be founded or cloned.
    Empty,
    /// It is being rebuilt as a copy of another member.
    Cloning,
    /// It is fenced; its history is checked and its links are re-attached.
    Returning,
    /// It is fenced and applies what it missed.
    CatchingUp,
    /// It takes writes and is not in the Service yet.
    Open,
    /// It takes writes and is in the Service.
    Serving,
    /// Its link's applier stopped at a transaction that it cannot apply. It takes writes as before, unless another one is the writer.
    Halted,
    /// It takes no writes, because another member is the writer: it replicates and serves reads.
    Reading,
    /// The operator does not reach it, a second witness is wanting or it is the last one in the Service.
    Suspect,
    /// The operator does not reach it and a second witness agrees; it is out of the Service.
    Failed,
    /// It is fenced and may not be opened; the message says why.
    Quarantined,
    /// It is to be restarted for a new image or configuration: it is out of the Service, and its clients finish.
    Draining,
    /// `spec.members` was lowered: it is drained and leaves the ring.
    Leaving,
    /// The annotation `multimaster.dev/fence` names it: it replicates and takes no writes.
    Fenced,
}

impl MemberState {
    /// It does what it is there for: it takes writes, or serves reads because another member takes the writes.
    pub fn serves(self) -> bool {
        matches!(self, Self::Serving | Self::Reading)
    }
}

/// downstream ← upstream, as seen by the downstream.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// Name of the upstream member.
    pub upstream: String,
    /// The receiver is connected.
    #[serde(default)]
    pub io_running: bool,
    /// The applier runs.
    #[serde(default)]
    pub sql_running: bool,
    /// `Seconds_Behind_Source`; absent when MySQL does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// The last error of receiver or applier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How far the applier is in the upstream's binary logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The transaction that the applier could not apply for a reason that passes, until it is executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// An applier stopped for a reason that passes, a row lock for example. The operator starts it again.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// GTID of the transaction.
    pub transaction: String,
    /// How often the operator has decided to start the applier again. The pause before the next attempt doubles with each: 1 s at first, 60 s at most.
    #[serde(default)]
    pub attempts: u32,
    /// MySQL's error.
    #[serde(default)]
    pub error: String,
}

/// A place in the binary logs of one server. It means nothing for a server with another UUID.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// `Relay_Source_Log_File`.
    pub file: String,
    /// `Exec_Source_Log_Pos`, in bytes.
    pub offset: u64,
    /// UUID of the server whose log this is.
    #[serde(rename = "sourceUUID")]
    pub source_uuid: String,
}
