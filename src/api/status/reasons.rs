//! Reasons of conditions.

/// Not looked at yet.
pub const NOT_OBSERVED: &str = "NotObserved";
/// Every member serves and every link replicates.
pub const ALL_MEMBERS_SERVE: &str = "AllMembersServe";
/// Some member does not serve.
pub const MEMBERS_ABSENT: &str = "MembersAbsent";
/// The ring is being founded.
pub const FOUNDING: &str = "Founding";
/// A field of the spec cannot be carried out.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// The credentials Secret lacks a key.
pub const CREDENTIALS_INCOMPLETE: &str = "CredentialsIncomplete";
/// `spec.storage.storageClassName` does not exist.
pub const STORAGE_CLASS_MISSING: &str = "StorageClassMissing";
/// The image of a member cannot be pulled.
pub const IMAGE_UNAVAILABLE: &str = "ImageUnavailable";
/// mysqld of a member does not start.
pub const MYSQLD_NOT_STARTING: &str = "MysqldNotStarting";
/// HAProxy is to balance, and not every pod of it serves.
pub const BALANCER_NOT_SERVING: &str = "BalancerNotServing";
/// The API server refused an object of the cluster.
pub const APPLY_FAILED: &str = "ApplyFailed";
/// A field of status that decisions rest on cannot be read.
pub const STATUS_UNREADABLE: &str = "StatusUnreadable";
/// At least one member serves.
pub const MEMBERS_SERVE: &str = "MembersServe";
/// No member serves.
pub const NO_MEMBER_SERVES: &str = "NoMemberServes";
/// No member can be reached, so nothing is known and nothing is changed.
pub const NO_MEMBER_REACHABLE: &str = "NoMemberReachable";
/// Every link replicates.
pub const ALL_LINKS_REPLICATE: &str = "AllLinksReplicate";
/// Some link does not replicate.
pub const LINKS_BROKEN: &str = "LinksBroken";
/// The place of a link in its upstream's binary logs is gone.
pub const POSITION_LOST: &str = "PositionLost";
/// There is no conflict that is not settled.
pub const NO_CONFLICTS: &str = "NoConflicts";
/// An applier stopped at a transaction that it cannot apply.
pub const APPLIER_STOPPED: &str = "ApplierStopped";
/// Conflicts are being settled.
pub const SETTLING: &str = "Settling";
/// The records of a member cannot be read, so nobody knows whether it has conflicts.
pub const CONFLICTS_UNREADABLE: &str = "ConflictsUnreadable";
/// Members were not compared yet.
pub const NOT_COMPARED: &str = "NotCompared";
/// A comparison is due and cannot be made.
pub const CANNOT_COMPARE: &str = "CannotCompare";
/// The last comparison found no difference.
pub const EQUAL: &str = "Equal";
/// The last comparison found differences at equal GTID sets.
pub const DIVERGED: &str = "Diverged";
/// Nothing to do.
pub const STABLE: &str = "Stable";
/// A member is brought back.
pub const REATTACHING: &str = "Reattaching";
/// Members join or leave, because `spec.members` was changed.
pub const SCALING: &str = "Scaling";
/// A member that is to leave may hold writes that nobody else has, and cannot be asked.
pub const LEAVING_BLOCKED: &str = "LeavingBlocked";
/// An annotation on the resource cannot be followed.
pub const INVALID_ANNOTATION: &str = "InvalidAnnotation";
/// Members are restarted one at a time.
pub const ROLLING_RESTART: &str = "RollingRestart";
/// Every volume of a ring that once held data is empty.
pub const DATA_LOST: &str = "DataLost";
/// `spec.paused` is true.
pub const PAUSED: &str = "Paused";
/// `spec.paused` is not true.
pub const NOT_PAUSED: &str = "NotPaused";
