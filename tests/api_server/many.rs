//! Many clusters, ten of them poison: whatever one of them is, the others are reconciled, and the operator leads on.

use std::time::Instant;

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use multimaster::api::MultiMasterCluster;
use serde_json::{Value, json};

use crate::harness::{ApiServer, eventually};
use crate::poison::{POISON, poison};

/// How many there are, without `CLUSTERS`. So many show that none is forgotten; a thousand (`make bench-many`) show what they cost.
const CLUSTERS: usize = 150;
/// Requests of the test at a time.
const AT_ONCE: usize = 16;
/// The most memory that the operator may have, in bytes.
const MEMORY: u64 = 256 << 20;
const NAMESPACE: &str = "many";

fn healthy(number: usize) -> Value {
    json!({
        "apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster",
        "metadata": {"name": format!("ring-{number}"), "namespace": NAMESPACE},
        "spec": {"storage": {"size": "1Gi"}},
    })
}

#[tokio::test]
#[ignore = "needs KUBERNETES and ETCD"]
async fn many_clusters_of_which_ten_are_poison() {
    let Some(server) = ApiServer::start(1).await else {
        return;
    };
    let clusters = std::env::var("CLUSTERS").ok().and_then(|text| text.parse().ok());
    let number = clusters.unwrap_or(CLUSTERS) - POISON;
    server.namespace(NAMESPACE).await;
    poison(&server).await;
    stream::iter((0..number).map(healthy))
        .for_each_concurrent(AT_ONCE, |object| server.apply(object))
        .await;

    // New ones: every object is made, and the operator leads on.
    let begun = Instant::now();
    let mut operator = server.operator(8080);
    eventually("each healthy cluster has its StatefulSet, and a status", async || {
        operator.lives();
        let (sets, waiting) = (statefulsets(&server).await, unobserved(&server).await);
        sets == number && waiting == 0
    })
    .await;
    println!(
        "{number} new clusters: {:.1} s, {} MiB",
        begun.elapsed().as_secs_f64(),
        operator.most_memory() >> 20
    );
    assert!(operator.most_memory() < MEMORY);
    operator.stop();

    // Each one has changed when the operator starts.
    let clusters: Api<MultiMasterCluster> = Api::namespaced(server.client.clone(), NAMESPACE);
    let change = json!({"spec": {"failureDetection": {"periodSeconds": 2}}});
    stream::iter(0..number)
        .for_each_concurrent(AT_ONCE, async |one| {
            let (name, params) = (format!("ring-{one}"), PatchParams::default());
            clusters.patch(&name, &params, &Patch::Merge(&change)).await.unwrap();
        })
        .await;
    assert_eq!(unobserved(&server).await, number);
    let begun = Instant::now();
    let mut operator = server.operator(8081);
    eventually("each healthy cluster is reconciled", async || {
        operator.lives();
        unobserved(&server).await == 0
    })
    .await;
    println!(
        "{number} clusters after a start of the operator: {:.1} s, {} MiB",
        begun.elapsed().as_secs_f64(),
        operator.most_memory() >> 20
    );
    assert!(operator.most_memory() < MEMORY);
    operator.stop();
}

async fn statefulsets(server: &ApiServer) -> usize {
    let api: Api<StatefulSet> = Api::namespaced(server.client.clone(), NAMESPACE);
    api.list_metadata(&ListParams::default()).await.unwrap().items.len()
}

/// Healthy clusters whose status is not of their present spec.
async fn unobserved(server: &ApiServer) -> usize {
    let resource = ApiResource::erase::<MultiMasterCluster>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(server.client.clone(), NAMESPACE, &resource);
    let found = api.list(&ListParams::default()).await.unwrap();
    let is_observed = |cluster: &&DynamicObject| {
        let status = &cluster.data["status"];
        let is_of_present = status["observedGeneration"].as_i64() == cluster.metadata.generation;
        // That it is not observed yet is a status, too.
        let conditions = status["conditions"].as_array().into_iter().flatten();
        is_of_present
            && conditions.clone().count() > 0
            && conditions.into_iter().all(|is| is["reason"] != "NotObserved")
    };
    found.items.iter().filter(|cluster| !is_observed(cluster)).count()
}
