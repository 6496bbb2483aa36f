//! With one writer (`spec.writes: SingleWriter`): may this member still be it? (`docs/ring.md`, "One writer".)
//!
//! The writer holds a lease. The operator renews it whenever it asks for the report; while there is no operator all other members of the ring
//! together can. Without it the agent fences its server, or kills it.

pub mod watch;

use std::time::{Duration, Instant};

use crate::wire::agent::{LeaseReport, Terms};

/// In the last quarter of the lease the other agents are asked. They have as long to answer.
const LAST_PART: u32 = 4;

/// What an agent knows of the one writer. Times are this agent's own.
#[derive(Clone, Debug)]
pub struct Lease {
    own: u8,
    began: Instant,
    told: Option<(u8, Duration)>,
    until: Option<Instant>,
    confirmed: Option<Instant>,
    wrote: bool,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody said that only one member takes writes.
    Free,
    /// This member is the writer.
    Held,
    /// It is, and its lease soon ends.
    Ending,
    /// It was the writer until then; nobody has confirmed it since.
    Ended(Option<Instant>),
    /// Another member is the writer.
    Reader,
}

impl Lease {
    /// Of the member with this ordinal, whose agent began just now.
    pub fn new(own: u8, began: Instant) -> Self {
        Self {
            own,
            began,
            told: None,
            until: None,
            confirmed: None,
            wrote: false,
        }
    }

    /// The operator said who the writer is.
    pub fn hear(&mut self, terms: &Terms, now: Instant) {
        let lasts = Duration::from_secs(terms.lease_seconds.into());
        self.told = terms.writer.map(|writer| (writer, lasts));
        if terms.writer != Some(self.own) {
            self.until = None;
            return;
        }
        // A clock that runs ahead of this agent's is that of the one before it.
        let heard = terms
            .clock
            .and_then(|clock| self.began.checked_add(Duration::from_millis(clock)));
        if let Some(heard) = heard.filter(|heard| *heard <= now) {
            self.until = self.until.max(Some(heard + lasts));
            self.wrote = true;
        }
    }

    /// All other members of the ring were asked at this time, and confirm that this one is the writer.
    pub fn confirmed_by_all(&mut self, asked: Instant) {
        if let Some((writer, lasts)) = self.told
            && writer == self.own
        {
            self.until = self.until.max(Some(asked + lasts));
        }
    }

    /// Whether, as far as this agent was told, that member is the writer.
    pub fn confirm(&mut self, writer: u8, now: Instant) -> bool {
        let confirms = self.told.is_none_or(|(told, _)| told == writer);
        if confirms {
            self.confirmed = Some(now);
        }
        confirms
    }

    /// What follows for this member's server.
    pub fn verdict(&self, now: Instant) -> Verdict {
        match (self.told, self.until) {
            (None, _) => Verdict::Free,
            (Some((writer, _)), _) if writer != self.own => Verdict::Reader,
            (Some((_, lasts)), Some(until)) if now + lasts / LAST_PART < until => Verdict::Held,
            (Some(_), Some(until)) if now < until => Verdict::Ending,
            (Some(_), until) => Verdict::Ended(until),
        }
    }

    /// For the operator.
    pub fn report(&self, now: Instant) -> Option<LeaseReport> {
        let (writer, _) = self.told?;
        Some(LeaseReport {
            writer,
            held: matches!(self.verdict(now), Verdict::Held | Verdict::Ending),
            silent_milliseconds: self.confirmed.map(|at| milliseconds(now.duration_since(at))),
        })
    }

    /// Whether it has had the lease since this was last asked, and so may be open.
    pub fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    fn lasts(&self) -> Duration {
        self.told.map(|(_, lasts)| lasts).unwrap_or_default()
    }
}

/// Whole milliseconds.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IsolationPolicy;

    const OWN: u8 = 1;

    fn terms(writer: Option<u8>, clock: Option<u64>) -> Terms {
        Terms {
            version: 1,
            policy: IsolationPolicy::KeepWriting,
            after_seconds: 10,
            members: Vec::new(),
            reads: false,
            writer,
            lease_seconds: 3,
            clock,
            ring: Vec::new(),
        }
    }

    /// A lease that was renewed by a report of the agent's second second, as it is after so many seconds.
    fn renewed(after: f64) -> (Lease, Instant) {
        let began = Instant::now();
        let mut lease = Lease::new(OWN, began);
        lease.hear(&terms(Some(OWN), Some(2000)), began + Duration::from_secs(4));
        (lease, began + Duration::from_secs_f64(after))
    }

    #[test]
    fn it_counts_from_what_the_operator_had_heard_and_not_from_what_it_says() {
        for (after, expected) in [(4.0, Verdict::Held), (4.5, Verdict::Ending)] {
            let (lease, now) = renewed(after);
            assert_eq!(lease.verdict(now), expected, "{after}");
        }
        let (lease, now) = renewed(5.0);
        assert_eq!(lease.verdict(now), Verdict::Ended(Some(now)));
        assert!(!lease.report(now).unwrap().held);
    }

    #[test]
    fn what_an_operator_had_heard_of_an_earlier_agent_renews_nothing() {
        let (mut lease, now) = renewed(6.0);
        for clock in [Some(60_000), Some(u64::MAX), None] {
            lease.hear(&terms(Some(OWN), clock), now);
        }
        assert!(matches!(lease.verdict(now), Verdict::Ended(_)));
    }

    #[test]
    fn it_ends_at_once_when_another_is_the_writer_and_does_not_come_back_with_an_old_word() {
        let (mut lease, now) = renewed(3.0);
        lease.hear(&terms(Some(0), Some(2500)), now);
        assert_eq!(lease.verdict(now), Verdict::Reader);
        lease.confirmed_by_all(now);
        assert_eq!(lease.verdict(now), Verdict::Reader);
        lease.hear(&terms(Some(OWN), None), now);
        assert_eq!(lease.verdict(now), Verdict::Ended(None));
    }

    #[test]
    fn without_an_operator_the_others_renew_it() {
        let (mut lease, now) = renewed(4.5);
        lease.confirmed_by_all(now);
        assert_eq!(lease.verdict(now + Duration::from_secs(1)), Verdict::Held);
    }

    #[test]
    fn an_agent_confirms_whom_it_was_told_and_anybody_before() {
        let began = Instant::now();
        let mut lease = Lease::new(OWN, began);
        assert!(lease.confirm(0, began));
        assert_eq!(lease.report(began), None);
        lease.hear(&terms(Some(2), None), began);
        let later = began + Duration::from_millis(1500);
        assert!(!lease.confirm(0, later));
        let silent = lease.report(later).unwrap().silent_milliseconds;
        assert_eq!(silent, Some(1500));
        assert!(lease.confirm(2, later));
    }

    #[test]
    fn where_all_take_writes_there_is_no_lease() {
        let (mut lease, now) = renewed(3.0);
        lease.hear(&terms(None, Some(2500)), now);
        assert_eq!((lease.verdict(now), lease.report(now)), (Verdict::Free, None));
    }
}
