//! The lease of the one writer: the agents' own rules, with the time of the simulation.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use multimaster::agent::lease::{Lease, Verdict};
use multimaster::wire::agent::Report;
use multimaster::wire::lease::{Confirm, LeaseRenewal};

use crate::invariants::Invariant;
use crate::model::member::{Frozen, Mysqld};
use crate::world::World;

/// Two members may take writes for so many ticks: a frozen one that thaws is fenced by its agent, which was frozen too.
const OVERLAP: u64 = 2;

/// `isolation.leaseSeconds`, and a look of the agent.
const LEASE: u64 = 31;

/// The beginning of time.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

fn instant(ticks: u64) -> Instant {
    *BEGINNING + Duration::from_millis(ticks * 100)
}

fn address(ordinal: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, ordinal).into()
}

/// An agent as long as it runs.
#[derive(Clone, Debug)]
pub struct Agent {
    began: u64,
    lease: Lease,
    terms: Option<LeaseRenewal>,
}

impl Agent {
    pub fn new(ordinal: u8, now: u64) -> Self {
        Self {
            began: now,
            lease: Lease::new(ordinal, instant(now)),
            terms: None,
        }
    }

    /// Whom it asks to confirm it, how many must, and whether they must know it: as `others_confirm` in `src/agent/lease/watch.rs`.
    fn asks(&self, all: bool) -> (Vec<usize>, usize, bool) {
        if let Some(mut vote) = self.lease.vote() {
            if all {
                vote.needed = vote.others.len();
            }
            let others = vote.others.iter().map(|voter| usize::from(voter.ordinal));
            return (others.collect(), vote.needed, vote.knowing);
        }
        let terms = self.terms.iter();
        let addresses = terms.flat_map(|terms| {
            if terms.ring.is_empty() {
                &terms.members
            } else {
                &terms.ring
            }
        });
        let ordinal = |asked: &IpAddr| (0..9).find(|ordinal| address(*ordinal) == *asked);
        let others: Vec<usize> = addresses.filter_map(ordinal).map(usize::from).collect();
        let all = others.len().max(1);
        (others, all, false)
    }

    /// It is to serve reads.
    pub fn reads(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.reads)
    }
}

impl World {
    /// The operator says its terms.
    pub fn tell(&mut self, operator: usize, ordinal: u8, pod: u64) {
        let (cluster, _) = self.cached(operator);
        let heard = self.operators[operator].heard.get(&ordinal);
        let clock = heard.filter(|(heard, ..)| *heard == pod).map(|(_, clock, _)| *clock);
        let others: Vec<(u8, IpAddr)> = (0..self.setup.members)
            .filter(|other| *other != ordinal)
            .map(|other| (other, address(other)))
            .collect();
        let terms = LeaseRenewal::of(&cluster, ordinal, clock, &others);
        let now = instant(self.now);
        if let Some(agent) = &mut self.members[usize::from(ordinal)].agent {
            agent.lease.renew(&terms, now);
            agent.terms = Some(terms);
        }
    }

    pub fn with_lease(&self, at: usize, report: Report) -> Report {
        let Some(agent) = &self.members[at].agent else {
            return report;
        };
        Report {
            clock: (self.now - agent.began) * 100,
            lease: agent.lease.report(instant(self.now)),
            ..report
        }
    }

    /// For how long this operator has not heard the agent; `answered` by this pod just now.
    pub fn since_contact(&mut self, operator: usize, ordinal: u8, answered: Option<u64>) -> SignedDuration {
        let now = self.now;
        let began = self.members[usize::from(ordinal)]
            .agent
            .as_ref()
            .map_or(now, |agent| agent.began);
        let it = &mut self.operators[operator];
        let first = *it.first_look.get_or_insert(now);
        if let Some(pod) = answered {
            it.heard.insert(ordinal, (pod, (now - began) * 100, now));
        }
        let since = it.heard.get(&ordinal).map_or(first, |(_, _, at)| *at);
        SignedDuration::from_millis(i64::try_from((now - since) * 100).unwrap())
    }

