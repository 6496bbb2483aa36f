//! Which clusters are compared, which wait for their turn, and the limits of a comparison.
//!
//! A place in line is a name and no task: when a cluster's turn comes, the next pass over it begins the comparison, with the members as they are then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::error::{CompareError, Permit, Progress};
use crate::api::status::ComparisonStatus;
use crate::decide::observed::ComparisonRun;
use crate::operator::guard::guarded;

/// Clusters that are compared at a time. With two, a large one does not hold up all others.
const AT_ONCE: usize = 2;
/// How long a place of comparison is kept free for the cluster whose turn it is.
const OFFER: Duration = Duration::from_secs(60);
/// A cluster loses its place in line after so long without a pass: a pass ends within a minute, and the pause after it lasts a minute at most.
const ABSENCE: Duration = Duration::from_secs(180);
/// How long a comparison waits for the pass that lets it stop writes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The end of a comparison.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// A comparison ends when nothing was read for so long. A statement ends before: [`super::error::READ_DEADLINE`].
const STANDSTILL: Duration = Duration::from_secs(360);
/// How long the connections of a comparison may take to end.
const ENDING: Duration = Duration::from_secs(60);

/// The comparisons that are under way, the line, and the result of each cluster's last comparison until it is in status.
#[derive(Default)]
pub struct Comparisons {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: HashMap<String, Running>,
    line: Vec<Place>,
    ended: HashMap<String, ComparisonRun>,
}

struct Running {
    /// `Some` while the comparison waits for permission to stop writes.
    permission: Option<oneshot::Sender<Permit>>,
    requested: Option<String>,
    /// Attempts in a row that failed before this one.
    failed: u32,
    /// The comparison ends when this is dropped.
    _wanted: oneshot::Sender<()>,
}

impl Running {
    fn failed(self, why: String) -> ComparisonRun {
        ComparisonRun::Failed {
            why,
            at: Timestamp::now(),
            times: self.failed.saturating_add(1),
            requested: self.requested,
        }
    }
}

struct Place {
    uid: String,
    /// The last pass over the cluster.
    seen: Instant,
    /// When its turn came.
    offered: Option<Instant>,
}

impl Place {
    fn is_kept(&self, now: Instant) -> bool {
        let lasts = |since, limit| now.saturating_duration_since(since) < limit;
        lasts(self.seen, ABSENCE) && self.offered.is_none_or(|offered| lasts(offered, OFFER))
    }
}

/// What a comparison gets when it begins.
pub struct Turn {
    /// Waits for the permission to stop writes. `None`: no pass gave it in time.
    pub permit: BoxFuture<'static, Option<Permit>>,
    /// Has to be told what is read.
    pub progress: Progress,
    /// What ends it.
    pub limits: Limits,
}

/// What ends a comparison before its own end.
pub struct Limits {
    read: watch::Receiver<String>,
    unwanted: oneshot::Receiver<()>,
    longest: Duration,
    standstill: Duration,
}

impl Limits {
    /// Awaits the work of a comparison, up to its limits.
    ///
    /// # Errors
    /// Those of the work; [`CompareError::Overdue`], [`CompareError::StoodStill`]; [`CompareError::Unwanted`] when the cluster is forgotten.
    pub async fn hold<T>(self, work: impl Future<Output = Result<T, CompareError>>) -> Result<T, CompareError> {
        tokio::select! {
            done = work => done,
            object = stood_still(self.read, self.standstill) => Err(CompareError::StoodStill { object, limit: self.standstill }),
            () = sleep(self.longest) => Err(CompareError::Overdue(self.longest)),
            _ = self.unwanted => Err(CompareError::Unwanted),
        }
    }
}

/// Waits until nothing was read for so long, and returns what was read last.
async fn stood_still(mut read: watch::Receiver<String>, limit: Duration) -> String {
    loop {
        match timeout(limit, read.changed()).await {
            Ok(Ok(())) => {}
            // It has ended.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return read.borrow().clone(),
        }
    }
}

impl Inner {
    /// How many clusters are compared before this one, which a pass looks at; `None`: it is not in line. Places that were not used are given up.
    fn ahead(&mut self, uid: &str, now: Instant) -> Option<usize> {
        if let Some(place) = self.line.iter_mut().find(|place| place.uid == uid) {
            place.seen = now;
        }
        self.line.retain(|place| place.is_kept(now));
        let place = self.line.iter().position(|place| place.uid == uid)?;
        Some(self.running.len() + place)
    }

    /// Whether it is the turn of a cluster that waits. Its offer counts from the first time.
    fn is_offered(&mut self, uid: &str, ahead: usize, now: Instant) -> bool {
        let is_offered = ahead < AT_ONCE;
        if let Some(place) = self.line.iter_mut().find(|place| place.uid == uid && is_offered) {
            place.offered.get_or_insert(now);
        }
        is_offered
    }
}

