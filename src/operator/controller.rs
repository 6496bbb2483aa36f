//! Watches, and the loop that calls [`reconcile`] for every cluster while this replica leads.

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::client::ClientBuilder;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tower::ServiceBuilder;

use super::keeper;
use super::leader;
use super::liveness::{Liveness, is_unreadable};
use super::reconcile::{on_error, reconcile};
use super::shared::{Context, Stores};
use super::telemetry::{Metrics, serve};
use super::watched::Watched;
use super::web;
use crate::names;
use crate::resources::Settings;

/// Seconds after which a watch begins anew. If its connection died without a sign (an API server that was cut off, a control plane that lost
/// power), that is noticed five seconds later. Until then the cache is old, and passes decide from it.
const WATCH_SECONDS: u32 = 10;
/// Clusters that are reconciled at the same time.
const CONCURRENCY: u16 = 32;

/// What the operator needs from the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Images and the like.
    pub settings: Settings,
    /// Name of this replica in the lease.
    pub identity: String,
    /// Namespace of the lease.
    pub namespace: String,
    /// Where health, metrics and histories are served.
    pub address: SocketAddr,
}

/// Runs until `stop`. It also ends when it cannot continue as leader; the process must then end, so that nothing it still does is carried out late.
///
/// # Errors
/// When the API server cannot be used, the address cannot be bound, serving it or a watch ended, or the lease was lost.
pub async fn run(options: Options, mut stop: BoxFuture<'static, ()>) -> anyhow::Result<()> {
    let (metrics, liveness) = (Arc::new(Metrics::default()), Arc::new(Liveness::default()));
    let client = client(metrics.clone()).await?;
    let more = web::routes(client.clone());
    let health = tokio::spawn(serve(options.address, metrics.clone(), liveness.clone(), more));
    let (stores, streams) = watches(&client, &liveness);
    let mut leader =
        leader::start(options.identity.clone(), options.namespace).context("starting the thread of the election")?;
    tokio::select! {
        answered = leader.answered() => answered?,
        () = &mut stop => return Ok(()),
    }
    // No watch runs before this replica leads: ready means that the API server has answered about the lease.
    liveness.answered();
    tracing::info!(identity = options.identity, "waiting for the lease");
    tokio::select! {
        leads = leader.leads() => leads?,
        () = &mut stop => {
            // It may be about to take the lease.
            if let Err(error) = leader.give_back().await {
                tracing::warn!(%error, "the lease is not given back");
            }
            return Ok(());
        }
        result = health => return result?.context("serving health and metrics"),
    }
    metrics.leads(true);
    liveness.leads();
    tracing::info!(identity = options.identity, "leading");
    let reporter = Reporter {
        controller: names::FIELD_MANAGER.into(),
        instance: Some(options.identity.clone()),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let context = Arc::new(Context::new(
        client.clone(),
        stores,
        options.settings,
        recorder,
        (metrics, liveness),
    ));
    let beside = context.clone();
    let controller = streams.controller(&client);
    let keeper = keeper::run(controller.store(), context.clone());
    let delivery = delivery(controller.store(), context.clone());
    let controller = controller
        .run(
            |cluster, context| reconcile(cluster, context).boxed(),
            on_error,
            context,
        )
        // Both are boxed: their types nest so deeply that compiling them would take minutes.
        .boxed()
        .for_each(|_| std::future::ready(()));
    let result = tokio::select! {
        () = controller => Err(anyhow::anyhow!("the watches ended")),
        never = keeper => match never {},
        never = delivery => match never {},
        error = leader.lost() => Err(error),
        () = &mut stop => Ok(()),
    };
    // Passes and keeper were dropped. When nothing acts any more, another replica may lead.
    beside.end();
    if result.is_ok() {
        beside.say_the_rest().await;
        leader.give_back().await.context("giving back the lease")?;
    }
    result
}

/// Says once that every watch has delivered.
async fn delivery(clusters: Store<Watched>, context: Arc<Context>) -> Infallible {
    let delivered = tokio::try_join!(context.stores.delivered(), clusters.wait_until_ready());
    // Otherwise a watch has ended, and so does this process.
    if delivered.is_ok() {
        context.liveness.delivered();
    }
    std::future::pending().await
}

/// A client that counts requests.
async fn client(metrics: Arc<Metrics>) -> anyhow::Result<Client> {
    let config = kube::Config::infer()
        .await
        .context("no kubeconfig and no service account")?;
    let count = tower::util::MapRequestLayer::new(move |request: http::Request<kube::client::Body>| {
        metrics.request(request.method(), request.uri().path());
        request
    });
    let service = ClientBuilder::try_from(config)
        .context("the kubeconfig")?
        .with_layer(&ServiceBuilder::new().layer(count).into_inner());
    Ok(service.build())
}

type Changes<K> = futures::stream::BoxStream<'static, Result<K, watcher::Error>>;

/// The streams of changes that wake the controller.
struct Streams {
    pods: Changes<Pod>,
    statefulsets: Changes<k8s_openapi::api::apps::v1::StatefulSet>,
    services: Changes<k8s_openapi::api::core::v1::Service>,
    config_maps: Changes<k8s_openapi::api::core::v1::ConfigMap>,
    deployments: Changes<k8s_openapi::api::apps::v1::Deployment>,
    budgets: Changes<k8s_openapi::api::policy::v1::PodDisruptionBudget>,
}

impl Streams {
    fn controller(self, client: &Client) -> Controller<Watched> {
        let clusters: Api<Watched> = Api::all(client.clone());
        Controller::new(clusters, watched())
            .with_config(Config::default().concurrency(CONCURRENCY))
            .owns_stream(self.statefulsets)
            .owns_stream(self.services)
            .owns_stream(self.config_maps)
            .owns_stream(self.deployments)
            .owns_stream(self.budgets)
            .watches_stream(self.pods, |pod| cluster_of(&pod))
    }
}

/// The cluster that a pod belongs to, by its label: its owner is the StatefulSet.
fn cluster_of(pod: &Pod) -> Option<ObjectRef<Watched>> {
    let name = pod.labels().get(names::LABEL_CLUSTER)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

fn watches(client: &Client, liveness: &Arc<Liveness>) -> (Stores, Streams) {
    let (pods, pod_stream) = watch(client, liveness, "Pods");
    let (statefulsets, statefulset_stream) = watch(client, liveness, "StatefulSets");
    let (services, service_stream) = watch(client, liveness, "Services");
    let (config_maps, config_map_stream) = watch(client, liveness, "ConfigMaps");
    let (deployments, deployment_stream) = watch(client, liveness, "Deployments");
    let (budgets, budget_stream) = watch(client, liveness, "PodDisruptionBudgets");
    let stores = Stores {
        pods,
        statefulsets,
        services,
        config_maps,
        deployments,
        budgets,
    };
    let streams = Streams {
        pods: pod_stream,
        statefulsets: statefulset_stream,
        services: service_stream,
        config_maps: config_map_stream,
        deployments: deployment_stream,
        budgets: budget_stream,
    };
    (stores, streams)
}

/// Watches the objects of one kind that belong to clusters, and keeps them in a cache.
fn watch<K>(client: &Client, liveness: &Arc<Liveness>, kind: &'static str) -> (Store<K>, Changes<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let ours = watched().labels(names::LABEL_CLUSTER);
    let liveness = liveness.clone();
    let events = listing_anew(Api::all(client.clone()), ours).inspect(move |said| liveness.watch(kind, said));
    // Nobody asks who wrote which field, and it is half of an object.
    let events = events.modify(|object: &mut K| object.managed_fields_mut().clear());
    let stream = reflector(writer, events).default_backoff().touched_objects();
    (reader, boxed(stream))
}

/// A watch that begins anew with a list after something that it cannot read: the cache would lack it, and nobody would know.
fn listing_anew<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    futures::stream::unfold(None, move |watch| {
        let (api, config) = (api.clone(), config.clone());
        async move {
            let mut watch = watch.unwrap_or_else(|| watcher(api, config).boxed());
            let said = watch.next().await?;
            let goes_on = !said.as_ref().is_err_and(is_unreadable);
            Some((said, goes_on.then_some(watch)))
        }
    })
}

fn watched() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

fn boxed<K>(stream: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static) -> Changes<K> {
    stream.boxed()
}
