//! Why members could not be compared; the permit to stop writes; how far a comparison is.

use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::mysql::io::connection::SqlError;

/// Deadline of a statement that reads. mysqld itself ends such a statement earlier, after 300 s.
pub const READ_DEADLINE: Duration = Duration::from_secs(310);

/// Why members could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A member's server or its connection.
    #[error("{member}: {source}")]
    Sql {
        /// Which member.
        member: String,
        /// Its error.
        source: SqlError,
    },
    /// Something could not be read.
    #[error("{object} at {member}: {source}")]
    Object {
        /// Which member.
        member: String,
        /// The object that was read.
        object: String,
        /// The server's error.
        source: SqlError,
    },
    /// An object that is too long to be compared. The comparison goes on with the others.
    #[error("{object} at {member}: {why}")]
    TooLong {
        /// Which member.
        member: String,
        /// The object.
        object: String,
        /// What is too long.
        why: String,
    },
    /// Something differs at every attempt, and writes could not be stopped. Only equal GTID sets show whether it is divergence.
    #[error("something differs while writes go on, and they could not be stopped: {why}")]
    NotStopped {
        /// What was in the way.
        why: String,
    },
    /// A primary key that does not survive a conversion to utf8mb4 and back.
    #[error("table {table}: its primary key is in a character set that cannot be converted to utf8mb4 and back")]
    Key {
        /// Which table.
        table: String,
    },
    /// A table's definition became equal only while writes were stopped, so its rows were not compared.
    #[error("{object} was altered meanwhile")]
    Altered {
        /// Which.
        object: String,
    },
    /// It took too long altogether.
    #[error("the comparison did not end within {} hours; compare while the members have less to do", .0.as_secs() / 3600)]
    Overdue(Duration),
    /// Nothing was read for too long.
    #[error("nothing was read within {limit:?}; the last was {object}")]
    StoodStill {
        /// What was read last.
        object: String,
        /// For how long nothing was.
        limit: Duration,
    },
    /// The cluster is gone.
    #[error("the resource was deleted")]
    Unwanted,
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

/// Why an object was not read at a member.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server or its connection.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The object is too long to be compared.
    #[error("{0}")]
    TooLong(String),
}

/// Permission to stop writes. The pass that gave it waits until the permit is dropped.
pub type Permit = oneshot::Sender<()>;

/// What is read at present, for the limit of a comparison that stands still.
pub type Progress = watch::Sender<String>;
