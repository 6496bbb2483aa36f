//! What the kubelet's probes ask: whether this process is of use, and whether a new one would be better.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::runtime::watcher;

use super::guard::PASS_END;

/// A pass ends after [`PASS_END`], and telling that it was broken off takes as long at most. Who is older has no timer any more.
const STANDS_STILL: Duration = PASS_END.saturating_mul(3);
/// The keeper checks every 200 ms; its checks run beside it.
const KEEPER_LATE: Duration = Duration::from_secs(15);

/// What this process knows of its own tasks. An API server that does not answer makes it neither dead nor, once it was ready, unready: a new process
/// could do no more.
#[derive(Default)]
pub struct Liveness(Mutex<Tasks>);

#[derive(Default)]
struct Tasks {
    answered: bool,
    leads: bool,
    delivered: bool,
    /// When each pass that is under way began.
    passes: HashMap<u64, Instant>,
    begun: u64,
    keeper: Option<Instant>,
    /// By kind: why its watch cannot be read.
    unreadable: BTreeMap<&'static str, String>,
}

/// A pass that is under way, until this is dropped.
pub struct Pass<'a> {
    liveness: &'a Liveness,
    number: u64,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.liveness.lock().passes.remove(&self.number);
    }
}

impl Liveness {
    /// The API server has answered about the lease.
    pub fn answered(&self) {
        self.lock().answered = true;
    }

    /// This replica leads.
    pub fn leads(&self) {
        self.lock().leads = true;
    }

    /// Every watch has delivered what there is.
    pub fn delivered(&self) {
        self.lock().delivered = true;
    }

    /// The keeper goes round.
    pub fn keeper_at(&self, now: Instant) {
        self.lock().keeper = Some(now);
    }

    /// A pass begins.
    pub fn pass(&self, now: Instant) -> Pass<'_> {
        let mut tasks = self.lock();
        tasks.begun += 1;
        let number = tasks.begun;
        tasks.passes.insert(number, now);
        Pass { liveness: self, number }
    }

    /// What the watch of a kind said last.
    pub fn watch<K>(&self, kind: &'static str, said: &Result<watcher::Event<K>, watcher::Error>) {
        let mut tasks = self.lock();
        match said {
            Err(why) if is_unreadable(why) => drop(tasks.unreadable.insert(kind, why.to_string())),
            // Everything was read.
            Ok(watcher::Event::InitDone) => drop(tasks.unreadable.remove(kind)),
            Ok(_) | Err(_) => {}
        }
    }

    /// Whether it can do its work. As a standby: once it knows of the lease. As the leader: once it knows all objects.
    pub fn is_ready(&self) -> bool {
        let tasks = self.lock();
        match tasks.leads {
            true => tasks.delivered,
            false => tasks.answered,
        }
    }

    /// Whether this process does its work.
    ///
    /// # Errors
    /// Which task stands still.
    pub fn is_alive(&self, now: Instant) -> Result<(), String> {
        let tasks = self.lock();
        let age = |since: &Instant| now.saturating_duration_since(*since);
        if let Some(oldest) = tasks.passes.values().map(age).max().filter(|age| *age > STANDS_STILL) {
            return Err(format!("a pass has not ended for {oldest:?}"));
        }
        if let Some(late) = tasks.keeper.as_ref().map(age).filter(|age| *age > KEEPER_LATE) {
            return Err(format!("the keeper stands still for {late:?}"));
        }
        match tasks.unreadable.first_key_value() {
            Some((kind, why)) => Err(format!("the watch of {kind} cannot be read: {why}")),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API server has answered, and this version cannot read the answer. If only half of it has arrived, the watch begins anew.
pub fn is_unreadable(error: &watcher::Error) -> bool {
    use kube::Error::SerdeError;
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(SerdeError(why)) | WatchStartFailed(SerdeError(why)) | WatchFailed(SerdeError(why)) => {
            !why.is_eof()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_ready_by_the_lease_and_a_leader_by_what_it_knows() {
        let liveness = Liveness::default();
        assert!(!liveness.is_ready());
        liveness.answered();
        assert!(liveness.is_ready());
        liveness.leads();
        assert!(!liveness.is_ready());
        liveness.delivered();
        assert!(liveness.is_ready());
    }

    #[test]
    fn a_task_that_stands_still_is_named() {
        let (liveness, begun) = (Liveness::default(), Instant::now());
        let after = |seconds| liveness.is_alive(begun + Duration::from_secs(seconds));
        assert_eq!(after(9000), Ok(()), "a standby has no tasks");
        let pass = liveness.pass(begun);
        let quick = liveness.pass(begun);
        assert_eq!(after(180), Ok(()));
        assert!(after(181).is_err_and(|why| why.contains("a pass")));
        drop(quick);
        assert!(after(181).is_err());
        drop(pass);
        assert_eq!(after(181), Ok(()));
        liveness.keeper_at(begun);
        assert_eq!(after(15), Ok(()));
        assert!(after(16).is_err_and(|why| why.contains("keeper")));
    }

    #[test]
    fn only_an_answer_that_cannot_be_read_is_fatal() {
        let (liveness, now) = (Liveness::default(), Instant::now());
        let unreadable = |text| kube::Error::SerdeError(serde_json::from_str::<u8>(text).unwrap_err());
        let refused = || kube::Error::Api(kube::core::Status::failure("x", "y").with_code(500).boxed());
        liveness.watch::<()>("pods", &Err(watcher::Error::WatchFailed(refused())));
        liveness.watch::<()>("pods", &Err(watcher::Error::NoResourceVersion));
        liveness.watch::<()>("pods", &Err(watcher::Error::WatchFailed(unreadable(""))));
        assert_eq!(liveness.is_alive(now), Ok(()));
        liveness.watch::<()>("pods", &Err(watcher::Error::InitialListFailed(unreadable("x"))));
        assert!(liveness.is_alive(now).is_err_and(|why| why.contains("pods")));
        liveness.watch("services", &Ok(watcher::Event::<()>::InitDone));
        liveness.watch("pods", &Ok(watcher::Event::Apply(())));
        // A silence says nothing of what could not be read.
        liveness.watch::<()>("pods", &Err(watcher::Error::WatchFailed(refused())));
        assert!(liveness.is_alive(now).is_err());
        liveness.watch("pods", &Ok(watcher::Event::<()>::InitDone));
        assert_eq!(liveness.is_alive(now), Ok(()));
    }
}
