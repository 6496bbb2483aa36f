//! Looks at HAProxy's pods between passes.
//!
//! HAProxy leaves a member that does not answer, but only the operator takes an HAProxy pod out of the Service whose node stands still. A pass
//! looks once a second, and gives a pod a second to answer. Who has members checked more often than that wants such a pod gone sooner, too.

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

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// Looks until it is dropped.
pub async fn lookout(clusters: Store<MultiMasterCluster>, context: Arc<Context>) -> Infallible {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let clusters = clusters.state();
        let watched = clusters.iter().filter(|cluster| is_watched(cluster));
        join_all(watched.map(async |cluster| {
            if let Err(error) = look(cluster, &context).await {
                tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "looking again");
            }
        }))
        .await;
    }
}

fn is_watched(cluster: &MultiMasterCluster) -> bool {
    is_impatient(cluster) && cluster.spec.paused != Some(true) && cluster.metadata.deletion_timestamp.is_none()
}

async fn look(cluster: &MultiMasterCluster, context: &Context) -> Result<(), ActError> {
    // Read by a pass. Before the first one nothing serves.
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
