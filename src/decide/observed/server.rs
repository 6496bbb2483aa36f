//! What a server said over SQL.

use crate::decide::conflicts::record::{Record, Unread};
use crate::mysql::gtid::GtidSet;
use crate::names;

/// What a server said over SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// `server_uuid`.
    pub uuid: String,
    /// `server_id`.
    pub server_id: u32,
    /// It takes no writes from clients: `read_only`, which `super_read_only` implies.
    pub super_read_only: bool,
    /// `read_only` is on and `super_read_only` is off: clients may not write, and administrators may.
    pub half_fenced: bool,
    /// `replica_exec_mode` is IDEMPOTENT: appliers overwrite what is in the way of their rows.
    pub idempotent: bool,
    /// `gtid_executed`.
    pub executed: GtidSet,
    /// `gtid_purged`.
    pub purged: GtidSet,
    /// Connections of anybody but the product itself.
    pub client_sessions: u64,
    /// Replication channels.
    pub channels: Vec<Channel>,
    /// Names of the binary logs, oldest first.
    pub binary_logs: Vec<String>,
    /// What `multimaster.conflicts` holds here, of this member and of others: what is open, and what was settled within a day.
    pub conflicts: Vec<Record>,
    /// What it holds beside that.
    pub unread: Unread,
}

/// State of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receiver {
    /// Stopped.
    #[default]
    Off,
    /// Trying to connect.
    Connecting,
    /// Connected.
    On,
}

/// One replication channel as `SHOW REPLICA STATUS` and performance_schema give it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Channel name, `from-<ordinal>` for links.
    pub name: String,
    /// `Source_Host`.
    pub source_host: String,
    /// `Source_UUID`: of the server that the receiver was last connected to.
    pub source_uuid: Option<String>,
    /// `Replica_IO_Running`.
    pub receiver: Receiver,
    /// `Replica_SQL_Running`.
    pub applier_running: bool,
    /// `Retrieved_Gtid_Set`.
    pub retrieved: GtidSet,
    /// `Last_IO_Error` with its number.
    pub receiver_error: Option<SqlError>,
    /// `Last_SQL_Error` with its number.
    pub applier_error: Option<SqlError>,
    /// GTID of the transaction at which the applier stopped.
    pub blocked: Option<String>,
    /// `Seconds_Behind_Source`.
    pub lag_seconds: Option<i64>,
    /// `Source_Log_File`: where the receiver reads.
    pub receiver_file: String,
    /// `Relay_Source_Log_File`: where the applier is.
    pub applied_file: String,
    /// `Exec_Source_Log_Pos`.
    pub applied_offset: u64,
    /// Whole seconds since anything was heard from the source, a heartbeat or a transaction.
    pub silent_seconds: Option<i64>,
}

/// An error of a replication thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// MySQL's error number.
    pub number: u32,
    /// MySQL's text.
    pub text: String,
}

impl Server {
    /// The channel whose upstream is this member.
    pub fn channel_from(&self, upstream: u8) -> Option<&Channel> {
        let name = names::channel(upstream);
        self.channels.iter().find(|channel| channel.name == name)
    }

    /// All that it has executed, or has retrieved and not applied yet.
    pub fn held(&self) -> GtidSet {
        let retrieved = self.channels.iter().map(|channel| &channel.retrieved);
        retrieved.fold(self.executed.clone(), |held, retrieved| held.union(retrieved))
    }
}

impl Channel {
    /// Receiver and applier do their work.
    pub fn replicates(&self) -> bool {
        self.receiver == Receiver::On && self.applier_running
    }

    /// The applier stopped at a transaction that it cannot apply.
    pub fn conflict(&self) -> Option<&SqlError> {
        if self.applier_running {
            None
        } else {
            self.applier_error.as_ref()
        }
    }

    /// The error for which the receiver stopped for good.
    pub fn gave_up(&self) -> Option<&SqlError> {
        self.receiver_error.as_ref().filter(|_| self.receiver == Receiver::Off)
    }

    /// Somebody stopped a thread; nothing is wrong with it.
    pub fn stopped_by_hand(&self) -> bool {
        let receiver = self.receiver == Receiver::Off && self.receiver_error.is_none();
        let applier = !self.applier_running && self.applier_error.is_none();
        receiver || applier
    }
}
