//! Enforces the lease: asks the other members to confirm the writer before it ends, and fences the server once it has ended.

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
                    shared.lease().confirmed_by_all(now);
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

/// Whether every other member of the ring, by the operator's last renewal, confirms that this member is the writer. If it is alone in the ring,
/// whether every other member does: the operator may have chosen one that has come back since.
async fn others_confirm(member: &Member, shared: &Shared) -> bool {
    let Some(renewal) = shared.renewal() else { return false };
    let others = match renewal.ring.is_empty() {
        true => &renewal.members,
        false => &renewal.ring,
    };
    if others.is_empty() {
        return false;
    }
    let deadline = shared.lease().lasts() / LAST_PART;
    let asked = join_all(others.iter().map(|address| confirms(member, *address, deadline))).await;
    let refusal = asked.iter().find_map(|answer| answer.as_ref().err());
    if let Some(error) = refusal {
        warn!("no operator confirms that this member is the writer, nor does every other member: {error:#}");
    }
    refusal.is_none()
}

async fn confirms(member: &Member, address: IpAddr, deadline: Duration) -> anyhow::Result<()> {
    let authority = member.args.tls.join("ca.crt");
    let authority = std::fs::read(&authority).with_context(|| format!("cannot read {}", authority.display()))?;
    // All pods of the cluster have one certificate.
    let host = names::service_host(&member.args.cluster, &member.args.pod_namespace);
    let token = member.credential(keys::AGENT_TOKEN)?;
    let client = AgentClient::new(address, &host, member.args.port, &authority, token)?;
    let path = format!("{PATH_CONFIRM}?writer={}", member.ordinal);
    client
        .ask(&path, deadline)
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
        "no operator has confirmed for {unconfirmed:#} that this member is the writer, nor has every other member: fenced"
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
