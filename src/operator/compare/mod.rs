//! Compares what members hold: definitions, accounts, and rows by checksums of chunks. It reports; it repairs nothing.
//!
//! A comparison runs beside the passes of the operator, at most one at a time in the whole operator. A pass sees as an observation how far it
//! is. A comparison that ends with its operator loses nothing: it is due again.
//!
//! - [`run`]: one comparison from its beginning to its end.  [`attempts`]: one question to all members.
//! - [`stop`]: snapshots while writes are stopped.
//! - [`object`]: what is compared, and how one member is asked for it.  [`chunks`], [`columns`]: the rows of a table in SQL.

pub mod attempts;
pub mod chunks;
pub mod columns;
mod error;
pub mod object;
pub mod run;
pub mod stop;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::status::ComparisonStatus;
use crate::decide::observed::ComparisonRun;
use crate::mysql::io::connection::Address;

pub use error::{CompareError, Permit, READ_DEADLINE};

use attempts::Peer;
use run::{Subject, compare};

/// How long a comparison waits for the pass that lets it stop writes.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// The comparison that is under way, and the result of each cluster's last comparison until it is in status.
#[derive(Default)]
pub struct Comparisons {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    current: Option<Current>,
    ended: HashMap<String, ComparisonRun>,
}

struct Current {
    uid: String,
    task: JoinHandle<()>,
    /// `Some` while the comparison waits for permission to stop writes.
    permission: Option<oneshot::Sender<Permit>>,
}

impl Comparisons {
    /// How far the comparison of a cluster is.
    pub fn of(&self, uid: &str) -> ComparisonRun {
        let inner = self.lock();
        match (&inner.current, inner.ended.get(uid)) {
            (_, Some(finished @ ComparisonRun::Finished(_))) => finished.clone(),
            (Some(current), _) if current.uid != uid => ComparisonRun::Elsewhere,
            (Some(current), _) if current.permission.is_some() => ComparisonRun::Unsettled,
            (Some(_), _) => ComparisonRun::Running,
            (None, Some(failed)) => failed.clone(),
            (None, None) => ComparisonRun::Idle,
        }
    }

    /// Begins to compare, unless a comparison is under way. Returns whether it began.
    pub fn begin(self: &Arc<Self>, uid: &str, parties: Vec<Party>, subject: Subject) -> bool {
        let mut inner = self.lock();
        if inner.current.is_some() {
            return false;
        }
        inner.ended.remove(uid);
        let (comparisons, id) = (self.clone(), uid.to_owned());
        // The task can end only after this lock is released, so `end` finds it in `current`.
        let task = tokio::spawn(async move {
            let permit = Box::pin(comparisons.clone().permit(id.clone()));
            let ended = match AssertUnwindSafe(connect_and_compare(parties, subject, permit))
                .catch_unwind()
                .await
            {
                Ok(Ok(status)) => ComparisonRun::Finished(status),
                Ok(Err(error)) => ComparisonRun::Failed {
                    why: error.to_string(),
                    at: Timestamp::now(),
                },
                Err(_) => ComparisonRun::Failed {
                    why: "the comparison panicked; the operator's log says where".into(),
                    at: Timestamp::now(),
                },
            };
            comparisons.end(&id, ended);
        });
        inner.current = Some(Current {
            uid: uid.into(),
            task,
            permission: None,
        });
        true
    }

    fn end(&self, uid: &str, ended: ComparisonRun) {
        let mut inner = self.lock();
        if inner.current.as_ref().is_some_and(|current| current.uid == uid) {
            inner.current = None;
            inner.ended.insert(uid.into(), ended);
        }
    }

    /// Waits for a pass that lets the comparison stop writes. `None`: no pass did within [`PATIENCE`].
    async fn permit(self: Arc<Self>, uid: String) -> Option<Permit> {
        let (permission, permitted) = oneshot::channel();
        if let Some(current) = self.lock().current.as_mut().filter(|current| current.uid == uid) {
            current.permission = Some(permission);
        }
        let permit = tokio::time::timeout(PATIENCE, permitted).await;
        if let Some(current) = self.lock().current.as_mut().filter(|current| current.uid == uid) {
            current.permission = None;
        }
        permit.ok()?.ok()
    }

