//! What a server said over SQL.

use crate::decide::conflicts::record::{Record, Unread};
use crate::mysql::errors::passes;
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
    /// Connections of clients: all but those of the product itself.
    pub client_sessions: u64,
    /// Replication channels.
    pub channels: Vec<Channel>,
    /// Names of the binary logs, oldest first.
    pub binary_logs: Vec<String>,
    /// What `multimaster.conflicts` holds here, of this member and of others: what is open, and what was settled within a day.
    pub conflicts: Vec<Record>,
    /// What it holds beside that.
    pub unread: Unread,
    /// `multimaster.conflict_rows` is there. An agent of an earlier version does not make it.
    pub has_image_table: bool,
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
    /// `Source_Port`.
    pub source_port: u16,
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
    /// Whole seconds since the applier stopped for an error, by the server's clock.
    pub seconds_since_error: Option<i64>,
    /// `Seconds_Behind_Source`.
    pub lag_seconds: Option<i64>,
    /// `Source_Log_File`: where the receiver reads.
    pub receiver_file: String,
    /// `Relay_Source_Log_File`: where the applier is.
    pub applied_file: String,
    /// `Exec_Source_Log_Pos`.
    pub applied_offset: u64,
    /// Whole seconds since the last contact with the source: a heartbeat, a transaction, or a read position that moved.
    pub seconds_since_contact: Option<i64>,
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
    /// The record of a transaction that this server's own applier could not apply.
    pub fn own_record(&self, gtid: &str) -> Option<&Record> {
        let mut records = self.conflicts.iter();
        records.find(|record| record.observer == self.uuid && record.gtid == gtid)
    }

    /// The channel whose upstream is this member.
    pub fn channel_from(&self, upstream: u8) -> Option<&Channel> {
        let name = names::channel(upstream);
        self.channels.iter().find(|channel| channel.name == name)
    }

    /// All that it has executed, or has retrieved and not applied yet.
    pub fn held(&self) -> GtidSet {
        let retrieved = self.channels.iter().map(|channel| &channel.retrieved);
        GtidSet::union_all([&self.executed].into_iter().chain(retrieved))
    }
}

impl Channel {
    /// Receiver and applier do their work.
    pub fn replicates(&self) -> bool {
        self.receiver == Receiver::On && self.applier_running
    }

    /// The error of an applier that stopped at a transaction that it cannot apply.
    pub fn conflict(&self) -> Option<&SqlError> {
        self.stopped_for().filter(|error| !passes(error.number, &error.text))
    }

    /// The error of an applier that stopped for a reason that passes: a lock that another session holds, a full disk.
    pub fn interruption(&self) -> Option<&SqlError> {
        self.stopped_for().filter(|error| passes(error.number, &error.text))
    }

    /// What it has retrieved is about to be executed: its applier runs, or is started again soon.
    pub fn is_applying(&self) -> bool {
        self.applier_running || self.interruption().is_some()
    }

    /// The error for which the applier stopped.
    pub fn stopped_for(&self) -> Option<&SqlError> {
        self.applier_error.as_ref().filter(|_| !self.applier_running)
    }

    /// The error for which the receiver stopped for good.
    pub fn gave_up(&self) -> Option<&SqlError> {
        let error = self.receiver_error.as_ref().filter(|_| self.receiver == Receiver::Off);
        error.filter(|error| !is_of_connecting(error))
    }

    /// A thread was stopped, and nothing is wrong with it.
    pub fn stopped_by_hand(&self) -> bool {
        let receiver = self.receiver == Receiver::Off && self.gave_up().is_none();
        let applier = !self.applier_running && self.applier_error.is_none();
        receiver || applier
    }
}

/// Whether a receiver tries again after this error for ever (`SOURCE_RETRY_COUNT = 0`). One that was stopped meanwhile keeps the error. 2000 to 2999
/// are errors of the client library; a source that refuses the login answers with its own, and the text says what was tried.
fn is_of_connecting(error: &SqlError) -> bool {
    (2000..3000).contains(&error.number) || error.text.contains("connecting to source")
}
