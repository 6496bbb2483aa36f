//! Whose turn it is to ask the API server for many things. A start with a thousand new clusters would otherwise ask for everything at once, and the
//! answers about the leader's lease would come too late.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Work that takes longer than this waits for somebody: a webhook that does not answer, for example.
const SLOW: Duration = Duration::from_secs(5);

/// Turns of clusters. Those whose last work was slow have turns of their own, so that nobody else waits for them.
pub struct Turns {
    quick: Semaphore,
    slow: Semaphore,
    /// UIDs of the clusters whose last work was slow.
    slow_ones: Mutex<HashSet<String>>,
}

impl Turns {
    /// `at_once`: how many quick clusters work at the same time, and how many slow ones.
    pub fn new(at_once: usize) -> Self {
        Self {
            quick: Semaphore::new(at_once),
            slow: Semaphore::new(at_once),
            slow_ones: Mutex::default(),
        }
    }

    /// Waits for a turn of the cluster with this UID. It ends when the answer is dropped.
    pub async fn take(&self, uid: &str) -> Option<SemaphorePermit<'_>> {
        let turns = match self.lock().contains(uid) {
            true => &self.slow,
            false => &self.quick,
        };
        // It is never closed.
        turns.acquire().await.ok()
    }

    /// Notes how long the work of a cluster took.
    pub fn took(&self, uid: &str, time: Duration) {
        match time >= SLOW {
            true => drop(self.lock().insert(uid.to_owned())),
            false => drop(self.lock().remove(uid)),
        }
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.slow_ones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn nobody_waits_for_those_that_are_slow() {
        let turns = Turns::new(2);
        let take = |uid| turns.take(uid).now_or_never().flatten();
        for uid in ["hung-1", "hung-2", "hung-3"] {
            turns.took(uid, SLOW);
        }
        let hung = [take("hung-1"), take("hung-2")];
        assert!(hung.iter().all(Option::is_some) && take("hung-3").is_none());
        let quick = [take("a"), take("b")];
        assert!(quick.iter().all(Option::is_some) && take("c").is_none());
        drop(quick);
        assert!(take("c").is_some());
        turns.took("hung-3", Duration::ZERO);
        assert!(take("hung-3").is_some(), "it is quick again");
    }
}
