//! Objects that have the names of a cluster's, and are somebody else's: nothing is written, status names them, and the cluster goes on once they are
//! gone.

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use multimaster::api::MultiMasterCluster;
use serde_json::{Value, json};

use crate::harness::{ApiServer, eventually};

const NAMESPACE: &str = "foreign";
/// Every kind of object that a cluster has.
const KINDS: [(&str, &str); 7] = [
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
];

/// One object in the way, each of another ring.
fn in_the_way() -> Vec<(&'static str, Value)> {
    let service = json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}});
    let workload = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let mut set = workload.clone();
    set["spec"]["serviceName"] = "web".into();
    let budget = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let secret = json!({"stringData": {"tls.key": "an ingress has it", "tls.crt": "", "ca.crt": ""}});
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let object = |kind: usize, name: &str, rest: &Value| {
        let mut object = rest.clone();
        object["apiVersion"] = KINDS[kind].0.into();
        object["kind"] = KINDS[kind].1.into();
        object["metadata"] = json!({"name": name, "namespace": NAMESPACE});
        object
    };
    vec![
        ("a", object(0, "a", &service)),
        ("b", object(0, "b-reads", &service)),
        ("c", object(0, "c-members", &service)),
        ("d", object(1, "d-config", &json!({"data": {"precious": "settings"}}))),
        ("e", object(2, "e-credentials", &secret)),
        ("f", object(2, "f-tls", &secret)),
        ("g", object(3, "data-g-1", &claim)),
        ("h", object(4, "h", &set)),
        ("i", object(5, "i-balancer", &workload)),
        ("j", object(6, "j", &budget)),
        ("k", object(6, "k-balancer", &budget)),
    ]
}

#[tokio::test]
#[ignore = "needs KUBERNETES and ETCD"]
async fn what_is_somebody_elses_is_not_touched() {
    let Some(server) = ApiServer::start(2).await else {
        return;
    };
    server.namespace(NAMESPACE).await;
    let mut before = Vec::new();
    for (ring, object) in in_the_way() {
        server.apply(object.clone()).await;
        before.push((ring, object.clone(), version(&server, &object).await));
        server.apply(cluster(ring)).await;
    }
    let mut operator = server.operator(8080);
    for (ring, object, version_before) in &before {
        let what = format!(
            "{} {} exists, and is not",
            text(&object["kind"]),
            text(&object["metadata"]["name"])
        );
        eventually(&format!("ring {ring} says: {what}"), async || {
            operator.lives();
            condition(&server, ring, "Ready")
                .await
                .is_some_and(|(reason, message)| reason == "ObjectNotOurs" && message.starts_with(&what))
        })
        .await;
        assert_eq!(condition(&server, ring, "Stalled").await.unwrap().0, "ObjectNotOurs");
        assert_eq!(version(&server, object).await, *version_before, "{what}");
        assert_eq!(of(&server, ring).await, [""; 0], "{what}");
    }
    // Once it is gone, or the cluster's, nobody has to say so.
    for (ring, object, _) in &before {
        let (api, name) = (api(&server, object), text(&object["metadata"]["name"]));
        if ["d", "g"].contains(ring) {
            let mut ours = object.clone();
            ours["metadata"]["labels"] = json!({"multimaster.dev/cluster": ring});
            server.apply(ours).await;
        } else {
            api.delete(name, &DeleteParams::default()).await.unwrap();
        }
    }
    for (ring, ..) in &before {
        eventually(&format!("ring {ring} has its objects"), async || {
            operator.lives();
            // Services: its own, and those for reads and for names. Secrets: both.
            let own = of(&server, ring).await;
            let number = |kind: &str| own.iter().filter(|one| one.starts_with(kind)).count();
            let is_told = condition(&server, ring, "Ready")
                .await
                .is_none_or(|(reason, _)| reason == "ObjectNotOurs");
            (number("Service "), number("Secret "), number("StatefulSet ")) == (3, 2, 1) && !is_told
        })
        .await;
    }
    let adopted = api(&server, &before[3].1).get("d-config").await.unwrap();
    assert_eq!(adopted.metadata.owner_references.unwrap()[0].name, "d");
    operator.stop();
}

