//! The keeper: a task beside the passes that renews the one writer's lease and checks HAProxy's pods.
//!
//! A pass over a ring with a member that does not answer takes seconds, and one that waits for an answer in a conflict step a minute. The lease of the
//! one writer is shorter, so the keeper renews it every quarter of it, with what the last pass had said.
//!
//! HAProxy itself stops using a member that does not answer. But only the operator can take an HAProxy pod with a frozen node out of the Service. A
//! pass checks the pods once a second, and gives each pod a second to answer. If `spec.balancer.checkMilliseconds` is shorter, the keeper checks the
//! pods more often, too.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use tokio::time::{MissedTickBehavior, interval};

use super::act::{ActError, Actor};
use super::guard::guarded;
use super::observe::lateness::noting_lateness;
use super::observe::members;
use super::observe::objects::balancers;
use super::shared::Context;
use super::watched::Watched;
use super::writer_lease::{LastAnswer, WriterLease};
use crate::api::MultiMasterCluster;
use crate::decide::observed::{ComparisonRun, Observed, Probe};
use crate::decide::serve::balance::{is_impatient, withdrawals};
use crate::wire::lease::LeaseRenewal;

/// From one check to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// How often clusters are looked for that are gone: their resource may go without a pass that sees it.
const SWEEP: Duration = Duration::from_secs(10);

/// The end of a check.
const CHECK_END: Duration = Duration::from_secs(5);

/// What is done for a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Task {
    /// Renew the lease of its writer.
    Renew,
    /// Check its HAProxy pods.
    Check,
}

/// Works until it is dropped. A cluster whose pods are slow delays no other, and no task of a cluster delays the other one.
pub async fn run(clusters: Store<Watched>, context: Arc<Context>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut tasks, mut under_way) = (FuturesUnordered::new(), HashSet::new());
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                context.liveness.keeper_at(Instant::now());
                if swept.elapsed() > SWEEP && clusters.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok()) {
                    swept = Instant::now();
                    context.keep_only(&clusters.state().iter().filter_map(|cluster| cluster.0.uid()).collect());
                }
                for cluster in clusters.state().iter().filter(|cluster| cluster.0.metadata.deletion_timestamp.is_none()) {
                    let uid = cluster.0.uid().unwrap_or_default();
                    let renews = (uid.clone(), Task::Renew);
                    if !under_way.contains(&renews) && let Some(lease) = context.due_renewal(&uid, Instant::now()) {
                        let context = context.clone();
                        under_way.insert(renews.clone());
                        tasks.push(async move {
                            if let Err(why) = guarded(CHECK_END, renew(&renews.0, &lease, &context)).await {
                                tracing::warn!(uid = renews.0, %why, "the writer's lease is not renewed");
                            }
                            renews
                        }.boxed());
                    }
                    let checks = (uid, Task::Check);
                    if is_impatient(&cluster.0) && under_way.insert(checks.clone()) {
                        let (cluster, context) = (cluster.0.clone().as_recorded(), context.clone());
                        tasks.push(async move {
                            check_guarded(&cluster, &context).await;
                            checks
                        }.boxed());
                    }
                }
            }
            Some(done) = tasks.next() => drop(under_way.remove(&done)),
        }
    }
}

/// Sends the last pass's renewal to the writer's agent again, with the clock value of the agent's last answer.
async fn renew(uid: &str, lease: &WriterLease, context: &Context) {
    let last = context.last_answer(uid, lease.ordinal);
    let renewal = LeaseRenewal {
        clock: last.filter(|last| last.pod_uid == lease.pod_uid).map(|last| last.clock),
        ..lease.renewal.clone()
    };
    let asked = Instant::now();
    match members::agent(&lease.agent, Some(&renewal)).await {
        Probe::Reached(report) => {
            let answer = LastAnswer {
                pod_uid: lease.pod_uid.clone(),
                asked,
                at: Instant::now(),
                clock: report.clock,
            };
            context.answered(uid, lease.ordinal, answer);
        }
        // The next pass sees it, too.
        silent => tracing::debug!(uid, ?silent, "the writer's lease is not renewed"),
    }
}

async fn check_guarded(cluster: &MultiMasterCluster, context: &Arc<Context>) {
    if cluster.spec.paused == Some(true) {
        return;
    }
    let why = match guarded(CHECK_END, check(cluster, context)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(broken_off) => broken_off.to_string(),
    };
    tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), why, "cannot check HAProxy's pods");
}

async fn check(cluster: &MultiMasterCluster, context: &Arc<Context>) -> Result<(), ActError> {
    // A pass reads the credentials. Before the first pass no pod serves.
    let Some((_, credentials)) = context.recall(&cluster.uid().unwrap_or_default()).credentials else {
        return Ok(());
    };
    let (balancers, late) = noting_lateness(balancers(cluster, Some(&credentials), context)).await;
    if late {
        return Ok(());
    }
    let observed = Observed {
        cluster: cluster.clone(),
        update_revision: None,
        problems: Vec::new(),
        volumes: None,
        members: Vec::new(),
        balancers,
        balancer_refusal: None,
        comparison: ComparisonRun::Idle,
        conflicts_wait: false,
        status_waits: false,
        looked_late: false,
    };
    let actor = Actor {
        observed: &observed,
        context,
        credentials: Some(&credentials),
    };
    for step in withdrawals(&observed.balancers) {
        actor.act(&step).await?;
    }
    Ok(())
}
