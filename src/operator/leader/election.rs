//! The rules by which replicas agree on one leader. Pure: the time and the answers of the API server come from the caller.
//!
//! `docs/ring.md`, "The leader", has the rules in words, and why there are never two leaders.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::names;

/// Seconds for which a replica leaves the lease of another one alone, counted from when it saw the lease change.
const LEASE_SECONDS: i32 = 5;
const LEASE: Duration = Duration::from_secs(LEASE_SECONDS.unsigned_abs() as u64);
/// A lease that names a longer time is taken after this time: somebody else wrote it.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// A leader ends so long after the beginning of the last request that renewed the lease. What is left of the lease is for what it has sent by then.
pub const RENEW_DEADLINE: Duration = Duration::from_millis(3500);
/// Between the beginnings of two requests.
const PERIOD: Duration = Duration::from_secs(1);
/// Between the beginning of a write that was refused, because the lease is another one by now, and the read that follows.
const REFUSED: Duration = Duration::from_millis(100);
/// Deadline of a request. A connection that hangs leaves the leader time for another one.
pub const REQUEST_DEADLINE: Duration = Duration::from_millis(1500);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing, for so long.
    Wait(Duration),
    /// Read the lease, with this deadline.
    Read(Duration),
    /// Write [`Election::claim`], with this deadline.
    Write(Duration),
    /// End: this replica led, and may not lead any more.
    End(Lost),
}

/// Why a leader may not lead any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No request that renewed the lease began within the renew deadline.
    #[error("it was not renewed within {RENEW_DEADLINE:?}")]
    NotRenewed,
    /// Another replica holds it.
    #[error("{0} holds it")]
    Held(String),
    /// Somebody removed the holder, or the lease.
    #[error("somebody removed its holder")]
    Removed,
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    /// The lease in the last answer (`None`: there is none), and when this replica first saw it as it is now.
    seen: Option<(Option<Lease>, Instant)>,
    /// A request failed since then, so the lease may be another one by now.
    outdated: bool,
    /// When the last request that took or renewed the lease began. `Some`: this replica leads, or led.
    renewed: Option<Instant>,
    /// When the next request is due.
    due: Instant,
}

impl Election {
    /// A replica that knows nothing yet. No two processes have the same identity at the same time.
    pub fn new(identity: &str, now: Instant) -> Self {
        Self {
            identity: identity.into(),
            seen: None,
            outdated: false,
            renewed: None,
            due: now,
        }
    }

    /// What to do now. A process that was frozen asks this first: the renew deadline comes before everything else.
    pub fn next(&self, now: Instant) -> Act {
        let mut end = None;
        if let Some(renewed) = self.renewed {
            let deadline = renewed + RENEW_DEADLINE;
            if now >= deadline {
                return Act::End(Lost::NotRenewed);
            }
            if !self.outdated && !self.is_own() {
                return Act::End(self.holder().map_or(Lost::Removed, |holder| Lost::Held(holder.into())));
            }
            end = Some(deadline - now);
        }
        let at_most = |time: Duration| end.map_or(time, |end| time.min(end));
        if now < self.due {
            return Act::Wait(at_most(self.due - now));
        }
        let is_free = self.free_at().is_some_and(|free| now >= free);
        match !self.outdated && (self.is_own() || is_free) {
            true => Act::Write(at_most(REQUEST_DEADLINE)),
            false => Act::Read(at_most(REQUEST_DEADLINE)),
        }
    }

    /// The API server showed the lease; `None`: there is none. `started`: when the request began.
    pub fn observe(&mut self, mut lease: Option<Lease>, started: Instant, now: Instant) {
        if let Some(lease) = &mut lease {
            // A write with this field would claim fields for others.
            lease.metadata.managed_fields = None;
        }
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != lease) {
            self.seen = Some((lease, now));
        }
        self.outdated = false;
        self.due = match self.free_at() {
            _ if self.is_own() => now,
            Some(free) => free.max(now).min(started + PERIOD),
            None => started + PERIOD,
        };
    }

    /// The API server accepted [`Election::claim`], and answered with this lease. `started`: when the request began.
    pub fn wrote(&mut self, lease: Lease, started: Instant, now: Instant) {
        // A replica that creates the Lease waits like all others. Somebody may have deleted it while another replica leads: that one ends meanwhile.
        let is_created = self.lease().is_none();
        // Otherwise the answer comes too late. A leader ends; a replica that did not lead must not begin.
        if !is_created && now < started + RENEW_DEADLINE {
            self.renewed = Some(started);
        }
        self.observe(Some(lease), started, now);
        self.due = started + PERIOD;
    }

    /// A request failed, or got no answer. `refused`: the lease is not the one that was to be replaced.
    pub fn failed(&mut self, refused: bool, started: Instant) {
        self.outdated = true;
        self.due = started + if refused { REFUSED } else { PERIOD };
    }

    /// What to write to take or renew the lease that was seen. It has that lease's resourceVersion: only one replica can replace it. `wall`: the wall
    /// clock, for people and for operators of earlier versions. No rule here reads it.
    pub fn claim(&self, wall: Timestamp) -> Lease {
        let mut lease = self.lease().cloned().unwrap_or_default();
        lease.metadata.name = Some(names::LEASE.into());
        let before = lease.spec.take();
        let transitions = before.as_ref().map(|spec| spec.lease_transitions.unwrap_or(0));
        let spec = match before {
            Some(spec) if self.is_own() => spec,
            before => LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                acquire_time: Some(MicroTime(wall)),
                lease_transitions: Some(transitions.map_or(0, |before| before.saturating_add(1))),
                ..before.unwrap_or_default()
            },
        };
        lease.spec = Some(LeaseSpec {
            renew_time: Some(MicroTime(wall)),
            lease_duration_seconds: Some(LEASE_SECONDS),
            ..spec
        });
        lease
    }

    /// What to write to give the lease back; `None`: this replica does not hold it. Without a holder and times: an operator of an earlier version takes
    /// an empty name for the name of a holder.
    pub fn given_back(&self) -> Option<Lease> {
        let mut lease = self.lease().filter(|_| self.is_own())?.clone();
        lease.spec = Some(LeaseSpec {
            holder_identity: None,
            acquire_time: None,
            renew_time: None,
            lease_duration_seconds: None,
            ..lease.spec.unwrap_or_default()
        });
        Some(lease)
    }

    /// Whether this replica leads.
    pub fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now < renewed + RENEW_DEADLINE)
    }

    /// Whether the API server has answered about the lease.
    pub fn is_answered(&self) -> bool {
        self.seen.is_some()
    }

    /// When this replica may write the lease. One that was given back, or is not there: at once. Otherwise once it was seen unchanged for as long as it
    /// is valid, on this replica's own clock.
    fn free_at(&self) -> Option<Instant> {
        let (lease, since) = self.seen.as_ref()?;
        if self.holder().is_none() {
            return Some(*since);
        }
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let named = Duration::from_secs(seconds.unwrap_or(0).max(0).unsigned_abs().into());
        Some(*since + named.clamp(LEASE, LONGEST_LEASE))
    }

    /// Whether this process holds the lease. A lease with this replica's name that it did not take itself is another's: another process has the name.
    fn is_own(&self) -> bool {
        self.renewed.is_some() && self.holder() == Some(&self.identity)
    }

    fn holder(&self) -> Option<&str> {
        let holder = self.lease()?.spec.as_ref()?.holder_identity.as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref()?.0.as_ref()
    }
}