impl Comparisons {
    /// How far the comparison of a cluster is. Each pass asks, and keeps its place in line so.
    pub fn of(&self, uid: &str, now: Instant) -> ComparisonRun {
        let mut inner = self.lock();
        let ended = inner.ended.get(uid).cloned();
        if let Some(finished @ ComparisonRun::Finished(_)) = ended {
            return finished;
        }
        match inner.running.get(uid) {
            Some(running) if running.permission.is_some() => return ComparisonRun::Unsettled,
            Some(_) => return ComparisonRun::Running,
            None => {}
        }
        match inner.ahead(uid, now) {
            Some(ahead) if !inner.is_offered(uid, ahead, now) => ComparisonRun::Queued { ahead },
            _ => ended.unwrap_or_default(),
        }
    }

    /// Begins to compare if it is this cluster's turn; if not, the cluster waits in line. Returns whether it began.
    pub fn begin<W>(
        self: &Arc<Self>,
        uid: &str,
        requested: Option<String>,
        now: Instant,
        work: impl FnOnce(Turn) -> W,
    ) -> bool
    where
        W: Future<Output = Result<ComparisonStatus, CompareError>> + Send + 'static,
    {
        let mut inner = self.lock();
        if inner.running.contains_key(uid) {
            return false;
        }
        let ahead = inner.ahead(uid, now).unwrap_or_else(|| {
            let (uid, place) = (uid.to_owned(), inner.line.len());
            inner.line.push(Place {
                uid,
                seen: now,
                offered: None,
            });
            inner.running.len() + place
        });
        if ahead >= AT_ONCE {
            return false;
        }
        inner.line.retain(|place| place.uid != uid);
        let failed = match inner.ended.remove(uid) {
            Some(ComparisonRun::Failed { times, .. }) => times,
            _ => 0,
        };
        let (wanted, unwanted) = oneshot::channel();
        let running = Running {
            permission: None,
            requested,
            failed,
            _wanted: wanted,
        };
        inner.running.insert(uid.into(), running);
        let work = work(self.turn(uid, unwanted));
        let (comparisons, uid) = (self.clone(), uid.to_owned());
        // The task can end only after this lock is released, so `end` finds what runs.
        tokio::spawn(async move {
            let done = guarded(LONGEST + ENDING, work).await;
            let done = done.map_err(|broken_off| broken_off.to_string());
            comparisons.end(&uid, done.and_then(|done| done.map_err(|error| error.to_string())));
        });
        true
    }

    fn turn(self: &Arc<Self>, uid: &str, unwanted: oneshot::Receiver<()>) -> Turn {
        let (progress, read) = watch::channel("nothing".to_owned());
        Turn {
            permit: Box::pin(self.clone().permit(uid.to_owned())),
            progress,
            limits: Limits {
                read,
                unwanted,
                longest: LONGEST,
                standstill: STANDSTILL,
            },
        }
    }

    fn end(&self, uid: &str, done: Result<ComparisonStatus, String>) {
        let mut inner = self.lock();
        // A cluster that was forgotten has none. Its UID never comes back.
        if let Some(running) = inner.running.remove(uid) {
            let ended = match done {
                Ok(status) => ComparisonRun::Finished(status),
                Err(why) => running.failed(why),
            };
            inner.ended.insert(uid.into(), ended);
        }
    }

    /// Waits for a pass that lets the comparison stop writes. `None`: no pass did within [`PATIENCE`].
    async fn permit(self: Arc<Self>, uid: String) -> Option<Permit> {
        let (permission, permitted) = oneshot::channel();
        if let Some(running) = self.lock().running.get_mut(&uid) {
            running.permission = Some(permission);
        }
        let permit = timeout(PATIENCE, permitted).await;
        if let Some(running) = self.lock().running.get_mut(&uid) {
            running.permission = None;
        }
        permit.ok()?.ok()
    }

    /// Lets the comparison of a cluster stop writes, and waits until the members take writes again. Only the cluster's pass changes its members, and
    /// that pass is the one that waits here. Returns whether a comparison had asked.
    pub async fn stop_writes(&self, uid: &str) -> bool {
        let permission = self
            .lock()
            .running
            .get_mut(uid)
            .and_then(|running| running.permission.take());
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

    /// Forgets a cluster that is gone. Its place is free at once, and its comparison ends.
    pub fn forget(&self, uid: &str) {
        self.keep_only(|other| other != uid);
    }

    /// Forgets clusters that are gone.
    pub fn keep_only(&self, is_there: impl Fn(&str) -> bool) {
        let mut inner = self.lock();
        inner.running.retain(|uid, _| is_there(uid));
        inner.line.retain(|place| is_there(&place.uid));
        inner.ended.retain(|uid, _| is_there(uid));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held leaves plain data behind, which is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
