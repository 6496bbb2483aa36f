//! The contract between operator and agent: the agent's report and the operator's orders.
//!
//! All calls but the probes go to [`crate::names::AGENT_PORT`] over TLS with the bearer token of the credentials Secret. Every order names the
//! server UUID that it is meant for. If that is not the agent's server, the agent refuses the order (HTTP 409), so an order from an old observation
//! cannot hit a new life.
//!
//! The two ends can have different versions (`docs/ring.md`, "Versions side by side"): fields are only added, each with a default, and a reader
//! ignores fields that it does not know.

use serde::{Deserialize, Serialize};

use crate::api::status::FencedItself;
use crate::api::voters::Voters;
use crate::mysql::gtid::GtidSet;

/// The most bytes of an order. A GTID set may be in it.
pub const LONGEST_ORDER: usize = 16 << 20;
/// Version of this contract. 0: an operator or agent from before there was a number.
pub const VERSION: u32 = 1;

/// `GET`, with [`LeaseRenewal`](super::lease::LeaseRenewal) as query: answers a [`Report`].
pub const PATH_REPORT: &str = "/v1/report";
/// `POST` an [`Order`]: an initialised but empty member becomes a founder of the ring.
pub const PATH_FOUND: &str = "/v1/found";
/// `POST` a [`CloneOrder`]: an empty member is rebuilt from a donor. Answers 202 at once; the report shows how it continues.
pub const PATH_CLONE: &str = "/v1/clone";
/// `POST` an [`Order`]: the member starts a new life (new server UUID and server_id) on its present data.
pub const PATH_NEW_LIFE: &str = "/v1/new-life";
/// `POST` an [`EmptyOrder`]: the member moves its data away and becomes empty, to be re-cloned. Answers 202 at once.
pub const PATH_EMPTY: &str = "/v1/empty";
/// `POST` a [`MarkOrder`]: the volume is this cluster's.
pub const PATH_MARK: &str = "/v1/mark";
/// `GET` with `?address=<IP address of a pod>`: a witness probe. The agent asks the agent at that address at [`PATH_ANSWERS`], and answers a
/// [`WitnessAnswer`].
pub const PATH_WITNESS: &str = "/v1/look";
/// `GET` on the open port: 200 while the agent runs.
pub const PATH_LIVE: &str = "/livez";
/// `GET` on the open port: 200 when mysqld answered a query just now, fenced or not.
pub const PATH_ANSWERS: &str = "/answers";

/// `GET` on the open port: 200 when the member takes writes. An agent of an earlier version ignores the query and answers the same.
pub const PATH_WRITABLE: &str = "/readyz?writes=true";

/// An agent's answer to a request for a witness probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessAnswer {
    /// Whether this agent got an answer from the member's mysqld.
    pub answered: bool,
}

/// Where the contents of a data directory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Initialised by the agent and holding nothing: must be founded or cloned, never opened.
    Empty,
    /// Declared by the operator to be one of the members that the ring began with.
    Founded,
    /// A copy of another member.
    Cloned,
    /// A value of a newer agent. The member may be one that can be opened, or not.
    #[serde(other)]
    Unknown,
}

/// What the agent is doing with mysqld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub enum Phase {
    /// Creating the data directory.
    Initialising,
    /// mysqld was started and does not answer yet (crash recovery, for example).
    Starting,
    /// mysqld answers on its socket.
    Running,
    /// The data directory is being replaced by a copy of the donor.
    Cloning {
        /// Address of the donor.
        donor: String,
    },
    /// mysqld ended and is about to be started again.
    Restarting {
        /// Exit code or signal, and the last lines of its error log.
        reason: String,
    },
    /// The agent is ending mysqld because the pod is to stop.
    Stopping {
        /// Whether the server takes no writes any more.
        #[serde(default)]
        fenced: bool,
    },
    /// A value of a newer agent. mysqld may answer, or not.
    #[serde(other)]
    Unknown,
}

/// What an agent knows of its member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`] of the agent.
    #[serde(default)]
    pub version: u32,
    /// Ordinal of the member.
    pub ordinal: u8,
    /// Where the data came from.
    pub origin: Origin,
    /// server_id of this life: low four bits are ordinal + 1, the rest is random.
    pub server_id: u32,
    /// Server UUID of this life; `None` until mysqld has made one.
    pub server_uuid: Option<String>,
    /// UUIDs of the earlier lives of this ordinal that this volume remembers, oldest first.
    pub former_server_uuids: Vec<String>,
    /// What mysqld is doing.
    pub phase: Phase,
    /// Why the last clone did not succeed; cleared when the next one starts.
    pub last_clone_error: Option<String>,
    /// The clones into this empty member that failed in a row. `None`: none did, or the agent is of a version that does not count them.
    #[serde(default)]
    pub clone_failures: Option<CloneFailures>,
    /// Folders of the volume with kept data directories: the member became empty while they held transactions that no other member had.
    #[serde(default)]
    pub kept: Vec<String>,
    /// The agent has fenced its server, because it was cut off or its lease ended, and the server has not been opened since.
    #[serde(default)]
    pub fenced_itself: Option<FencedItself>,
    /// The volume is full. mysqld waits for room in the middle of a write, with its locks held.
    #[serde(default)]
    pub volume_full: bool,
    /// The agent's clock when it answered: milliseconds since this agent began.
    #[serde(default)]
    pub clock: u64,
    /// The agent's view of the one writer; `None` where all members take writes.
    #[serde(default)]
    pub lease: Option<LeaseReport>,
    /// Whose the volume is, as it says itself; `None`: the agent is of a version from before volumes had marks.
    #[serde(default)]
    pub volume: Option<Volume>,
    /// How full the file system of the data directory is; `None`: the agent has not read it yet, or is of a version that does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<VolumeUsage>,
    /// Links and clones of others may connect to its server's administrative port: their accounts have the privilege.
    #[serde(default)]
    pub has_place_for_links: bool,
}

