//! Work beside the passes: events, and objects that are applied. Nothing that heals waits for it. No cluster waits for one whose work hangs.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::task::AbortHandle;

use super::guard::{PASS_END, guarded};
use super::turns::Turns;

/// How often it is looked whether all is done.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One queue for each cluster: its work is done in order, each piece within [`PASS_END`].
pub struct Beside {
    what: &'static str,
    most: usize,
    turns: Arc<Turns>,
    /// No more work is begun.
    ended: AtomicBool,
    queues: Arc<Mutex<HashMap<String, Queue>>>,
}

/// The work of one cluster. It is there as long as its worker runs.
struct Queue {
    waiting: VecDeque<BoxFuture<'static, ()>>,
    worker: AbortHandle,
}

impl Beside {
    /// `what`: for the log. `most`: pieces of work that one cluster may have at once, the one under way included. `at_once`: clusters whose work is
    /// under way at the same time, see [`Turns`].
    pub fn new(what: &'static str, most: usize, at_once: usize) -> Self {
        Self {
            what,
            most,
            turns: Arc::new(Turns::new(at_once)),
            ended: AtomicBool::new(false),
            queues: Arc::default(),
        }
    }

    /// Begins work for the cluster with this UID, after what it has begun before; `false`: it has too much already, and this is not done.
    pub fn begin(&self, uid: &str, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut queues = lock(&self.queues);
        if self.ended.load(Ordering::Relaxed) {
            return false;
        }
        let has = queues.get(uid).map_or(0, |queue| queue.waiting.len() + 1);
        if has >= self.most {
            return false;
        }
        let work: BoxFuture<'static, ()> = Box::pin(work);
        match queues.get_mut(uid) {
            Some(queue) => queue.waiting.push_back(work),
            // The worker cannot look for more before the lock is given back.
            None => {
                let shared = (self.queues.clone(), self.turns.clone());
                let worker = tokio::spawn(work_on(shared, uid.to_owned(), self.what, work)).abort_handle();
                let waiting = VecDeque::new();
                queues.insert(uid.to_owned(), Queue { waiting, worker });
            }
        }
        true
    }

    /// Waits for ever until nothing is under way.
    pub async fn done(&self) {
        while !lock(&self.queues).is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends all work. None is begun any more.
    pub fn end(&self) {
        let mut queues = lock(&self.queues);
        self.ended.store(true, Ordering::Relaxed);
        for (_, queue) in queues.drain() {
            queue.worker.abort();
        }
    }

    /// Ends the work of a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        if let Some(queue) = lock(&self.queues).remove(uid) {
            queue.worker.abort();
        }
        self.turns.forget(uid);
    }
}

/// Does the work of one cluster until nothing waits.
async fn work_on(
    (queues, turns): (Arc<Mutex<HashMap<String, Queue>>>, Arc<Turns>),
    uid: String,
    what: &'static str,
    first: BoxFuture<'static, ()>,
) {
    let mut next = Some(first);
    while let Some(work) = next {
        let turn = turns.take(&uid).await;
        let begun = Instant::now();
        if let Err(why) = guarded(PASS_END, work).await {
            tracing::warn!(uid, %why, "{what} of a cluster: broken off");
        }
        turns.took(&uid, begun.elapsed());
        drop(turn);
        let mut queues = lock(&queues);
        next = queues.get_mut(&uid).and_then(|queue| queue.waiting.pop_front());
        if next.is_none() {
            queues.remove(&uid);
        }
    }
}

fn lock(queues: &Mutex<HashMap<String, Queue>>) -> MutexGuard<'_, HashMap<String, Queue>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn each_cluster_has_its_own_order_and_none_waits_for_another() {
        let beside = Beside::new("work", 3, 2);
        let (done, mut seen) = mpsc::unbounded_channel();
        let (release, hangs) = oneshot::channel::<()>();
        let say = |text: &'static str| {
            let done = done.clone();
            async move { done.send(text).unwrap() }
        };
        let first = say("a1");
        assert!(beside.begin("a", async {
            hangs.await.unwrap();
            first.await;
        }));
        assert!(beside.begin("a", async { panic!("a2") }));
        assert!(beside.begin("a", say("a3")));
        assert!(!beside.begin("a", say("a4")), "three are there already");
        assert!(beside.begin("b", say("b1")));
        assert_eq!(seen.recv().await, Some("b1"));
        release.send(()).unwrap();
        assert_eq!(seen.recv().await, Some("a1"));
        assert_eq!(seen.recv().await, Some("a3"));
        while !lock(&beside.queues).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(beside.begin("a", say("a5")));
        assert_eq!(seen.recv().await, Some("a5"));
    }

    #[tokio::test]
    async fn what_is_forgotten_ends_and_a_new_one_begins() {
        let beside = Beside::new("work", 1, 1);
        let (kept, dropped) = oneshot::channel::<()>();
        assert!(beside.begin("a", async {
            let _kept = kept;
            std::future::pending().await
        }));
        assert!(!beside.begin("a", async {}));
        beside.forget("a");
        assert!(dropped.await.is_err(), "the work is dropped");
        let (done, seen) = oneshot::channel();
        assert!(beside.begin("a", async { done.send(()).unwrap() }));
        assert_eq!(seen.await, Ok(()));
    }
}