    /// One tick of all agents.
    pub fn leases(&mut self) {
        for at in 0..self.members.len() {
            let confirmable = self.is_confirmable(at);
            let since = &mut self.judge.confirmable[at];
            *since = if confirmable { *since + 1 } else { 0 };
            if self.members[at].agent_answers() && !self.flaws.keeps_writing {
                self.enforce(at);
            }
        }
        let writers = self.members.iter().filter(|member| member.takes_writes()).count();
        let two = self.cluster.has_single_writer() && writers > 1;
        self.judge.two_writers = if two { self.judge.two_writers + 1 } else { 0 };
        if self.judge.two_writers > OVERLAP {
            self.fail(Invariant::OneWriter, || format!("{writers} members take writes"));
        }
    }

    fn enforce(&mut self, at: usize) {
        let now = instant(self.now);
        let Some(agent) = &mut self.members[at].agent else {
            return;
        };
        match agent.lease.verdict(now) {
            Verdict::Free | Verdict::Held => {}
            Verdict::Ending => {
                if self.others_confirm(at, now)
                    && let Some(agent) = &mut self.members[at].agent
                {
                    agent.lease.confirmed(now);
                }
            }
            Verdict::Ended(_) | Verdict::Reader => {
                let wrote = agent.lease.take_wrote();
                let it = &mut self.members[at];
                if it.mysqld != Mysqld::Running || it.super_read_only {
                    return;
                }
                match it.frozen {
                    Frozen::No => {
                        it.super_read_only = true;
                        if self.judge.confirmable[at] > LEASE {
                            self.fail(Invariant::HealthyWriter, || {
                                format!("{at} is fenced, and enough confirm it")
                            });
                        }
                        self.say(|| format!("{at} fences itself: it is not the writer any more"));
                    }
                    Frozen::Mysqld if wrote => {
                        self.say(|| format!("{at}: its agent kills mysqld"));
                        self.members[at].frozen = Frozen::No;
                        self.crash_mysqld(u8::try_from(at).unwrap());
                    }
                    Frozen::Mysqld | Frozen::Node => {}
                }
            }
        }
    }

    /// Whether enough of those that an agent asks confirm it, and those that do.
    fn others_confirm(&mut self, at: usize, now: Instant) -> bool {
        let writer = u8::try_from(at).unwrap();
        let agent = self.members[at].agent.as_ref();
        let Some(agent) = agent.filter(|agent| agent.terms.is_some()) else {
            return false;
        };
        let (asked, needed, knowing) = agent.asks(self.flaws.asks_all);
        let mut confirmed = 0;
        for other in asked.into_iter().filter(|other| *other != at) {
            let question = Confirm {
                writer,
                voter: Some(u8::try_from(other).unwrap()),
                knowing,
            };
            let reached = self.reaches(at, other);
            let agent = self.members[other].agent.as_mut().filter(|_| reached);
            confirmed += usize::from(agent.is_some_and(|agent| agent.lease.confirm(question, now)));
        }
        confirmed >= needed
    }

    /// Whether this member runs, is open as the one writer, and enough of its voters would confirm it now.
    fn is_confirmable(&self, at: usize) -> bool {
        let member = &self.members[at];
        let vote = member.agent.as_ref().filter(|_| member.takes_writes());
        let Some(vote) = vote.and_then(|agent| agent.lease.vote()) else {
            return false;
        };
        let writer = u8::try_from(at).unwrap();
        let would = |other: usize, voter: u8| {
            let agent = self.members[other].agent.as_ref().filter(|_| self.reaches(at, other));
            let question = Confirm {
                writer,
                voter: Some(voter),
                knowing: vote.knowing,
            };
            agent.is_some_and(|agent| agent.lease.clone().confirm(question, instant(self.now)))
        };
        let others = vote.others.iter();
        others
            .filter(|other| would(usize::from(other.ordinal), other.ordinal))
            .count()
            >= vote.needed
    }

    fn reaches(&self, at: usize, other: usize) -> bool {
        self.cut[at][other] == 0 && self.members[other].agent_answers()
    }
}
