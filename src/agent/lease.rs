//! The lease of the one writer (`spec.writes: SingleWriter`; `docs/ring.md`, "One writer").
//!
//! The writer holds a lease. The operator renews it with each request for the report. While there is no operator, more than half of the voters can
//! renew it. A writer without its lease is fenced by its agent, or its mysqld is killed.

pub mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::api::voters::Voters;
use crate::wire::agent::LeaseReport;
use crate::wire::lease::{Confirm, LeaseRenewal, Voter};

/// In the last quarter of the lease the agent asks the other agents. They have a quarter of the lease to answer.
const LAST_PART: u32 = 4;

/// What an agent knows of the one writer. All times are on this agent's clock.
#[derive(Clone, Debug)]
pub struct Lease {
    own: u8,
    began: Instant,
    /// The writer by the operator's last renewal, and how long its lease lasts; `None`: all members take writes, or there was no renewal.
    writer: Option<(u8, Duration)>,
    /// When this member's own lease ends, or has ended.
    until: Option<Instant>,
    /// When this agent last confirmed other members as the writer, by ordinal.
    last_confirmed: BTreeMap<u8, Instant>,
    /// The lease was renewed since [`Lease::take_wrote`], so the server may be open.
    wrote: bool,
    /// The voters of the renewal with the latest clock value, and that value. None while this member is not the writer, and from an operator that
    /// names none.
    voters: Vec<Voter>,
    voters_as_of: u64,
    /// See [`LeaseRenewal::knowing`].
    knowing: bool,
}

/// Whom the writer asks to confirm it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The other voters.
    pub others: Vec<Voter>,
    /// How many of them have to say yes.
    pub needed: usize,
    /// Only those count that know the writer from an operator.
    pub knowing: bool,
}

/// What follows from the lease for this member's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No operator said that only one member takes writes.
    Free,
    /// This member is the writer.
    Held,
    /// This member is the writer, and its lease is in its last quarter.
    Ending,
    /// This member is the writer, and its lease ended at this time; `None`: it has had none.
    Ended(Option<Instant>),
    /// Another member is the writer.
    Reader,
}

impl Lease {
    /// The lease of the member with this ordinal. `began`: when its agent began.
    pub fn new(own: u8, began: Instant) -> Self {
        Self {
            own,
            began,
            writer: None,
            until: None,
            last_confirmed: BTreeMap::new(),
            wrote: false,
            voters: Vec::new(),
            voters_as_of: 0,
            knowing: true,
        }
    }

    /// Takes a lease renewal of the operator.
    pub fn renew(&mut self, renewal: &LeaseRenewal, now: Instant) {
        let lasts = Duration::from_secs(renewal.lease_seconds.into());
        self.writer = renewal.writer.map(|writer| (writer, lasts));
        if renewal.writer != Some(self.own) {
            (self.until, self.voters, self.voters_as_of) = (None, Vec::new(), 0);
            return;
        }
        // A clock value ahead of this agent's clock is from the agent before it, and renews nothing.
        let reported = renewal
            .clock
            .and_then(|clock| self.began.checked_add(Duration::from_millis(clock)));
        if let Some(reported) = reported.filter(|reported| *reported <= now) {
            self.until = self.until.max(Some(reported + lasts));
            self.wrote = true;
            // An operator that was frozen knows an earlier clock value, and earlier voters.
            if let Some(clock) = renewal.clock.filter(|clock| *clock >= self.voters_as_of) {
                (self.voters, self.voters_as_of, self.knowing) = (renewal.voters.clone(), clock, renewal.knowing);
            }
        }
    }

    /// Whom to ask before the lease ends. `None`: no operator has named voters.
    pub fn vote(&self) -> Option<Vote> {
        let voters = self.counted();
        let others = self.voters.iter().filter(|voter| voter.ordinal != self.own).copied();
        (!voters.is_empty()).then(|| Vote {
            others: others.collect(),
            needed: voters.needed().max(1),
            knowing: self.knowing,
        })
    }

