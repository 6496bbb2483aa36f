//! The keeper: a task beside the passes that checks HAProxy's pods.
//!
//! HAProxy itself stops using a member that does not answer. But only the operator can take an HAProxy pod with a frozen node out of the Service. A
//! pass checks the pods once a second, and gives each pod a second to answer. If `spec.balancer.checkMilliseconds` is shorter, the keeper checks the
//! pods more often, too.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use tokio::time::{MissedTickBehavior, interval};

use super::act::{ActError, Actor};
use super::observe::objects::balancers;
use super::shared::Context;
use crate::api::MultiMasterCluster;
use crate::decide::observed::{ComparisonRun, Observed};
use crate::decide::serve::balance::{is_impatient, withdrawals};

/// From one check to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// Checks until it is dropped.
pub async fn run(clusters: Store<MultiMasterCluster>, context: Arc<Context>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let clusters = clusters.state();
        let watched = clusters.iter().filter(|cluster| is_watched(cluster));
        join_all(watched.map(async |cluster| {
            if let Err(error) = check(cluster, &context).await {
                tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "cannot check HAProxy's pods");
            }
        }))
        .await;
    }
}

fn is_watched(cluster: &MultiMasterCluster) -> bool {
    is_impatient(cluster) && cluster.spec.paused != Some(true) && cluster.metadata.deletion_timestamp.is_none()
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
        members: Vec::new(),
        balancers: balancers(cluster, Some(&credentials), context).await,
        comparison: ComparisonRun::Idle,
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
