//! Before anything of a cluster is written: objects with the names of its own that are not its own.

use std::collections::BTreeMap;
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

/// Objects that are not the cluster's, by kind and name.
pub(super) type Strangers = BTreeMap<String, Foreign>;

/// Looks at every object that is to be written, and returns those that are not this cluster's. Caches have what has the label of a cluster; whatever is
/// not in them is asked for. `live`: the StatefulSet.
///
/// # Errors
/// [`KubernetesError`] when the API server does not answer.
pub(super) async fn strangers(
    cluster: &MultiMasterCluster,
    desired: &Desired,
    live: Option<&StatefulSet>,
    context: &Context,
) -> Result<Strangers, KubernetesError> {
    let mut all = Strangers::new();
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
        secrets(&mut all, cluster, context).await?;
    }
    for service in [members_service, service, reads_service] {
        look(&mut all, service, &stores.services, cluster, context).await?;
    }
    look(&mut all, config_map, &stores.config_maps, cluster, context).await?;
    let budgets = [Some(pod_disruption_budget), balancer_disruption_budget.as_ref()];
    for budget in budgets.into_iter().flatten() {
        look(&mut all, budget, &stores.budgets, cluster, context).await?;
    }
    if let Some(balancer) = balancer {
        look(&mut all, balancer, &stores.deployments, cluster, context).await?;
    }
    if let Some(live) = live {
        note::<StatefulSet>(&mut all, &live.metadata, foreign(&live.metadata, cluster));
    }
    claims(&mut all, cluster, live, context).await?;
    Ok(all)
}

async fn secrets(all: &mut Strangers, cluster: &MultiMasterCluster, context: &Context) -> Result<(), KubernetesError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let name = cluster.name_any();
    for name in [names::credentials_secret(&name), names::tls_secret(&name)] {
        if let Some(secret) = ask("Secret", api.get_opt(&name)).await? {
            note::<Secret>(all, &secret.metadata, foreign_secret(&secret, cluster));
        }
    }
    Ok(())
}

/// Claims of members that the StatefulSet is about to make. The others are in use.
async fn claims(
    all: &mut Strangers,
    cluster: &MultiMasterCluster,
    live: Option<&StatefulSet>,
    context: &Context,
) -> Result<(), KubernetesError> {
    let there = live.and_then(|live| live.spec.as_ref()?.replicas).unwrap_or_default();
    for ordinal in cluster.ordinals().filter(|ordinal| i32::from(*ordinal) >= there) {
        let claim = names::claim(&cluster.name_any(), ordinal);
        let Some(claim) = stored::<PersistentVolumeClaim>(&claim, cluster, context).await? else {
            continue;
        };
        if let Some(why) = foreign_claim(&claim, cluster) {
            // The StatefulSet would mount it.
            all.insert(what::<StatefulSet>(&cluster.name_any()), why.clone());
            note::<PersistentVolumeClaim>(all, &claim, Some(why));
        }
    }
    Ok(())
}

/// The StatefulSet, also if it has lost the label by which caches have it.
pub(super) async fn stateful_set(
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<Option<Arc<StatefulSet>>, KubernetesError> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    if let Some(live) = find(&context.stores.statefulsets, &name, &namespace) {
        return Ok(Some(live));
    }
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(ask("StatefulSet", api.list(&only)).await?.items.pop().map(Arc::new))
}

async fn look<K>(
    all: &mut Strangers,
    wanted: &K,
    store: &Store<K>,
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<(), KubernetesError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + 'static,
{
    match find(store, &wanted.name_any(), &cluster.namespace().unwrap_or_default()) {
        Some(live) => note::<K>(all, live.meta(), foreign(live.meta(), cluster)),
        None => {
            if let Some(live) = stored::<K>(&wanted.name_any(), cluster, context).await? {
                note::<K>(all, &live, foreign(&live, cluster));
            }
        }
    }
    Ok(())
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

fn note<K: Resource<DynamicType = ()>>(all: &mut Strangers, object: &ObjectMeta, why: Option<Foreign>) {
    let name = object.name.as_deref().unwrap_or_default();
    all.extend(why.map(|why| (what::<K>(name), why)));
}

/// Kind and name.
pub(super) fn what<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}
