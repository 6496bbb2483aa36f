//! Before anything of a cluster is written: objects with the names of its own that are not its own.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::MultiMasterCluster;
use crate::names;
use crate::operator::kubernetes::{KubernetesError, ask};
use crate::operator::observe::objects::find;
use crate::operator::shared::Context;
use crate::resources::Desired;
use crate::resources::foreign::{Foreign, foreign, foreign_claim};
use crate::resources::secrets::foreign_secret;

use super::error::ActError;

/// Looks at every object that is to be written. Caches have what has the label of a cluster; whatever is not in them is asked for. `live`: the
/// StatefulSet.
///
/// # Errors
/// [`ActError::Foreign`] for the first one that is not this cluster's.
pub(super) async fn refuse(
    cluster: &MultiMasterCluster,
    desired: &Desired,
    live: Option<&StatefulSet>,
    context: &Context,
) -> Result<(), ActError> {
    // No `..`: an object that is added to Desired must be looked at here.
    let Desired {
        config_map,
        service,
        reads_service,
        members_service,
        stateful_set: _,
        pod_disruption_budget,
        balancer,
        balancer_disruption_budget,
    } = desired;
    let stores = &context.stores;
    // Where there is one, its pods have them.
    if live.is_none() && !cluster.is_founded() {
        refuse_secrets(cluster, context).await?;
    }
    for service in [members_service, service, reads_service] {
        refuse_one(service, &stores.services, cluster, context).await?;
    }
    refuse_one(config_map, &stores.config_maps, cluster, context).await?;
    let budgets = [Some(pod_disruption_budget), balancer_disruption_budget.as_ref()];
    for budget in budgets.into_iter().flatten() {
        refuse_one(budget, &stores.budgets, cluster, context).await?;
    }
    if let Some(balancer) = balancer {
        refuse_one(balancer, &stores.deployments, cluster, context).await?;
    }
    if let Some(live) = live {
        judge::<StatefulSet>(&live.metadata, foreign(&live.metadata, cluster))?;
    }
    refuse_claims(cluster, live, context).await
}

async fn refuse_secrets(cluster: &MultiMasterCluster, context: &Context) -> Result<(), ActError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let name = cluster.name_any();
    for name in [names::credentials_secret(&name), names::tls_secret(&name)] {
        if let Some(secret) = ask("Secret", api.get_opt(&name)).await? {
            judge::<Secret>(&secret.metadata, foreign_secret(&secret, cluster))?;
        }
    }
    Ok(())
}

/// Claims of members that the StatefulSet is about to make. The others are in use.
async fn refuse_claims(
    cluster: &MultiMasterCluster,
    live: Option<&StatefulSet>,
    context: &Context,
) -> Result<(), ActError> {
    let there = live.and_then(|live| live.spec.as_ref()?.replicas).unwrap_or_default();
    for ordinal in cluster.ordinals().filter(|ordinal| i32::from(*ordinal) >= there) {
        let claim = names::claim(&cluster.name_any(), ordinal);
        if let Some(claim) = stored::<PersistentVolumeClaim>(&claim, cluster, context).await? {
            judge::<PersistentVolumeClaim>(&claim, foreign_claim(&claim, cluster))?;
        }
    }
    Ok(())
}

/// The StatefulSet, also if it has lost the label by which caches have it.
pub(super) async fn stateful_set(
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<Option<Arc<StatefulSet>>, ActError> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    if let Some(live) = find(&context.stores.statefulsets, &name, &namespace) {
        return Ok(Some(live));
    }
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(ask("StatefulSet", api.list(&only)).await?.items.pop().map(Arc::new))
}

async fn refuse_one<K>(
    wanted: &K,
    store: &Store<K>,
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<(), ActError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + 'static,
{
    match find(store, &wanted.name_any(), &cluster.namespace().unwrap_or_default()) {
        Some(live) => judge::<K>(live.meta(), foreign(live.meta(), cluster)),
        None => match stored::<K>(&wanted.name_any(), cluster, context).await? {
            Some(live) => judge::<K>(&live, foreign(&live, cluster)),
            None => Ok(()),
        },
    }
}

/// Metadata of an object. The operator may list objects, and not get one by its name.
async fn stored<K>(
    name: &str,
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<Option<ObjectMeta>, KubernetesError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut found = ask(&K::kind(&()), api.list_metadata(&only)).await?.items;
    Ok(found.pop().map(|found| found.metadata))
}

fn judge<K: Resource<DynamicType = ()>>(object: &ObjectMeta, why: Option<Foreign>) -> Result<(), ActError> {
    let Some(why) = why else { return Ok(()) };
    let what = format!("{} {}", K::kind(&()), object.name.clone().unwrap_or_default());
    Err(ActError::Foreign { what, why })
}