    fn counted(&self) -> Voters {
        self.voters.iter().map(|voter| voter.ordinal).collect()
    }

    /// Renews the lease from this time on: others were asked then, and enough of them confirm this member as the writer.
    pub fn confirmed(&mut self, asked: Instant) {
        if let Some((writer, lasts)) = self.writer
            && writer == self.own
        {
            self.until = self.until.max(Some(asked + lasts));
        }
    }

    /// Whether this agent confirms that member as the writer. It does if no renewal named another one.
    pub fn confirm(&mut self, question: Confirm, now: Instant) -> bool {
        let is_meant = question.voter.is_none_or(|voter| voter == self.own);
        let knows = match self.writer {
            Some((known, _)) => known == question.writer,
            None => !question.knowing,
        };
        let confirms = is_meant && knows;
        if confirms {
            self.last_confirmed.insert(question.writer, now);
        }
        confirms
    }

    /// The verdict at this time.
    pub fn verdict(&self, now: Instant) -> Verdict {
        match (self.writer, self.until) {
            (None, _) => Verdict::Free,
            (Some((writer, _)), _) if writer != self.own => Verdict::Reader,
            (Some((_, lasts)), Some(until)) if now + lasts / LAST_PART < until => Verdict::Held,
            (Some(_), Some(until)) if now < until => Verdict::Ending,
            (Some(_), until) => Verdict::Ended(until),
        }
    }

    /// The lease in the agent's report; `None` where all members take writes.
    pub fn report(&self, now: Instant) -> Option<LeaseReport> {
        let (writer, _) = self.writer?;
        let others = self
            .last_confirmed
            .iter()
            .filter(|(confirmed, _)| **confirmed != writer);
        let last = others.map(|(_, at)| *at).max();
        Some(LeaseReport {
            writer,
            held: matches!(self.verdict(now), Verdict::Held | Verdict::Ending),
            since_confirmed_milliseconds: last.map(|at| milliseconds(now.duration_since(at))),
            voters: Some(self.counted()),
        })
    }