#[tokio::test]
#[ignore = "needs KUBERNETES and ETCD"]
async fn one_cluster_does_not_get_anothers_service() {
    let Some(server) = ApiServer::start(3).await else {
        return;
    };
    server.namespace(NAMESPACE).await;
    server.apply(cluster("shop")).await;
    let mut operator = server.operator(8080);
    eventually("the first one has its objects", async || {
        !of(&server, "shop").await.is_empty()
    })
    .await;
    server.apply(cluster("shop-reads")).await;
    eventually("the name of the second one is refused", async || {
        operator.lives();
        let ready = condition(&server, "shop-reads", "Ready").await;
        ready.is_some_and(|(reason, message)| {
            reason == "InvalidSpec" && message.starts_with("metadata.name: ends with -reads")
        })
    })
    .await;
    assert_eq!(of(&server, "shop-reads").await, [""; 0]);
    // A founded ring goes on, but for an object that somebody else has by now.
    let clusters: Api<MultiMasterCluster> = Api::namespaced(server.client.clone(), NAMESPACE);
    let params = PatchParams::default();
    let founded = json!({"status": {"epoch": 1}});
    clusters
        .patch_status("shop", &params, &Patch::Merge(&founded))
        .await
        .unwrap();
    let taken = json!({"metadata": {
        "labels": {"multimaster.dev/cluster": null},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "9"}],
    }});
    let services = of_kind(&server, "v1", "Service");
    services
        .patch("shop-reads", &params, &Patch::Merge(&taken))
        .await
        .unwrap();
    let before = services.get("shop-reads").await.unwrap().metadata.resource_version;
    let change = json!({"spec": {"mysql": {"config": {"max_connections": "9"}}}});
    clusters.patch("shop", &params, &Patch::Merge(&change)).await.unwrap();
    eventually("the rest is as it is to be", async || {
        operator.lives();
        let config = of_kind(&server, "v1", "ConfigMap").get("shop-config").await.unwrap();
        let (reason, message) = condition(&server, "shop", "Ready").await.unwrap();
        let is_told = reason == "ObjectNotOurs"
            && message.starts_with("Service shop-reads belongs to Deployment web: let that object go");
        config.data["data"]["my.cnf"].to_string().contains("max_connections") && is_told
    })
    .await;
    let after = services.get("shop-reads").await.unwrap().metadata.resource_version;
    assert_eq!(after, before);
    // Nor does a new member get somebody else's volume.
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let metadata = json!({"name": "data-shop-2", "namespace": NAMESPACE});
    server
        .apply(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}))
        .await;
    let change = json!({"spec": {"members": 3}});
    clusters.patch("shop", &params, &Patch::Merge(&change)).await.unwrap();
    eventually("the claim is told", async || {
        operator.lives();
        let (_, message) = condition(&server, "shop", "Ready").await.unwrap();
        message.starts_with("PersistentVolumeClaim data-shop-2 exists, and is not this cluster's: let that object go")
    })
    .await;
    let set = of_kind(&server, "apps/v1", "StatefulSet").get("shop").await.unwrap();
    assert_eq!(set.data["spec"]["replicas"], 2);
    services.delete("shop-reads", &DeleteParams::default()).await.unwrap();

    // There is no garbage collector.
    clusters.delete("shop", &DeleteParams::default()).await.unwrap();
    server.apply(cluster("shop")).await;
    eventually("objects of an earlier cluster are waited for", async || {
        operator.lives();
        let ready = condition(&server, "shop", "Ready").await;
        ready.is_some_and(|(reason, message)| {
            reason == "ApplyFailed" && message.contains("belongs to an earlier MultiMasterCluster shop")
        })
    })
    .await;
    operator.stop();
}

fn cluster(name: &str) -> Value {
    json!({
        "apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"members": 2, "storage": {"size": "1Gi"}, "balancer": {"type": "HAProxy"}},
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn api(server: &ApiServer, object: &Value) -> Api<DynamicObject> {
    of_kind(server, text(&object["apiVersion"]), text(&object["kind"]))
}

fn of_kind(server: &ApiServer, api_version: &str, kind: &str) -> Api<DynamicObject> {
    server.objects(api_version, kind, Some(NAMESPACE))
}

async fn version(server: &ApiServer, object: &Value) -> Option<String> {
    let found = api(server, object)
        .get(text(&object["metadata"]["name"]))
        .await
        .unwrap();
    found.metadata.resource_version
}

/// Kinds and names of the objects that have the label of a cluster.
async fn of(server: &ApiServer, cluster: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (api_version, kind) in KINDS {
        let own = ListParams::default().labels(&format!("multimaster.dev/cluster={cluster}"));
        let objects = of_kind(server, api_version, kind).list(&own).await.unwrap().items;
        found.extend(
            objects
                .into_iter()
                .map(|object| format!("{kind} {}", object.metadata.name.unwrap())),
        );
    }
    found
}

/// Reason and message of a condition.
async fn condition(server: &ApiServer, cluster: &str, type_: &str) -> Option<(String, String)> {
    let clusters = of_kind(server, "multimaster.dev/v1alpha1", "MultiMasterCluster");
    let found = clusters.get(cluster).await.unwrap();
    let conditions = found.data["status"]["conditions"].as_array()?.iter();
    let found = conditions.clone().find(|condition| condition["type"] == type_)?;
    Some((text(&found["reason"]).into(), text(&found["message"]).into()))
}
