//! Reasons of conditions and of events: the words in CamelCase that people search for and programs compare. One that has been released keeps its
//! name.

use strum::{AsRefStr, EnumIter};

/// Reasons of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, EnumIter)]
pub enum Reason {
    /// Not looked at yet.
    NotObserved,
    /// Every member serves, behind its Services, and every link replicates.
    AllMembersServe,
    /// Some member does not serve, or is behind no Service.
    MembersAbsent,
    /// The ring is being founded.
    Founding,
    /// A field of the spec cannot be carried out.
    InvalidSpec,
    /// The credentials Secret lacks a key.
    CredentialsIncomplete,
    /// `spec.storage.storageClassName` does not exist.
    StorageClassMissing,
    /// The volumes cannot have the size of the spec: it is refused, or they are larger.
    VolumeSizeRefused,
    /// The image of a member cannot be pulled.
    ImageUnavailable,
    /// mysqld of a member does not start.
    MysqldNotStarting,
    /// HAProxy is to balance, and not every pod of it serves.
    BalancerNotServing,
    /// The API server refused an object of the cluster.
    ApplyFailed,
    /// An object that the cluster needs exists, and is not the cluster's.
    ObjectNotOurs,
    /// A field of status that decisions rest on cannot be read.
    StatusUnreadable,
    /// The spec has fields or values that this version of the operator does not know.
    NewerSpec,
    /// A pass panicked or did not end, so nothing is known.
    PassBrokenOff,
    /// At least one member takes writes through the Service.
    MembersServe,
    /// No member takes writes through the Service.
    NoMemberServes,
    /// No member can be reached, so nothing is known and nothing is changed.
    NoMemberReachable,
    /// Every link replicates.
    AllLinksReplicate,
    /// Some link does not replicate.
    LinksBroken,
    /// The place of a link in its upstream's binary logs is gone.
    PositionLost,
    /// There is no conflict that is not settled.
    NoConflicts,
    /// An applier stopped at a transaction that it cannot apply.
    ApplierStopped,
    /// Conflicts are being settled.
    Settling,
    /// The records of a member cannot be read, so it cannot be known whether it has conflicts.
    ConflictsUnreadable,
    /// Members were not compared yet.
    NotCompared,
    /// A comparison is due and cannot be made.
    CannotCompare,
    /// The last comparison found no difference.
    Equal,
    /// The last comparison found differences at equal GTID sets.
    Diverged,
    /// Nothing to do.
    Stable,
    /// A member is brought back.
    Reattaching,
    /// Members join or leave, because `spec.members` was changed.
    Scaling,
    /// A member that is to leave may hold writes that no other member has, and cannot be asked.
    LeavingBlocked,
    /// Copies into an empty member failed several times in a row.
    CloneFailing,
    /// An annotation on the resource cannot be followed.
    InvalidAnnotation,
    /// Members are restarted one at a time.
    RollingRestart,
    /// The volume of a member is a copy of another cluster's, or of an earlier one of this name.
    CopiedVolume,
    /// The certificate in the Secret of a ring that is being founded is for another cluster's members.
    CopiedSecret,
    /// Every volume of a ring that once held data is empty.
    DataLost,
    /// Nothing that the operator is to do waits for a person.
    NotStalled,
    /// `spec.paused` is true.
    Paused,
    /// `spec.paused` is not true.
    NotPaused,
    /// No volume is nearly full.
    RoomLeft,
    /// The volume of a member is 85 % full or more.
    VolumeNearlyFull,
    /// No agent says how full its volume is.
    VolumesNotMeasured,
}

/// Reasons of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsRefStr, EnumIter)]
pub enum EventReason {
    /// A pass panicked or did not end.
    PassBrokenOff,
    /// The API server does not take the status, or does not answer.
    StatusNotWritten,
    /// A Secret that an earlier version made may be pruned by Argo CD.
    SecretMayBePruned,
    /// The ring left epoch 0.
    RingFounded,
    /// Every link replicates.
    RingClosed,
    /// Some link does not replicate.
    RingOpen,
    /// Condition Ready became True.
    Ready,
    /// No member takes writes through the Service.
    Unavailable,
    /// An applier stopped at a transaction that it cannot apply.
    ConflictFound,
    /// The ring was closed around a member.
    MemberBypassed,
    /// A new member is in the ring.
    MemberJoined,
    /// A bypassed member is in the ring again.
    MemberReinserted,
    /// A member does not answer, and a second witness agrees.
    MemberFailed,
    /// A member does not answer the operator.
    MemberSuspect,
    /// The applier of a member stopped at a conflict.
    MemberHalted,
    /// The volume of a member has a history that this cluster has never seen.
    MemberQuarantined,
    /// A member that served has no pod any more, or its mysqld is down.
    MemberLost,
    /// A member is back, fenced, and applies what it missed.
    MemberCatchingUp,
    /// A member can serve reads.
    MemberReading,
    /// A member serves.
    MemberServing,
    /// A member that was cut off fenced itself.
    MemberFencedItself,
    /// Another member is to take the writes.
    WriterChosen,
    /// A member kept files with transactions that no other member has.
    FilesKept,
    /// An annotation on the resource cannot be followed.
    InvalidAnnotation,
    /// A comparison that a person asked for found no difference.
    Compared,
    /// A comparison found differences at equal GTID sets.
    Diverged,
    /// A member came into the Service.
    Serving,
    /// A member was taken out of the Service.
    Withdrawn,
    /// A member came into the Service for reads.
    ServingReads,
    /// A member was taken out of the Service for reads.
    ReadsWithdrawn,
    /// An HAProxy pod came into the Service.
    BalancerServing,
    /// An HAProxy pod was taken out of the Service.
    BalancerWithdrawn,
    /// A member is a founder of the ring.
    Founded,
    /// A member with an empty volume is rebuilt as a copy of another.
    Cloning,
    /// A member whose disk went back in time gets a new server UUID.
    NewLife,
    /// The volume of a member was a copy, and is this cluster's now.
    VolumeAdopted,
    /// A member that needs what every other member has purged is re-cloned.
    Recloning,
    /// A channel was created.
    LinkAttached,
    /// A channel was started again.
    LinkStarted,
    /// A channel was removed.
    LinkDetached,
    /// The receiver of a channel of an earlier ring was stopped.
    ReceiverStopped,
    /// A member was stopped from taking writes.
    Fenced,
    /// A setting that a conflict step had left has its value back.
    SettingRestored,
    /// A member takes writes.
    Opened,
    /// A conflict is in `multimaster.conflicts`.
    ConflictRecorded,
    /// A transaction that creates what is there already was skipped.
    ConflictSkipped,
    /// A member applied the transaction at which it stopped.
    ConflictTaken,
    /// A person said that a conflict is settled.
    ConflictSettled,
    /// The first database and its user were created.
    DatabaseCreated,
    /// A member is restarted.
    Restarting,
    /// The volume of a member is 85 % full or more.
    VolumeNearlyFull,
}
