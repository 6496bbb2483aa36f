//! The lease of the one writer: the agents' own rules, with the time of the simulation.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use multimaster::agent::lease::{Lease, Verdict};
use multimaster::wire::agent::{LeaseRenewal, Report};

use crate::invariants::Invariant;
use crate::model::member::{Frozen, Mysqld};
use crate::world::World;

/// Two members may take writes for so many ticks: a frozen one that thaws is fenced by its agent, which was frozen too.
const OVERLAP: u64 = 2;

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
                    agent.lease.confirmed_by_all(now);
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

    fn others_confirm(&mut self, at: usize, now: Instant) -> bool {
        let writer = u8::try_from(at).unwrap();
        let terms = self.members[at].agent.as_ref().and_then(|agent| agent.terms.clone());
        let Some(terms) = terms else { return false };
        let asked = if terms.ring.is_empty() {
            &terms.members
        } else {
            &terms.ring
        };
        let is_asked = |other: &usize| asked.contains(&address(u8::try_from(*other).unwrap()));
        let others: Vec<usize> = (0..self.members.len()).filter(is_asked).collect();
        let mut all = !others.is_empty();
        for other in others {
            let reached = self.cut[at][other] == 0 && self.members[other].agent_answers();
            let agent = self.members[other].agent.as_mut().filter(|_| reached);
            all &= agent.is_some_and(|agent| agent.lease.confirm(writer, now));
        }
        all
    }
}