    /// Lets the comparison of a cluster stop writes, and waits until the members take writes again. Only the cluster's pass changes its members, and
    /// that pass is the one that waits here. Returns whether a comparison had asked.
    pub async fn stop_writes(&self, uid: &str) -> bool {
        let permission = {
            let mut inner = self.lock();
            let current = inner.current.as_mut().filter(|current| current.uid == uid);
            current.and_then(|current| current.permission.take())
        };
        let Some(permission) = permission else { return false };
        let (permit, over) = oneshot::channel();
        if permission.send(permit).is_err() {
            return false;
        }
        // The permit is dropped and never sent: the wait ends when it is dropped.
        drop(over.await);
        true
    }

    /// Notes that the result is in status.
    pub fn noted(&self, uid: &str) {
        self.lock().ended.remove(uid);
    }

    /// Forgets a cluster that is gone, and ends its comparison.
    pub fn forget(&self, uid: &str) {
        let mut inner = self.lock();
        inner.ended.remove(uid);
        if let Some(current) = inner.current.take_if(|current| current.uid == uid) {
            current.task.abort();
        }
    }

    /// Ends the comparison that is under way: this replica does not lead any more.
    pub fn end_all(&self) {
        if let Some(current) = self.lock().current.take() {
            current.task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held leaves plain data behind, which is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect_and_compare(
    parties: Vec<Party>,
    subject: Subject,
    permit: futures::future::BoxFuture<'static, Option<Permit>>,
) -> Result<ComparisonStatus, CompareError> {
    let mut peers = Vec::new();
    for party in parties {
        peers.push(Peer::connect(party.name, party.server_uuid, &party.address).await?);
    }
    compare(&mut peers, subject, permit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable_party() -> Party {
        Party {
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
        }
    }

    #[tokio::test]
    async fn one_cluster_at_a_time() {
        let comparisons = Arc::new(Comparisons::default());
        assert_eq!(comparisons.of("a"), ComparisonRun::Idle);
        assert!(comparisons.begin("a", vec![unreachable_party()], Subject::default()));
        assert_eq!(comparisons.of("a"), ComparisonRun::Running);
        assert_eq!(comparisons.of("b"), ComparisonRun::Elsewhere);
        assert!(!comparisons.begin("b", vec![unreachable_party()], Subject::default()));
        while comparisons.of("a") == ComparisonRun::Running {
            tokio::task::yield_now().await;
        }
        let failed = comparisons.of("a");
        assert!(
            matches!(&failed, ComparisonRun::Failed { why, .. } if why.starts_with("demo-0: ")),
            "{failed:?}"
        );
        assert_eq!(comparisons.of("b"), ComparisonRun::Idle);
        comparisons.noted("a");
        assert_eq!(comparisons.of("a"), ComparisonRun::Idle);
    }

    #[tokio::test]
    async fn the_pass_waits_until_writes_go_on() {
        let comparisons = Arc::new(Comparisons::default());
        comparisons.lock().current = Some(Current {
            uid: "a".into(),
            task: tokio::spawn(std::future::pending()),
            permission: None,
        });
        assert!(!comparisons.stop_writes("a").await, "no comparison asks");
        let stopper = tokio::spawn(comparisons.clone().permit("a".into()));
        while comparisons.of("a") != ComparisonRun::Unsettled {
            tokio::task::yield_now().await;
        }
        assert!(!comparisons.stop_writes("b").await, "another cluster");
        let pass = tokio::spawn({
            let comparisons = comparisons.clone();
            async move { comparisons.stop_writes("a").await }
        });
        let permit = stopper.await.unwrap().unwrap();
        assert!(!pass.is_finished());
        drop(permit);
        assert!(pass.await.unwrap());
        comparisons.forget("a");
        assert_eq!(comparisons.of("b"), ComparisonRun::Idle);
    }
}
