//! Why members could not be compared, and what its parts share.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::mysql::io::connection::SqlError;

/// Deadline of a statement that reads; mysqld gives up before.
pub const READ_DEADLINE: Duration = Duration::from_secs(310);

/// Why members could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A member's server or its connection.
    #[error("{member}: {source}")]
    Sql {
        /// Which member.
        member: String,
        /// What it said.
        source: SqlError,
    },
    /// Something could not be read.
    #[error("{object} at {member}: {source}")]
    Item {
        /// Which member.
        member: String,
        /// What was read.
        object: String,
        /// What the server said.
        source: SqlError,
    },
    /// Something differs at every look, and writes could not be stopped to see whether it does at equal GTID sets.
    #[error("something differs while writes go on, and they could not be stopped: {why}")]
    NotStopped {
        /// What was in the way.
        why: String,
    },
    /// A primary key whose text is another one in Unicode.
    #[error("table {table}: its primary key is in a character set that cannot be converted to utf8mb4 and back")]
    Key {
        /// Which table.
        table: String,
    },
    /// A table's definition became equal only at the end.
    #[error("{object} was altered meanwhile")]
    Altered {
        /// Which.
        object: String,
    },
    /// More chunks change all the time than fit in one snapshot.
    #[error("too many rows change all the time; ask again while fewer are written")]
    Busy,
}

impl CompareError {
    pub(super) fn of(member: &str, source: SqlError) -> Self {
        Self::Sql {
            member: member.into(),
            source,
        }
    }
}

/// Whoever holds it may stop writes; the pass that gave it waits until it is dropped.
pub type Permit = oneshot::Sender<()>;
