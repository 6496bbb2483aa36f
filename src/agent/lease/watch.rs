//! Enforces the lease: renews it with the word of the other members, and fences the server when it has ended.

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

use super::{LAST_PART, Verdict};
use crate::agent::member::{Member, Shared};
use crate::agent::sql;
use crate::api::status::FencedItself;
use crate::names::{self, keys};
use crate::wire::agent::{PATH_CONFIRM, Phase};
use crate::wire::io::client::AgentClient;

/// How often it is asked whether the lease still runs: after a standstill clients get in for so long.
const PERIOD: Duration = Duration::from_millis(100);

/// For the server to become fenced; then it is killed. Part of the margin that a new writer waits for beyond the lease.
const FENCE_DEADLINE: Duration = Duration::from_millis(700);

/// A server that is known to be fenced is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
        && state.is_fenced()
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
