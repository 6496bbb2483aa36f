//! Enforces the lease: asks the other members to confirm the writer before it ends, and fences the server once it has ended.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::{LAST_PART, Verdict};
use crate::agent::member::{Member, Shared};
use crate::agent::sql;
use crate::api::status::FencedItself;
use crate::names::{self, keys};
use crate::wire::agent::Phase;
use crate::wire::io::client::AgentClient;
use crate::wire::lease::Confirm;

/// How often the lease is checked. After a freeze clients can write for this long.
const PERIOD: Duration = Duration::from_millis(100);

/// How long the server has to become fenced. After that mysqld is killed. This time is part of the margin that a new writer waits beyond the lease.
const FENCE_DEADLINE: Duration = Duration::from_millis(700);

/// After this time a server that was fenced is checked again.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

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
                    shared.lease().confirmed(now);
                }
            }
            Verdict::Ended(_) | Verdict::Reader => {
                let wrote = shared.lease().take_wrote();
                if !wrote && seen_fenced.is_some_and(|seen| now.duration_since(seen) < CHECK_AGAIN) {
                    continue;
                }
                let fenced = fence_if_open(&shared, verdict, wrote).await;
                seen_fenced = fenced.then(Instant::now);
                shared.lease().wrote |= wrote && !fenced;
            }
        }
    }
}

/// Whether more than half of the voters confirm that this member is the writer. If no operator has named voters: whether every other member of the
/// ring does, by the operator's last renewal, or, if it is alone in the ring, every other member.
async fn others_confirm(member: &Member, shared: &Shared) -> bool {
    let Some(renewal) = shared.renewal() else { return false };
    let (vote, deadline) = {
        let lease = shared.lease();
        (lease.vote(), lease.lasts() / LAST_PART)
    };
    let writer = member.ordinal;
    let (questions, needed): (Vec<(IpAddr, Confirm)>, usize) = if let Some(vote) = vote {
        let others = vote.others.iter();
        let question = |voter: u8| Confirm {
            writer,
            voter: Some(voter),
            knowing: vote.knowing,
        };
        let questions = others.filter_map(|other| Some((other.address?, question(other.ordinal))));
        (questions.collect(), vote.needed)
    } else {
        let others = match renewal.ring.is_empty() {
            true => renewal.members,
            false => renewal.ring,
        };
        let question = Confirm {
            writer,
            voter: None,
            knowing: false,
        };
        let questions: Vec<_> = others.into_iter().map(|address| (address, question)).collect();
        let all = questions.len().max(1);
        (questions, all)
    };
    let asked = questions.into_iter();
    let asked = asked.map(|(address, question)| confirms(member, address, question, deadline));
    let mut answers: FuturesUnordered<_> = asked.collect();
    let (mut confirmed, mut refusal) = (0, None);
    // Not longer than it takes: one of the others may be frozen.
    while confirmed < needed
        && let Some(answer) = answers.next().await
    {
        match answer {
            Ok(()) => confirmed += 1,
            Err(error) => refusal = Some(error),
        }
    }
    if confirmed < needed {
        let why = refusal.map_or_else(String::new, |error| format!(": {error:#}"));
        warn!(
            "no operator confirms that this member is the writer, and of the {needed} others that it needs {confirmed} do{why}"
        );
    }
    confirmed >= needed
}

async fn confirms(member: &Member, address: IpAddr, question: Confirm, deadline: Duration) -> anyhow::Result<()> {
    let authority = member.args.tls.join("ca.crt");
    let authority = std::fs::read(&authority).with_context(|| format!("cannot read {}", authority.display()))?;
    // All pods of the cluster have one certificate.
    let host = names::service_host(&member.args.cluster, &member.args.pod_namespace);
    let token = member.credential(keys::AGENT_TOKEN)?;
    let client = AgentClient::new(address, &host, member.args.port, &authority, token)?;
    client
        .ask(&question.path(), deadline)
        .await
        .with_context(|| format!("the agent at {address}"))
}

/// Fences the server if it may be open. Returns whether it is known to be fenced.
async fn fence_if_open(shared: &Shared, verdict: Verdict, wrote: bool) -> bool {
    // Before mysqld answers it is fenced, and during a clone `read_only` keeps clients out.
    if shared.phase() != Phase::Running {
        return true;
    }
    // A server that was the writer until now is open: no time for a probe.
    if !wrote
        && let Ok(state) = shared.sql.probe(FENCE_DEADLINE).await
        && state.is_fenced()
    {
        return true;
    }
    let fenced = fence(shared).await;
    // A server that never was the writer is fenced since its start, or the operator fences it.
    let killed = !fenced && wrote && shared.phase() == Phase::Running;
    if killed {
        shared.kill.notify_one();
    }
    match verdict {
        // Noted after fencing: the watch for isolation removes the note of a server that it finds open.
        Verdict::Ended(until) if fenced || killed => note_fenced(shared, until),
        _ => info!(?verdict, fenced, "another member is the writer"),
    }
    fenced
}

/// Shows in the report that the agent has fenced its server.
fn note_fenced(shared: &Shared, until: Option<Instant>) {
    let unconfirmed = until.map(|until| until.elapsed()).unwrap_or_default() + shared.lease().lasts();
    let (now, unconfirmed) = (
        Timestamp::now(),
        SignedDuration::try_from(unconfirmed).unwrap_or(SignedDuration::ZERO),
    );
    warn!(
        "no operator has confirmed for {unconfirmed:#} that this member is the writer, nor have enough other members: fenced"
    );
    shared.set_fenced_itself(Some(FencedItself {
        cut_off_since: Time(now - unconfirmed),
        at: Time(now),
    }));
}

/// Fences the server. Returns whether that succeeded within [`FENCE_DEADLINE`].
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
