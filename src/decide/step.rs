//! What one pass wants done.

use std::fmt;

use crate::mysql::gtid::GtidSet;
use crate::wire::balancer::Order;

/// One thing to do. `act` knows how; before a step that cannot be taken back it reads again what justified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Server-side apply of every object that differs from what is wanted.
    Apply,
    /// Put the serving label on the pod.
    Serve {
        /// Which member.
        ordinal: u8,
        /// The pod that was seen.
        pod_uid: String,
    },
    /// Take the serving label off the pod.
    Withdraw {
        /// Which member.
        ordinal: u8,
        /// The pod that was seen.
        pod_uid: String,
        /// For the event.
        why: String,
    },
    /// Put the label for reads on the pod.
    ServeReads {
        /// Which member.
        ordinal: u8,
        /// The pod that was seen.
        pod_uid: String,
    },
    /// Take the label for reads off the pod.
    WithdrawReads {
        /// Which member.
        ordinal: u8,
        /// The pod that was seen.
        pod_uid: String,
        /// For the event.
        why: String,
    },
    /// Tell HAProxy's pods what to do.
    Balance {
        /// Names of those that do something else.
        pods: Vec<String>,
        /// All of it.
        order: Box<Order>,
    },
    /// Put the serving label on an HAProxy pod.
    ServeBalancer {
        /// Name of the pod.
        pod: String,
        /// The pod that was seen.
        pod_uid: String,
    },
    /// Take the serving label off an HAProxy pod.
    WithdrawBalancer {
        /// Name of the pod.
        pod: String,
        /// The pod that was seen.
        pod_uid: String,
        /// For the event.
        why: String,
    },
    /// Declare an empty member to be a founder.
    Found {
        /// Which member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
    },
    /// Rebuild an empty member as a copy of another.
    Clone {
        /// Which member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The member to copy.
        donor: u8,
    },
    /// Let a member that cannot follow the ring any more give up its data, to be made a copy anew.
    GiveUp {
        /// Which member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// What other members have executed; does it hold more, its files are kept on its volume.
        held_elsewhere: GtidSet,
    },
    /// Give a member whose disk went back in time a new server UUID and server_id.
    NewLife {
        /// Which member.
        ordinal: u8,
        /// Its present life.
        server_uuid: String,
        /// What it has lost, and others have.
        lost: GtidSet,
    },
    /// Create the channel of a link where there is none, and start it.
    Attach {
        /// The downstream member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The upstream member.
        upstream: u8,
        /// Where to start.
        start: StartAt,
    },
    /// Start the stored channel of a link.
    Start {
        /// The downstream member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The upstream member.
        upstream: u8,
    },
    /// Remove a channel whose position belongs to another life of the upstream, or which is left over from another ring. Only when all it has
    /// retrieved is executed.
    Detach {
        /// The downstream member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The upstream member.
        upstream: u8,
        /// For the event.
        why: String,
    },
    /// Stop the receiver of a left-over channel; its applier goes on.
    StopReceiver {
        /// The downstream member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The member that it replicated from.
        upstream: u8,
    },
    /// Stop a member that is not in the ring, or is not the one writer, from taking writes.
    Fence {
        /// Which member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
    },
    /// Give a setting of a server its value back, which a conflict step that ended early has changed.
    Restore {
        /// Which member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// Which setting.
        setting: Setting,
    },
    /// Let a fenced member take writes.
    Open {
        /// Which member.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
    },
    /// Read the transaction at which an applier stopped, and record the conflict. Nothing else changes.
    Examine {
        /// The member whose applier stopped.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The upstream of its channel.
        upstream: u8,
        /// The transaction.
        gtid: String,
    },
    /// Get an applier past the transaction at which it stopped.
    Settle {
        /// The member whose applier stopped.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The upstream of its channel.
        upstream: u8,
        /// The transaction.
        gtid: String,
        /// How.
        remedy: Remedy,
        /// The member whose rows win.
        winner: Option<u8>,
    },
    /// Record that a transaction at which an applier stopped is executed by now.
    NoteTaken {
        /// The member whose applier stopped.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// The transaction.
        gtid: String,
        /// The member whose rows win, if that is decided.
        winner: Option<u8>,
    },
    /// Compare the rows of conflicts on all members of the ring. Where they differ, the member re-asserts its own.
    CompareRows {
        /// The member whose rows win.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
        /// Observer and GTID of the conflicts' records.
        conflicts: Vec<(String, String)>,
        /// Who wins is decided.
        reassert: bool,
    },
    /// Create the first database and its user.
    CreateDatabase {
        /// Where.
        ordinal: u8,
        /// Its life.
        server_uuid: String,
    },
    /// Begin to compare the members, beside the passes.
    Compare {
        /// The text of the annotation that asks for it.
        requested: Option<String>,
    },
    /// Let the comparison stop writes on all members for as long as it takes to open snapshots at equal GTID sets.
    StopWrites,
    /// Take the member out of the Service, fence it, delete its pod.
    Restart {
        /// Which member.
        ordinal: u8,
        /// The pod that was seen.
        pod_uid: String,
        /// For the event.
        why: String,
    },
}

