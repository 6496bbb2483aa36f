//! Server-side apply of a cluster's objects. Only objects that differ from the desired ones are applied.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::MultiMasterCluster;
use crate::api::reasons::Reason;
use crate::decide::observed::Problem;
use crate::decide::step::{ClusterAction, Step};
use crate::names;
use crate::operator::kubernetes::{KubernetesError, ask};
use crate::operator::observe::objects::find;
use crate::operator::shared::{Context, Refused};
use crate::resources::drift::is_subset;
use crate::resources::foreign::Foreign;
use crate::resources::{Desired, desired, secrets};

use super::certificates;
use super::current::is_current;
use super::error::{ActError, Outcome};
use super::foreign::{self, Strangers};
use super::volumes;

/// After a refusal the operator waits this long before it applies again.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// The same while an object of an earlier cluster is deleted.
const GONE_SOON: Duration = Duration::from_secs(1);

/// Begins to make the objects of a cluster as they are desired, unless it is at that already. A webhook may take its time over each of them, and
/// nothing else waits for it.
pub fn begin(cluster: &MultiMasterCluster, context: &Arc<Context>) -> Outcome {
    let uid = cluster.uid().unwrap_or_default();
    let (cluster, shared) = (cluster.clone(), context.clone());
    let applying = async move {
        match apply(&cluster, &shared).await {
            Ok(Outcome::Done) => shared.metrics.step(&Step::Cluster(ClusterAction::Apply)),
            Ok(Outcome::Nothing) => {}
            Err(ActError::Gone(what)) => tracing::debug!("{what} is not there any more"),
            Err(error) => {
                tracing::warn!(cluster = %cluster.name_any(), namespace = cluster.namespace(), %error, "objects are not as desired yet");
            }
        }
    };
    context.applies.begin(&uid, applying);
    // What it does is counted when it is done.
    Outcome::Nothing
}

/// Makes the objects of a cluster as they are desired. A refusal of the API server is remembered and becomes a condition.
///
/// # Errors
/// [`ActError`] when the API server refuses or does not answer, or when passwords or certificates cannot be made.
async fn apply(cluster: &MultiMasterCluster, context: &Context) -> Result<Outcome, ActError> {
    let uid = cluster.uid().unwrap_or_default();
    let refused = context.recall(&uid).refused;
    if refused.as_ref().is_some_and(|refused| Instant::now() < refused.again) {
        return Ok(Outcome::Nothing);
    }
    let result = apply_all(cluster, context).await;
    match &result {
        Err(error) => {
            if let Some((reason, message, wait)) = refusal(error, cluster) {
                let problem = Problem { reason, message };
                let again = Instant::now() + wait;
                context.remember(&uid, |memory| memory.refused = Some(Refused { again, problem }));
            }
        }
        Ok(_) if refused.is_some() => context.remember(&uid, |memory| memory.refused = None),
        Ok(_) => {}
    }
    result
}

/// What a condition says of an error that the next attempts may have, too, and how long the next one waits.
fn refusal(error: &ActError, cluster: &MultiMasterCluster) -> Option<(Reason, String, Duration)> {
    match error {
        ActError::Api(KubernetesError::Api {
            what,
            source: kube::Error::Api(status),
        }) if !status.is_conflict() => {
            let message = format!("the API server refused {what}: {}", status.message);
            Some((Reason::ApplyFailed, message, REFUSED_AGAIN))
        }
        ActError::Foreign {
            why: Foreign::Earlier(_),
            ..
        } => Some((Reason::ApplyFailed, error.to_string(), GONE_SOON)),
        ActError::Foreign { .. } => {
            let way_out = match cluster.is_founded() {
                true => "let that object go",
                false => "nothing was written; choose another name for this cluster, or let that object go",
            };
            let message = format!(
                "{error}: {way_out}; one that is to be this cluster's has no owner, and the label {}={}",
                names::LABEL_CLUSTER,
                cluster.name_any()
            );
            Some((Reason::ObjectNotOurs, message, REFUSED_AGAIN))
        }
        _ => None,
    }
}

async fn apply_all(cluster: &MultiMasterCluster, context: &Context) -> Result<Outcome, ActError> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let stores = &context.stores;
    let live = foreign::stateful_set(cluster, context).await?;
    let desired = desired(cluster, &context.settings, live.as_deref());
    let strangers = foreign::strangers(cluster, &desired, live.as_deref(), context).await?;
    let stranger = || {
        let first = strangers.iter().next();
        first.map_or(Ok(()), |(what, why)| {
            let (what, why) = (what.clone(), why.clone());
            Err(ActError::Foreign { what, why })
        })
    };
    if !cluster.is_founded() {
        stranger()?;
    }
    let secrets_written = create_secrets(cluster, context).await?;
    // No `..`: an object that is added to Desired must be applied here.
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
    let balancer_name = names::balancer(&name);
    let live_balancer = find(&stores.deployments, &balancer_name, &namespace);
    let live_balancer_budget = find(&stores.budgets, &balancer_name, &namespace);
    let at = &At {
        cluster,
        context,
        strangers: &strangers,
    };
    let written = [
        ensure(
            &config_map,
            find(&stores.config_maps, &config_map.name_any(), &namespace).as_deref(),
            at,
        )
        .await?,
        ensure(
            &members_service,
            find(&stores.services, &members_service.name_any(), &namespace).as_deref(),
            at,
        )
        .await?,
        ensure(
            &service,
            find(&stores.services, &service.name_any(), &namespace).as_deref(),
            at,
        )
        .await?,
        ensure(
            &reads_service,
            find(&stores.services, &reads_service.name_any(), &namespace).as_deref(),
            at,
        )
        .await?,
        ensure(
            &pod_disruption_budget,
            find(&stores.budgets, &name, &namespace).as_deref(),
            at,
        )
        .await?,
        ensure(&stateful_set, live.as_deref(), at).await?,
        // After the Service: if there is to be no HAProxy, the Service no longer leads to it by now.
        keep(balancer.as_ref(), live_balancer.as_deref(), at).await?,
        keep(balancer_disruption_budget.as_ref(), live_balancer_budget.as_deref(), at).await?,
        volumes::grow(cluster, context).await?,
        secrets_written,
    ];
    stranger()?;
    Ok(if written.contains(&true) {
        Outcome::Done
    } else {
        Outcome::Nothing
    })
}

