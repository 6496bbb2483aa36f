//! With one writer (`spec.writes: SingleWriter`): may this member still be it? (`docs/ring.md`, "One writer".)
//!
//! The writer holds a lease. The operator renews it whenever it asks for the report; while there is no operator all other members of the ring
//! together can. Without it the agent fences its server, or kills it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::member::{Member, Shared};
use super::report::{LeaseReport, PATH_CONFIRM, Phase, Terms};
use super::sql;
use crate::api::status::FencedItself;
use crate::members::AgentClient;
use crate::names::{self, keys};

/// How often it is asked whether the lease still runs: after a standstill clients get in for so long.
const PERIOD: Duration = Duration::from_millis(100);
/// In the last quarter of the lease the other agents are asked. They have as long to answer.
const LAST_PART: u32 = 4;
/// For the server to become fenced; then it is killed. Part of the margin that a new writer waits for beyond the lease.
const FENCE_DEADLINE: Duration = Duration::from_millis(700);
/// A server that is known to be fenced is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

/// Enforces the lease for as long as the agent runs.
pub async fn watch(member: Arc<Member>, shared: Arc<Shared>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen_fenced: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let verdict = shared.lease().verdict(now);
        match verdict {
            Verdict::Free | Verdict::Held => seen_fenced = None,
            Verdict::Ending => {
                seen_fenced = None;
                if others_confirm(&member, &shared).await {
                    shared.lease().confirmed_by_all(now);
                }
            }
            Verdict::Ended(_) | Verdict::Reader => {
                let wrote = shared.lease().take_wrote();
                if !wrote && seen_fenced.is_some_and(|seen| now.duration_since(seen) < LOOK_AGAIN) {
                    continue;
                }
                let fenced = fence_if_open(&shared, verdict, wrote).await;
                seen_fenced = fenced.then(Instant::now);
                shared.lease().wrote |= wrote && !fenced;
            }
        }
    }
}

/// Every other member of the ring says so, as far as the operator last said who they are.
async fn others_confirm(member: &Member, shared: &Shared) -> bool {
    let Some(terms) = shared.terms() else { return false };
    let deadline = shared.lease().lasts() / LAST_PART;
    let asked = join_all(terms.ring.iter().map(|address| confirms(member, *address, deadline))).await;
    let refusal = asked.iter().find_map(|answer| answer.as_ref().err());
    if let Some(error) = refusal {
        warn!("no operator confirms that this member is the writer, nor does every other member: {error:#}");
    }
    refusal.is_none()
}

async fn confirms(member: &Member, address: IpAddr, deadline: Duration) -> anyhow::Result<()> {
    let authority = member.args.tls.join("ca.crt");
    let authority = std::fs::read(&authority).with_context(|| format!("cannot read {}", authority.display()))?;
    // The certificate is that of all pods of the cluster.
    let host = names::service_host(&member.args.cluster, &member.args.pod_namespace);
    let token = member.credential(keys::AGENT_TOKEN)?;
    let client = AgentClient::new(address, &host, member.args.port, &authority, token)?;
    let path = format!("{PATH_CONFIRM}?writer={}", member.ordinal);
    client
        .ask(&path, deadline)
        .await
        .with_context(|| format!("the agent at {address}"))
}

/// Answers whether the server is known to be fenced.
async fn fence_if_open(shared: &Shared, verdict: Verdict, wrote: bool) -> bool {
    // Until mysqld answers it is fenced, and during a clone clients are kept out by other means.
    if shared.phase() != Phase::Running {
        return true;
    }
    // One that has been the writer until now is open, and has no time to lose.
    if !wrote
        && let Ok(state) = shared.sql.probe(FENCE_DEADLINE).await
        && state.super_read_only
    {
        return true;
    }
    let fenced = fence(shared).await;
    // One that never was the writer is fenced since it started, or the operator fences it.
    let killed = !fenced && wrote && shared.phase() == Phase::Running;
    if killed {
        shared.kill.notify_one();
    }
    match verdict {
        // After it was done: who finds it open takes the word for past.
        Verdict::Ended(until) if fenced || killed => say(shared, until),
        _ => info!(?verdict, fenced, "another member is the writer"),
    }
    fenced
}

fn say(shared: &Shared, until: Option<Instant>) {
    let silent = until.map(|until| until.elapsed()).unwrap_or_default() + shared.lease().lasts();
    let (now, silent) = (
        Timestamp::now(),
        SignedDuration::try_from(silent).unwrap_or(SignedDuration::ZERO),
    );
    warn!("nobody has confirmed for {silent:#} that this member is the writer: fenced");
    shared.set_fenced_itself(Some(FencedItself {
        cut_off_since: Time(now - silent),
        at: Time(now),
    }));
}

/// Fences the server; answers whether it could be done in time.
pub async fn fence(shared: &Shared) -> bool {
    match timeout(FENCE_DEADLINE, sql::fence(&shared.sql, FENCE_DEADLINE)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            warn!("cannot fence the server: {error:#}");
            false
        }
        Err(_) => {
            warn!("the server was not fenced within {FENCE_DEADLINE:?}");
            false
        }
    }
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