/// A setting that conflict steps change for as long as they last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `replica_exec_mode`: STRICT, and IDEMPOTENT for one transaction.
    ReplicaExecMode,
    /// `super_read_only` of a fenced member: ON, and OFF while root writes there.
    SuperReadOnly,
}

/// How an applier gets past a transaction that it cannot apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It executes all of it; what is in the way is overwritten.
    Take,
    /// The same, and what was in the way is re-asserted.
    Keep,
    /// What it creates is there already: an empty transaction takes its place.
    Skip,
}

/// Where a new channel starts to read its upstream's binary logs. There is no "now".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// By GTID set.
    AutoPosition,
    /// At this place.
    Position {
        /// Binary log of the upstream.
        file: String,
        /// Offset in bytes.
        offset: u64,
    },
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AutoPosition => write!(f, "by GTID set"),
            Self::Position { file, offset } => write!(f, "from {file} at {offset}"),
        }
    }
}

/// Offset of the first event of a binary log: behind its magic number.
pub const FIRST_EVENT: u64 = 4;

impl Step {
    /// Changes a member in a way that the next decision has to see first: at most one of these in a pass.
    pub fn is_risky(&self) -> bool {
        !matches!(
            self,
            // A comparison leaves members as it found them.
            Self::Apply
                | Self::Serve { .. }
                | Self::Withdraw { .. }
                | Self::ServeReads { .. }
                | Self::WithdrawReads { .. }
                | Self::Compare { .. }
                | Self::StopWrites
        ) && !self.is_of_a_balancer()
    }

    /// Right for what was seen, and perhaps wrong later: not for an old observation. A label may always be taken off; of HAProxy's
    /// pods the last one's is not, which is looked at again.
    pub fn ages(&self) -> bool {
        !matches!(
            self,
            Self::Apply | Self::Withdraw { .. } | Self::WithdrawReads { .. } | Self::WithdrawBalancer { .. }
        )
    }

    /// It is about an HAProxy pod and not about the ring.
    pub fn is_of_a_balancer(&self) -> bool {
        matches!(
            self,
            Self::Balance { .. } | Self::ServeBalancer { .. } | Self::WithdrawBalancer { .. }
        )
    }

    /// The member that it is about.
    pub fn ordinal(&self) -> Option<u8> {
        match self {
            Self::Apply
            | Self::Balance { .. }
            | Self::ServeBalancer { .. }
            | Self::WithdrawBalancer { .. }
            | Self::Compare { .. }
            | Self::StopWrites => None,
            Self::Serve { ordinal, .. }
            | Self::Withdraw { ordinal, .. }
            | Self::ServeReads { ordinal, .. }
            | Self::WithdrawReads { ordinal, .. }
            | Self::Found { ordinal, .. }
            | Self::Clone { ordinal, .. }
            | Self::NewLife { ordinal, .. }
            | Self::GiveUp { ordinal, .. }
            | Self::Attach { ordinal, .. }
            | Self::Start { ordinal, .. }
            | Self::Detach { ordinal, .. }
            | Self::StopReceiver { ordinal, .. }
            | Self::Fence { ordinal, .. }
            | Self::Restore { ordinal, .. }
            | Self::Open { ordinal, .. }
            | Self::Examine { ordinal, .. }
            | Self::Settle { ordinal, .. }
            | Self::NoteTaken { ordinal, .. }
            | Self::CompareRows { ordinal, .. }
            | Self::CreateDatabase { ordinal, .. }
            | Self::Restart { ordinal, .. } => Some(*ordinal),
        }
    }
}
