//! Types of conditions.

/// Every desired member is in the closed ring and serves.
pub const READY: &str = "Ready";
/// At least one member takes writes through the balancer.
pub const AVAILABLE: &str = "Available";
/// A write at any member arrives at every other.
pub const RING_CLOSED: &str = "RingClosed";
/// Any desired member is absent.
pub const DEGRADED: &str = "Degraded";
/// No applier stands at a transaction that it cannot apply, and all that stood there are settled.
pub const CONFLICT_FREE: &str = "ConflictFree";
/// Equal GTID sets mean equal rows, definitions and accounts: Unknown until they were compared.
pub const CONVERGED: &str = "Converged";
/// The operator is changing something.
pub const PROGRESSING: &str = "Progressing";
/// Something that the operator is to do stays undone until a person acts.
pub const STALLED: &str = "Stalled";
/// `spec.paused`.
pub const PAUSED: &str = "Paused";
/// No volume of a member is nearly full.
pub const VOLUMES_HAVE_ROOM: &str = "VolumesHaveRoom";