    /// Whether the lease was renewed since this was last called. If so, the server may be open.
    pub fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    fn lasts(&self) -> Duration {
        self.writer.map(|(_, lasts)| lasts).unwrap_or_default()
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

    fn renewal(writer: Option<u8>, clock: Option<u64>) -> LeaseRenewal {
        LeaseRenewal {
            operator: 0,
            number: 0,
            version: 1,
            policy: IsolationPolicy::KeepWriting,
            after_seconds: 10,
            members: Vec::new(),
            reads: false,
            writer,
            lease_seconds: 3,
            clock,
            ring: Vec::new(),
            voters: Vec::new(),
            knowing: true,
        }
    }

    fn ask(writer: u8) -> Confirm {
        Confirm {
            writer,
            voter: None,
            knowing: false,
        }
    }

    /// A lease that was renewed with the clock value 2 s, and the time so many seconds after the agent began.
    fn renewed(after: f64) -> (Lease, Instant) {
        let began = Instant::now();
        let mut lease = Lease::new(OWN, began);
        lease.renew(&renewal(Some(OWN), Some(2000)), began + Duration::from_secs(4));
        (lease, began + Duration::from_secs_f64(after))
    }

    #[test]
    fn it_counts_from_the_report_that_the_operator_had_and_not_from_the_renewal() {
        for (after, expected) in [(4.0, Verdict::Held), (4.5, Verdict::Ending)] {
            let (lease, now) = renewed(after);
            assert_eq!(lease.verdict(now), expected, "{after}");
        }
        let (lease, now) = renewed(5.0);
        assert_eq!(lease.verdict(now), Verdict::Ended(Some(now)));
        assert!(!lease.report(now).unwrap().held);
    }

    #[test]
    fn a_clock_value_of_an_earlier_agent_renews_nothing() {
        let (mut lease, now) = renewed(6.0);
        for clock in [Some(60_000), Some(u64::MAX), None] {
            lease.renew(&renewal(Some(OWN), clock), now);
        }
        assert!(matches!(lease.verdict(now), Verdict::Ended(_)));
    }

    #[test]
    fn it_ends_at_once_when_another_is_the_writer_and_an_old_renewal_does_not_bring_it_back() {
        let (mut lease, now) = renewed(3.0);
        lease.renew(&renewal(Some(0), Some(2500)), now);
        assert_eq!(lease.verdict(now), Verdict::Reader);
        lease.confirmed(now);
        assert_eq!(lease.verdict(now), Verdict::Reader);
        lease.renew(&renewal(Some(OWN), None), now);
        assert_eq!(lease.verdict(now), Verdict::Ended(None));
    }

    #[test]
    fn without_an_operator_the_others_renew_it() {
        let (mut lease, now) = renewed(4.5);
        lease.confirmed(now);
        assert_eq!(lease.verdict(now + Duration::from_secs(1)), Verdict::Held);
    }

    #[test]
    fn an_agent_confirms_the_writer_that_it_knows_and_any_writer_before_that() {
        let began = Instant::now();
        let mut lease = Lease::new(OWN, began);
        assert!(lease.confirm(ask(0), began));
        assert_eq!(lease.report(began), None);
        lease.renew(&renewal(Some(2), None), began);
        let later = began + Duration::from_millis(1500);
        assert!(!lease.confirm(ask(0), later));
        let since = lease.report(later).unwrap().since_confirmed_milliseconds;
        assert_eq!(since, Some(1500));
        // That it confirms the present one does not keep the present one waiting.
        assert!(lease.confirm(ask(2), later));
        let since = lease.report(later).unwrap().since_confirmed_milliseconds;
        assert_eq!(since, Some(1500));
    }

    #[test]
    fn a_voter_answers_for_itself_and_may_have_to_know_the_writer() {
        let now = Instant::now();
        let mut lease = Lease::new(OWN, now);
        let question = |voter: u8, knowing: bool| Confirm {
            voter: Some(voter),
            knowing,
            ..ask(0)
        };
        assert!(!lease.confirm(question(2, false), now), "its address was another one's");
        assert!(
            !lease.confirm(question(OWN, true), now),
            "no operator has named the writer"
        );
        assert_eq!(lease.report(now), None);
        assert!(lease.confirm(question(OWN, false), now));
        lease.renew(&renewal(Some(0), None), now);
        assert!(lease.confirm(question(OWN, true), now));
    }

    #[test]
    fn more_than_half_of_the_voters_are_asked_for_and_an_earlier_set_does_not_come_back() {
        let began = Instant::now();
        let mut lease = Lease::new(OWN, began);
        let now = began + Duration::from_secs(4);
        let named = |ordinals: &[u8], clock: Option<u64>| LeaseRenewal {
            voters: ordinals
                .iter()
                .map(|ordinal| Voter {
                    ordinal: *ordinal,
                    address: None,
                })
                .collect(),
            knowing: ordinals.len() > 2,
            ..renewal(Some(OWN), clock)
        };
        lease.renew(&named(&[0, 1, 2], None), now);
        assert_eq!(lease.vote(), None, "without a clock value it may be of any time");
        for (ordinals, clock, expected) in [
            (&[0, 1, 2][..], 1000, Some((2, 1, true))),
            (&[0, 1], 2000, Some((1, 1, false))),
            (&[0, 1, 2], 1500, Some((1, 1, false))),
            (&[0, 1, 2, 3, 4], 2000, Some((4, 2, true))),
            (&[], 2500, None),
        ] {
            lease.renew(&named(ordinals, Some(clock)), now);
            let vote = lease.vote().map(|vote| (vote.others.len(), vote.needed, vote.knowing));
            assert_eq!(vote, expected, "{ordinals:?} as of {clock}");
        }
    }

    #[test]
    fn where_all_take_writes_there_is_no_lease() {
        let (mut lease, now) = renewed(3.0);
        lease.renew(&renewal(None, Some(2500)), now);
        assert_eq!((lease.verdict(now), lease.report(now)), (Verdict::Free, None));
    }
}
