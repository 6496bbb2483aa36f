//! What one pass wants done.

use std::fmt;

use strum::IntoStaticStr;

use crate::mysql::gtid::GtidSet;
use crate::wire::agent::Mark;
use crate::wire::balancer::Order;

/// One thing to do. `act` knows how; before a step that cannot be taken back it reads again what justified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// About the cluster as a whole.
    Cluster(ClusterAction),
    /// About one of HAProxy's pods.
    Balancer {
        /// Name of the pod.
        pod: String,
        /// The pod that was seen.
        pod_uid: String,
        /// What is done.
        action: BalancerAction,
    },
    /// About the pod of a member.
    Pod {
        /// Which member.
        ordinal: u8,
        /// The pod that was seen.
        pod_uid: String,
        /// What is done.
        action: PodAction,
    },
    /// About the server of a member.
    Member {
        /// Which member.
        ordinal: u8,
        /// Its life: a server with another UUID is left alone.
        server_uuid: String,
        /// What is done.
        action: Action,
    },
}

/// What is done for the cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum ClusterAction {
    /// Server-side apply of every object that differs from what is wanted.
    Apply,
    /// Send HAProxy's pods their order.
    Balance {
        /// Names of the pods that do not follow it yet.
        pods: Vec<String>,
        /// All of it.
        order: Box<Order>,
    },
    /// Begin to compare the members, beside the passes.
    Compare {
        /// The text of the annotation that asks for it.
        requested: Option<String>,
    },
    /// Let the comparison stop writes on all members for as long as it takes to open snapshots at equal GTID sets.
    StopWrites,
}

/// What is done to one of HAProxy's pods.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum BalancerAction {
    /// Put the serving label on it.
    #[strum(serialize = "ServeBalancer")]
    Serve,
    /// Take the serving label off it.
    #[strum(serialize = "WithdrawBalancer")]
    Withdraw {
        /// For the event.
        why: String,
    },
}

/// What is done to the pod of a member.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum PodAction {
    /// Put the serving label on it.
    Serve,
    /// Take the serving label off it.
    Withdraw {
        /// For the event.
        why: String,
    },
    /// Put the label for reads on it.
    ServeReads,
    /// Take the label for reads off it.
    WithdrawReads {
        /// For the event.
        why: String,
    },
    /// Take the member out of the Service, fence it, delete its pod.
    Restart {
        /// For the event.
        why: String,
    },
}

/// What is done to the server of a member, or by its agent.
#[derive(Clone, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Action {
    /// Declare an empty member to be a founder.
    Found,
    /// Rebuild an empty member as a copy of another.
    Clone {
        /// The member to copy.
        donor: u8,
    },
    /// Let a member that cannot follow the ring any more give up its data. It is empty then, and is cloned.
    Reclone {
        /// What other members have executed. If the member holds more, its files are kept on its volume.
        held_elsewhere: GtidSet,
    },
    /// Give a member whose disk went back in time a new server UUID and server_id.
    NewLife {
        /// What it has lost, and others have.
        lost: GtidSet,
    },
    /// Say on a volume whose it is.
    Mark {
        /// The mark.
        mark: Mark,
        /// It is a copy, so its data gets a new life.
        new_life: bool,
    },
    /// Create the channel of a link where there is none, and start it.
    Attach {
        /// The member to replicate from.
        upstream: u8,
        /// Where to start.
        start: StartAt,
    },
    /// Start the stored channel of a link.
    Start {
        /// The member to replicate from.
        upstream: u8,
    },
    /// Remove a channel whose position belongs to another life of the upstream, or which is left over from another ring. Only when all it has
    /// retrieved is executed.
    Detach {
        /// The member that it replicated from.
        upstream: u8,
        /// For the event.
        why: String,
    },
    /// Start the applier of a channel whose receiver stays stopped, because the channel leads to another cluster or to a copy.
    StartApplier {
        /// The member that it seems to replicate from.
        upstream: u8,
    },
    /// Stop the receiver of a left-over channel; its applier goes on.
    StopReceiver {
        /// The member that it replicated from.
        upstream: u8,
    },
    /// Stop it from taking writes.
    Fence,
    /// Give a setting its value back, which a conflict step that ended early has changed.
    Restore {
        /// Which setting.
        setting: Setting,
    },
    /// Let it take writes.
    Open,
    /// Read the transaction at which an applier stopped, and record the conflict. Nothing else changes.
    Examine {
        /// The upstream of the applier's channel.
        upstream: u8,
        /// The transaction.
        gtid: String,
    },
    /// Get an applier past the transaction at which it stopped.
    Settle {
        /// The upstream of the applier's channel.
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
        /// The transaction.
        gtid: String,
        /// The member whose rows win, if that is decided.
        winner: Option<u8>,
    },
    /// Record that a conflict is settled, because a person says so. No rows are compared.
    NoteSettled {
        /// Server UUID of the record's observer.
        observer: String,
        /// The transaction.
        gtid: String,
    },
    /// Compare the rows of conflicts on all members of the ring. Where they differ, this member re-asserts its own: its rows win.
    CompareRows {
        /// Observer and GTID of the conflicts' records.
        conflicts: Vec<(String, String)>,
        /// Who wins is decided.
        reassert: bool,
    },
    /// Create the first database and its user.
    CreateDatabase,
}

