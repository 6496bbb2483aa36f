//! What is done to the model and to mysqld alike.

/// Members are named by their ordinals; in a pair the member comes first, then its upstream or donor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The agent takes its empty directory for one that the ring began with.
    Found(u8),
    Clone(u8, u8),
    NewLife(u8),
    Reclone(u8),
    Open(u8),
    Fence(u8),
    /// The channel is made and started, if there is none.
    Attach(u8, u8),
    Start(u8, u8),
    StopReceiver(u8, u8),
    /// The appliers of all channels, by hand.
    StopAppliers(u8),
    /// `CHANGE REPLICATION SOURCE` on a channel that is there.
    PointAnew(u8, u8),
    /// The channel is removed, if all that it has retrieved is executed.
    Detach(u8, u8),
    /// A new row, its key by auto-increment.
    Insert(u8),
    /// The row of this key is inserted, or changed where it is there.
    Put(u8, u32),
    /// All binary logs but the last, empty one.
    Purge(u8),
    /// kill -9 of mysqld; the agent starts it again.
    Kill(u8),
    /// Agent and mysqld end in order.
    Down(u8),
    Up(u8),
    /// A copy of the volume of a member that is down.
    Copy(u8),
    /// The volume of a member that is down is replaced by the copy.
    SetBack(u8),
    /// A member that is down gets a new server UUID, and keeps its server_id: what the agent never does.
    NewUuidOnly(u8),
}
