//! Compares what members hold: definitions, accounts, and rows by checksums of chunks. It reports; it repairs nothing.
//!
//! A comparison runs beside the passes of the operator, a few at a time in the whole operator. A pass sees as an observation how far it
//! is. A comparison that ends with its operator loses nothing: it is due again.
//!
//! - [`queue`]: turns, and the limits of a comparison.
//! - [`run`]: one comparison from its beginning to its end.  [`attempts`]: one question to all members.
//! - [`stop`]: snapshots while writes are stopped.
//! - [`object`]: what is compared, and how one member is asked for it.  [`definitions`]: definitions that stay in the server.  [`chunks`],
//!   [`columns`]: the rows of a table in SQL.

pub mod attempts;
pub mod chunks;
pub mod columns;
mod definitions;
mod error;
pub mod object;
pub mod queue;
pub mod run;
pub mod stop;

use std::sync::Arc;
use std::time::Instant;

use futures::future::{BoxFuture, join_all};

use crate::api::status::ComparisonStatus;
use crate::mysql::io::connection::Address;

pub use error::{CompareError, Permit, Progress, READ_DEADLINE, ReadError};

use attempts::Peer;
use queue::{Comparisons, Turn};
use run::{Subject, compare};

/// A member to compare.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// Server UUID of its present life.
    pub server_uuid: String,
    /// Server and account of its connections.
    pub address: Address,
}

/// Begins to compare the members of a cluster if it is its turn; if not, the cluster waits in line. Returns whether it began.
pub fn begin(comparisons: &Arc<Comparisons>, uid: &str, parties: Vec<Party>, subject: Subject) -> bool {
    let requested = subject.requested.clone();
    comparisons.begin(uid, requested, Instant::now(), |turn| held(parties, subject, turn))
}

/// A comparison within its limits. If it fails, nothing of it goes on at the members.
async fn held(parties: Vec<Party>, subject: Subject, turn: Turn) -> Result<ComparisonStatus, CompareError> {
    let mut peers = Vec::new();
    let work = connect_and_compare(&mut peers, parties, subject, turn.permit, turn.progress);
    let done = turn.limits.hold(work).await;
    if done.is_err() {
        join_all(peers.into_iter().map(Peer::hang_up)).await;
    }
    done
}

async fn connect_and_compare(
    peers: &mut Vec<Peer>,
    parties: Vec<Party>,
    subject: Subject,
    permit: BoxFuture<'static, Option<Permit>>,
    progress: Progress,
) -> Result<ComparisonStatus, CompareError> {
    for party in parties {
        peers.push(Peer::connect(party.name, party.server_uuid, &party.address).await?);
    }
    compare(peers, subject, permit, &progress).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::observed::ComparisonRun;

    #[tokio::test]
    async fn a_member_without_a_connection_is_named() {
        let comparisons = Arc::new(Comparisons::default());
        let nowhere = Party {
            name: "demo-0".into(),
            server_uuid: String::new(),
            address: Address {
                ip: "127.0.0.1".into(),
                host: "demo-0".into(),
                user: "nobody",
                password: String::new(),
                authority: Vec::new(),
                longest_answer: 1 << 20,
            },
        };
        assert!(begin(&comparisons, "a", vec![nowhere], Subject::default()));
        while comparisons.of("a", Instant::now()) == ComparisonRun::Running {
            tokio::task::yield_now().await;
        }
        let failed = comparisons.of("a", Instant::now());
        assert!(
            matches!(&failed, ComparisonRun::Failed { why, times: 1, .. } if why.starts_with("demo-0: ")),
            "{failed:?}"
        );
    }
}
