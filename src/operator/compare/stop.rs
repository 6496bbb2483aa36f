//! Snapshots of all members at equal GTID sets. Writes are stopped on all members while the snapshots are opened.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use mysql_async::Conn;

use super::attempts::{Attempt, Peer, are_equal, attempt, executed};
use super::error::CompareError;
use super::object::Object;
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::connection::{PROBE_DEADLINE, SqlError, column, rows, run, within};

/// Seconds to wait for a statement that holds its locks. Writes that come meanwhile wait behind it.
const LOCK_WAIT: u64 = 1;
/// Deadline of `super_read_only = ON`, which waits for two locks, one after the other.
const CLOSING: Duration = Duration::from_secs(2 * LOCK_WAIT + 1);
/// How long members may take to execute what others have.
const DRAINING: Duration = Duration::from_secs(2);
/// Deadline of everything between stopping and opening. The members are opened after it, whatever the result.
const SEEING: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(2);
/// The longest lag with which writes are stopped. It is shorter than [`DRAINING`], so that writes are rarely stopped in vain.
const LAG: Duration = Duration::from_secs(1);
/// How often the lag is measured before the comparison is given up for now.
const MEASUREMENTS: usize = 10;

/// What was compared while writes were stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Of definitions and accounts, which are not part of a snapshot.
    pub attempts: Vec<Attempt>,
    /// How long writes were refused.
    pub lasted: Duration,
}

/// Waits until the lag of the ring is short: what any member had executed at one moment, all have executed within [`LAG`].
///
/// # Errors
/// [`CompareError::NotStopped`] when it stays longer. Writes were not stopped.
pub async fn close_up(peers: &mut [Peer]) -> Result<(), CompareError> {
    for _ in 0..MEASUREMENTS {
        let aim = GtidSet::union_all(&executed(peers).await?);
        let end = Instant::now() + LAG;
        while Instant::now() < end {
            let sets = executed(peers).await?;
            if sets.iter().all(|set| set.contains(&aim)) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    let why = format!("members have been more than {LAG:?} behind each other for {MEASUREMENTS} times as long");
    Err(CompareError::NotStopped { why })
}

/// Stops writes on all members that take writes, waits until all members have executed the same, opens a snapshot on each member's reader,
/// compares `objects`, which snapshots do not hold, and opens exactly those members again.
///
/// The caller keeps passes from fencing and opening these members meanwhile. A member whose connection is lost stays fenced, and the operator
/// opens it as it opens a member that returns.
///
/// # Errors
/// [`CompareError::NotStopped`] when a long statement or a lagging member is in the way. The members take writes again then.
pub async fn snapshots(peers: &mut [Peer], objects: &[Object]) -> Result<Stopped, CompareError> {
    let mut open = Vec::new();
    for peer in peers.iter_mut() {
        open.push(is_open(peer).await?);
    }
    let begin = Instant::now();
    let closing = peers.iter_mut().zip(&open).map(async |(peer, open)| match open {
        true => within(CLOSING, set(&mut peer.control, "super_read_only = ON"))
            .await
            .map(|()| true),
        false => Ok(false),
    });
    let closed = join_all(closing).await;
    let attempts = if closed.iter().all(Result::is_ok) {
        let seeing = tokio::time::timeout(SEEING, open_snapshots(peers, objects)).await;
        seeing.unwrap_or_else(|_| {
            Err(CompareError::NotStopped {
                why: format!("snapshots were not open within {SEEING:?}"),
            })
        })
    } else {
        Ok(Vec::new())
    };
    let opening = peers.iter_mut().zip(&closed).map(async |(peer, closed)| match closed {
        // One statement, which clears super_read_only too: of two statements only the first might be carried out.
        Ok(true) => run(&mut peer.control, "SET GLOBAL read_only = OFF").await,
        Ok(false) | Err(_) => Ok(()),
    });
    let opened = join_all(opening).await;
    let lasted = begin.elapsed();
    tracing::info!(
        milliseconds = lasted.as_millis(),
        "writes were stopped to compare members"
    );
    for ((peer, closed), opened) in peers.iter().zip(closed).zip(opened) {
        opened.map_err(|source| CompareError::of(&peer.name, source))?;
        closed.map_err(|source| CompareError::NotStopped {
            why: format!("{} is in the middle of something: {source}", peer.name),
        })?;
    }
    Ok(Stopped {
        attempts: attempts?,
        lasted,
    })
}

/// Releases the tables that a snapshot was read from, so that clients can alter them. The snapshot stays.
///
/// # Errors
/// [`CompareError::Sql`].
pub async fn let_go(peers: &mut [Peer]) -> Result<(), CompareError> {
    let going = peers.iter_mut().map(async |peer| {
        let gone = run(&mut peer.reader, "ROLLBACK TO SAVEPOINT nothing_read").await;
        gone.map_err(|source| CompareError::of(&peer.name, source))
    });
    try_join_all(going).await.map(drop)
}

async fn set(conn: &mut Conn, setting: &str) -> Result<(), SqlError> {
    run(conn, &format!("SET GLOBAL {setting}")).await
}

/// Checks that the server has the same UUID as at the beginning, and returns whether it takes writes.
async fn is_open(peer: &mut Peer) -> Result<bool, CompareError> {
    let asked = within(PROBE_DEADLINE, async {
        let conn = &mut peer.control;
        run(conn, &format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}")).await?;
        let query = "SELECT @@server_uuid AS uuid, @@super_read_only AS fenced";
        Ok(rows(conn, query).await?.pop())
    });
    let row = asked.await.map_err(|source| CompareError::of(&peer.name, source))?;
    let uuid: Option<String> = row.as_ref().and_then(|row| column(row, "uuid"));
    if uuid.as_deref() != Some(&peer.server_uuid) {
        let source = SqlError::Outdated(format!("server_uuid is {uuid:?}, not {}", peer.server_uuid));
        return Err(CompareError::of(&peer.name, source));
    }
    Ok(row.and_then(|row| column::<i64>(&row, "fenced")) == Some(0))
}

async fn open_snapshots(peers: &mut [Peer], objects: &[Object]) -> Result<Vec<Attempt>, CompareError> {
    let end = Instant::now() + DRAINING;
    loop {
        let sets = executed(peers).await?;
        if are_equal(&sets) {
            break;
        }
        if Instant::now() > end {
            let why = format!("members had not executed the same {DRAINING:?} after the last write");
            return Err(CompareError::NotStopped { why });
        }
        tokio::time::sleep(POLL).await;
    }
    let opening = peers.iter_mut().map(async |peer| {
        let opened = async {
            run(
                &mut peer.reader,
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            )
            .await?;
            run(&mut peer.reader, "SAVEPOINT nothing_read").await
        };
        opened.await.map_err(|source| CompareError::of(&peer.name, source))
    });
    try_join_all(opening).await?;
    let mut attempts = Vec::new();
    for object in objects {
        attempts.push(attempt(peers, object).await?);
    }
    Ok(attempts)
}