/// Clones that failed in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloneFailures {
    /// How many failed.
    pub count: u32,
    /// How many of them may have read the donor: the member's data was dropped, or nothing says that it was not.
    pub copied: u32,
    /// The last one was refused before anything was dropped, so it has read nothing.
    pub refused: bool,
    /// Whole seconds since the last one failed, as the agent counts them.
    pub seconds_ago: u64,
    /// Server UUID of the last one's donor; `None`: the operator that ordered it did not name it.
    #[serde(rename = "donorUUID", skip_serializing_if = "Option::is_none")]
    pub donor_uuid: Option<String>,
}

/// How full the file system of the data directory is, as `statvfs` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeUsage {
    /// Its size in bytes: `f_blocks`.
    pub size_bytes: u64,
    /// Bytes in use: `f_blocks - f_bfree`.
    pub used_bytes: u64,
    /// Bytes that mysqld may still use: `f_bavail`. Blocks that are reserved for root are not among them.
    pub available_bytes: u64,
    /// Whole seconds since the agent read these figures. It grows while the storage does not answer.
    pub seconds_ago: u64,
}

impl VolumeUsage {
    /// Per cent in use, as `df` has it: used, of used and available, rounded up. `None` for a file system without a size.
    pub fn used_percent(&self) -> Option<u8> {
        let used = u128::from(self.used_bytes);
        let usable = used + u128::from(self.available_bytes);
        let percent = (usable > 0).then(|| (used * 100).div_ceil(usable))?;
        u8::try_from(percent).ok()
    }
}

/// Whose a volume is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// `None`: it was never marked.
    #[serde(default)]
    pub mark: Option<Mark>,
}

/// The mark on a volume: the one cluster and claim that its data belongs to. A volume that was copied has the mark of the original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Namespace of the cluster.
    pub namespace: String,
    /// Name of the cluster.
    pub name: String,
    /// `metadata.uid` of the MultiMasterCluster.
    pub cluster_uid: String,
    /// `metadata.uid` of the PersistentVolumeClaim.
    pub claim_uid: String,
}

impl Mark {
    /// Of a cluster with this namespace and name. A resource that was made again has another UID.
    pub fn is_of(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }
}

impl Report {
    /// Whether no value in it comes from a newer agent.
    pub fn is_understood(&self) -> bool {
        self.origin != Origin::Unknown && self.phase != Phase::Unknown
    }
}

/// An agent's view of the one writer, and its last confirmation to another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// Ordinal of the writer.
    pub writer: u8,
    /// Whether this member is the writer and its lease runs.
    pub held: bool,
    /// Milliseconds since this agent last confirmed another member as the writer; `None`: it never has.
    #[serde(default, rename = "silentMilliseconds")]
    pub since_confirmed_milliseconds: Option<u64>,
    /// The voters that this agent counts, as the writer; empty: it was named none. `None`: it is of a version that counts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voters: Option<Voters>,
}

/// An order for the server with this UUID and for no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The server UUID that the operator saw when it decided.
    pub server_uuid: String,
}

/// Move the data away: the member cannot follow the ring any more and is to be re-cloned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyOrder {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The server UUID that the operator saw when it decided.
    pub server_uuid: String,
    /// What other members have executed. If the member has executed or retrieved anything beyond this set, its files stay on the volume.
    pub held_elsewhere: GtidSet,
}

/// Put this mark on the volume, in place of one that it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkOrder {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The server UUID that the operator saw when it decided.
    pub server_uuid: String,
    /// The mark.
    pub mark: Mark,
    /// The volume is a copy, so its data gets a new life: another member, or another cluster, may have the server UUID that it holds.
    pub new_life: bool,
}

/// Rebuild the empty member from this donor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloneOrder {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The recipient's server UUID that the operator saw when it decided.
    pub server_uuid: String,
    /// IP address of the donor's pod (the agent resolves no names).
    pub donor_address: String,
    /// Server UUID of the donor. The agent keeps it and reports it, should the clone fail; `None`: the operator is of a version that does not name it.
    #[serde(default, rename = "donorUUID", skip_serializing_if = "Option::is_none")]
    pub donor_uuid: Option<String>,
    /// The donor has a place at its administrative port ([`Report::has_place_for_links`]).
    #[serde(default)]
    pub donor_has_place: bool,
}

#[cfg(test)]
mod tests {
    use super::VolumeUsage;

    fn percent(used_bytes: u64, available_bytes: u64) -> Option<u8> {
        let usage = VolumeUsage {
            size_bytes: u64::MAX,
            used_bytes,
            available_bytes,
            seconds_ago: 0,
        };
        usage.used_percent()
    }

    #[test]
    fn use_is_counted_as_df_counts_it() {
        assert_eq!(percent(0, 1000), Some(0));
        assert_eq!(percent(1, 999), Some(1), "rounded up");
        assert_eq!(percent(850, 150), Some(85));
        assert_eq!(percent(8501, 1499), Some(86));
        // Of 1000 blocks 50 are reserved for root: nothing of the other 950 is left.
        assert_eq!(percent(950, 0), Some(100));
        assert_eq!(percent(0, 0), None, "no size");
        assert_eq!(percent(u64::MAX, u64::MAX), Some(50));
    }
}
