//! Before anything of a cluster is written: objects with the names of its own that are not its own.

use std::fmt::Debug;

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
use crate::resources::foreign::foreign;
use crate::resources::secrets::foreign_secret;

use super::error::ActError;

/// Looks at every object that is to be written. Caches have what has the label of a cluster; whatever is not in them is asked for.
///
/// # Errors
/// [`ActError::Foreign`] for the first one that is not this cluster's.
pub(super) async fn refuse(cluster: &MultiMasterCluster, desired: &Desired, context: &Context) -> Result<(), ActError> {
    // No `..`: an object that is added to Desired must be looked at here.
    let Desired {
        config_map,
        service,
        reads_service,
        members_service,
        stateful_set,
        pod_disruption_budget,
        balancer,
        balancer_disruption_budget,
    } = desired;
    let stores = &context.stores;
    let founded = cluster.is_founded();
    // A founded ring goes on with the Secrets and volumes that it has.
    if !founded {
        let api: Api<Secret> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
        let name = cluster.name_any();
        for name in [names::credentials_secret(&name), names::tls_secret(&name)] {
            let secret = ask("Secret", api.get_opt(&name)).await?;
            if let Some(why) = secret.and_then(|secret| foreign_secret(&secret, cluster)) {
                let what = format!("Secret {name}");
                return Err(ActError::Foreign { what, why });
            }
        }
    }
    for service in [members_service, service, reads_service] {
        refuse_one(service, &stores.services, cluster, context).await?;
    }
    refuse_one(config_map, &stores.config_maps, cluster, context).await?;
    for budget in [Some(pod_disruption_budget), balancer_disruption_budget.as_ref()]
        .into_iter()
        .flatten()
    {
        refuse_one(budget, &stores.budgets, cluster, context).await?;
    }
    if let Some(balancer) = balancer {
        refuse_one(balancer, &stores.deployments, cluster, context).await?;
    }
    refuse_one(stateful_set, &stores.statefulsets, cluster, context).await?;
    if !founded {
        for ordinal in cluster.ordinals() {
            let claim = names::claim(&cluster.name_any(), ordinal);
            refuse_stored::<PersistentVolumeClaim>(&claim, cluster, context).await?;
        }
    }
    Ok(())
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
        Some(live) => judge::<K>(live.meta(), cluster),
        None => refuse_stored::<K>(&wanted.name_any(), cluster, context).await,
    }
}

/// The same for an object that is in no cache.
async fn refuse_stored<K>(name: &str, cluster: &MultiMasterCluster, context: &Context) -> Result<(), ActError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    match stored::<K>(name, cluster, context).await? {
        Some(live) => judge::<K>(&live, cluster),
        None => Ok(()),
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

fn judge<K: Resource<DynamicType = ()>>(object: &ObjectMeta, cluster: &MultiMasterCluster) -> Result<(), ActError> {
    let Some(why) = foreign(object, cluster) else {
        return Ok(());
    };
    let what = format!("{} {}", K::kind(&()), object.name.clone().unwrap_or_default());
    Err(ActError::Foreign { what, why })
}