/// Whose objects are applied.
struct At<'a> {
    cluster: &'a MultiMasterCluster,
    context: &'a Context,
    /// These are not.
    strangers: &'a Strangers,
}

/// Applies one object, unless it is somebody else's, or has every desired field.
///
/// Server-side apply cannot remove what another manager added to a list. If an apply had no effect although something differs, the operator repeats
/// it only after the live or the desired object has changed.
async fn ensure<K>(wanted: &K, live: Option<&K>, at: &At<'_>) -> Result<bool, ActError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
{
    let (cluster, context) = (at.cluster, at.context);
    let what = foreign::what::<K>(&wanted.name_any());
    if at.strangers.contains_key(&what) {
        return Ok(false);
    }
    let json = |object: &K| serde_json::to_value(object).unwrap_or_default();
    let wanted_json = json(wanted);
    let tried = format!(
        "{} {:?} {wanted_json}",
        K::kind(&()),
        live.and_then(ResourceExt::resource_version)
    );
    if live.is_some_and(|live| is_subset(&wanted_json, &json(live))) || context.was_in_vain(&tried) {
        return Ok(false);
    }
    is_current(cluster, context).await?;
    let api: Api<K> = Api::namespaced(context.client.clone(), &wanted.namespace().unwrap_or_default());
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let mut patch = wanted_json;
    // If it was replaced meanwhile, the API server refuses.
    if let Some(uid) = live.and_then(ResourceExt::uid) {
        patch["metadata"]["uid"] = uid.into();
    }
    let applied = ask(&what, api.patch(&wanted.name_any(), &params, &Patch::Apply(patch))).await?;
    if live.is_some_and(|live| live.resource_version() == applied.resource_version()) {
        tracing::warn!(
            namespace = wanted.namespace(),
            "{what} differs from the desired object by something that apply cannot remove"
        );
        context.in_vain(&tried);
    } else {
        tracing::info!(namespace = wanted.namespace(), "applied {what}");
    }
    Ok(true)
}

/// [`ensure`] for an object that is desired. Otherwise deletes the live object, if this cluster owns it, and no other object of that name.
async fn keep<K>(wanted: Option<&K>, live: Option<&K>, at: &At<'_>) -> Result<bool, ActError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
{
    let (cluster, context) = (at.cluster, at.context);
    let live = match (wanted, live) {
        (Some(wanted), live) => return ensure(wanted, live, at).await,
        (None, Some(live)) if live.meta().deletion_timestamp.is_none() && is_owned(live, cluster) => live,
        (None, _) => return Ok(false),
    };
    is_current(cluster, context).await?;
    let api: Api<K> = Api::namespaced(context.client.clone(), &live.namespace().unwrap_or_default());
    let what = format!("{} {}", K::kind(&()), live.name_any());
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: live.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match ask(&what, api.delete(&live.name_any(), &params)).await {
        Ok(_) => tracing::info!(namespace = live.namespace(), "deleted {what}"),
        Err(KubernetesError::Api {
            source: kube::Error::Api(status),
            ..
        }) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

fn is_owned<K: Resource>(object: &K, cluster: &MultiMasterCluster) -> bool {
    let mut owners = object.owner_references().iter();
    owners.any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref())
}

/// Creates the Secrets once. They are never applied over, because the servers on the volumes know the passwords. If a ring that was founded lacks a
/// Secret, nothing is created, because a new Secret would not have the contents that are in use. `observe` reports the missing one.
async fn create_secrets(cluster: &MultiMasterCluster, context: &Context) -> Result<bool, ActError> {
    let uid = cluster.uid().unwrap_or_default();
    let founded = cluster.is_founded();
    if founded || context.recall(&uid).credentials.is_some() {
        return Ok(false);
    }
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let mut written = false;
    if ask("Secret", api.get_opt(&names::credentials_secret(&name)))
        .await?
        .is_none()
    {
        is_current(cluster, context).await?;
        let mut seeds = random_seeds()?.into_iter();
        let secret = secrets::credentials(cluster, || seeds.next().unwrap_or_default());
        ask("Secret", api.create(&PostParams::default(), &secret)).await?;
        written = true;
    }
    if ask("Secret", api.get_opt(&names::tls_secret(&name))).await?.is_none() {
        is_current(cluster, context).await?;
        let secret = certificates::issue(cluster).map_err(ActError::Certificates)?;
        ask("Secret", api.create(&PostParams::default(), &secret)).await?;
        written = true;
    }
    Ok(written)
}

/// Random bytes from the operating system, for each key.
fn random_seeds() -> Result<[[u8; 24]; names::keys::ALL.len()], ActError> {
    let mut seeds = [[0; 24]; names::keys::ALL.len()];
    getrandom::fill(seeds.as_flattened_mut()).map_err(ActError::Random)?;
    Ok(seeds)
}
