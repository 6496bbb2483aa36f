//! The keeper: a task beside the passes that checks HAProxy's pods.
//!
//! HAProxy itself stops using a member that does not answer. But only the operator can take an HAProxy pod with a frozen node out of the Service. A
//! pass checks the pods once a second, and gives each pod a second to answer. If `spec.balancer.checkMilliseconds` is shorter, the keeper checks the
//! pods more often, too.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use tokio::time::{MissedTickBehavior, interval};

use super::act::{ActError, Actor};
use super::guard::guarded;
use super::observe::objects::balancers;
use super::shared::Context;
use super::watched::Watched;
use crate::api::MultiMasterCluster;
use crate::decide::observed::{ComparisonRun, Observed};
use crate::decide::serve::balance::{is_impatient, withdrawals};

/// From one check to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// The end of a check.
const CHECK_END: Duration = Duration::from_secs(5);

/// Checks until it is dropped. A cluster whose pods are slow delays no other.
pub async fn run(clusters: Store<Watched>, context: Arc<Context>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut checks, mut under_way) = (FuturesUnordered::new(), HashSet::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let clusters = clusters.state();
                for cluster in clusters.iter().filter(|cluster| is_watched(&cluster.0)) {
                    let uid = cluster.0.uid().unwrap_or_default();
                    if under_way.insert(uid.clone()) {
                        let (cluster, context) = (cluster.0.clone().as_recorded(), context.clone());
                        checks.push(async move {
                            check_guarded(&cluster, &context).await;
                            uid
                        });
                    }
                }
            }
            Some(uid) = checks.next() => drop(under_way.remove(&uid)),
        }
    }
}

fn is_watched(cluster: &MultiMasterCluster) -> bool {
    is_impatient(cluster) && cluster.metadata.deletion_timestamp.is_none()
}

async fn check_guarded(cluster: &MultiMasterCluster, context: &Context) {
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

async fn check(cluster: &MultiMasterCluster, context: &Context) -> Result<(), ActError> {
    // A pass reads the credentials. Before the first pass no pod serves.
    let Some((_, credentials)) = context.recall(&cluster.uid().unwrap_or_default()).credentials else {
        return Ok(());
    };
    let observed = Observed {
        cluster: cluster.clone(),
        update_revision: None,
        problems: Vec::new(),
        volumes: None,
        members: Vec::new(),
        balancers: balancers(cluster, Some(&credentials), context).await,
        balancer_refusal: None,
        comparison: ComparisonRun::Idle,
        conflicts_wait: false,
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