/// A setting that conflict steps change for as long as they last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `replica_exec_mode`: STRICT. Operators of earlier versions set IDEMPOTENT for one transaction.
    ReplicaExecMode,
    /// `super_read_only` of a fenced member: ON, and OFF while root writes there.
    SuperReadOnly,
}

/// How an applier gets past a transaction that it cannot apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It executes all of it; what is in the way is overwritten.
    Take,
    /// The same, and the rows that win, which were in the way, are re-asserted.
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
    /// A step about the server of a member.
    pub fn member(ordinal: u8, server_uuid: impl Into<String>, action: Action) -> Self {
        Self::Member {
            ordinal,
            server_uuid: server_uuid.into(),
            action,
        }
    }

    /// A step about the pod of a member.
    pub fn pod(ordinal: u8, pod_uid: impl Into<String>, action: PodAction) -> Self {
        Self::Pod {
            ordinal,
            pod_uid: pod_uid.into(),
            action,
        }
    }

    /// The name of what is done, as metrics show it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(action) => action.into(),
            Self::Balancer { action, .. } => action.into(),
            Self::Pod { action, .. } => action.into(),
            Self::Member { action, .. } => action.into(),
        }
    }

    /// The member that it is about.
    pub fn ordinal(&self) -> Option<u8> {
        match self {
            Self::Cluster(_) | Self::Balancer { .. } => None,
            Self::Pod { ordinal, .. } | Self::Member { ordinal, .. } => Some(*ordinal),
        }
    }

    /// What is done to the server of a member, if it is a step of that kind.
    pub fn on_member(&self) -> Option<&Action> {
        match self {
            Self::Member { action, .. } => Some(action),
            _ => None,
        }
    }

    /// What is done to the pod of a member, if it is a step of that kind.
    pub fn on_pod(&self) -> Option<&PodAction> {
        match self {
            Self::Pod { action, .. } => Some(action),
            _ => None,
        }
    }

    /// Changes a member in a way that the next decision has to see first: at most one of these in a pass.
    pub fn is_risky(&self) -> bool {
        match self {
            // A comparison leaves members as it found them.
            Self::Cluster(_) | Self::Balancer { .. } => false,
            Self::Pod { action, .. } => matches!(action, PodAction::Restart { .. }),
            Self::Member { .. } => true,
        }
    }

    /// Right for what was seen, and perhaps wrong later: not for an old observation. A label may always be taken off a member's pod. Off
    /// HAProxy's pods it may, because `act` looks again whether it is the last one.
    pub fn ages(&self) -> bool {
        !matches!(
            self,
            Self::Cluster(ClusterAction::Apply)
                | Self::Balancer {
                    action: BalancerAction::Withdraw { .. },
                    ..
                }
                | Self::Pod {
                    action: PodAction::Withdraw { .. } | PodAction::WithdrawReads { .. },
                    ..
                }
        )
    }

    /// Whether it examines or settles a conflict. Such a step reads binary logs and rows, and may take long.
    pub fn is_about_conflicts(&self) -> bool {
        let action = self.on_member();
        action.is_some_and(|action| {
            matches!(
                action,
                Action::Examine { .. }
                    | Action::Settle { .. }
                    | Action::NoteTaken { .. }
                    | Action::NoteSettled { .. }
                    | Action::CompareRows { .. }
            )
        })
    }

    /// It is about HAProxy and not about the ring.
    pub fn is_of_a_balancer(&self) -> bool {
        matches!(
            self,
            Self::Balancer { .. } | Self::Cluster(ClusterAction::Balance { .. })
        )
    }
}
