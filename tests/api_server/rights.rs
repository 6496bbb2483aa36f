//! Who may make rings and nothing else gets no pods of his own choice; the roles view and edit have what is for people.

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use multimaster::api::MultiMasterCluster;
use serde_json::{Value, json};

use crate::harness::{ApiServer, eventually};

const NAMESPACE: &str = "rights";

/// Each a way to a Secret, a node or a token.
fn templates() -> [Value; 10] {
    let pod = |spec: Value| json!({ "spec": spec });
    let container = |rest: Value| {
        let mut container = json!({ "name": "loot", "image": "loot" });
        container
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        pod(json!({ "containers": [container] }))
    };
    [
        pod(json!({ "serviceAccountName": "deployer" })),
        pod(json!({ "automountServiceAccountToken": true })),
        pod(json!({ "volumes": [{ "name": "node", "hostPath": { "path": "/" } }] })),
        pod(json!({ "volumes": [{ "name": "payroll", "secret": { "secretName": "payroll" } }] })),
        pod(
            json!({ "volumes": [{ "name": "all", "projected": { "sources": [{ "secret": { "name": "payroll" } }] } }] }),
        ),
        pod(json!({ "nodeName": "control-plane" })),
        container(json!({ "envFrom": [{ "secretRef": { "name": "payroll" } }] })),
        container(json!({ "securityContext": { "privileged": true, "runAsUser": 0 } })),
        container(json!({ "volumeMounts": [{ "name": "credentials", "mountPath": "/loot" }] })),
        json!({ "metadata": { "annotations": { "vault.hashicorp.com/agent-inject": "true" } } }),
    ]
}

fn ring(name: &str, template: Option<Value>) -> MultiMasterCluster {
    let mut ring = json!({
        "apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster", "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "storage": { "size": "1Gi" } },
    });
    if let Some(template) = template {
        ring["spec"]["podTemplate"] = template;
    }
    serde_json::from_value(ring).unwrap()
}

fn rings(client: &Client) -> Api<MultiMasterCluster> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Gives somebody a role in the namespace.
async fn give(server: &ApiServer, user: &str, kind: &str, role: &str) {
    server
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": user, "namespace": NAMESPACE },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        }))
        .await;
}

#[tokio::test]
#[ignore = "needs KUBERNETES and ETCD"]
async fn who_may_only_make_rings_chooses_no_pods() {
    let Some(server) = ApiServer::start(4).await else {
        return;
    };
    server.namespace(NAMESPACE).await;
    let rules =
        |resources: Value| json!([{ "apiGroups": ["multimaster.dev", ""], "resources": resources, "verbs": ["*"] }]);
    for (role, resources) in [
        ("rings", json!(["multimasterclusters"])),
        ("pods", json!(["multimasterclusters", "pods"])),
    ] {
        server
            .apply(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": role, "namespace": NAMESPACE },
                "rules": rules(resources),
            }))
            .await;
        give(&server, role, "Role", role).await;
    }
    let (tenant, deployer) = (server.acting_as("rings").await, server.acting_as("pods").await);
    let post = PostParams::default();
    // A policy takes effect some time after it is made.
    eventually("the policy is in force", async || {
        let tried = rings(&tenant)
            .create(
                &PostParams {
                    dry_run: true,
                    ..post.clone()
                },
                &ring("policy", Some(json!({}))),
            )
            .await;
        tried.is_err()
    })
    .await;
    rings(&tenant).create(&post, &ring("plain", None)).await.unwrap();
    for (at, template) in templates().into_iter().enumerate() {
        let name = format!("ring-{at}");
        let refused = rings(&tenant)
            .create(&post, &ring(&name, Some(template.clone())))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("spec.podTemplate: you may not create pods in this namespace"),
            "{template}: {refused}"
        );
        println!("{template}: refused");
        let change = json!({ "spec": { "podTemplate": template } });
        let changed = rings(&tenant)
            .patch("plain", &PatchParams::default(), &Patch::Merge(&change))
            .await;
        assert!(changed.is_err(), "{template}");
        // Who may create pods may do so here, too. What stands there already keeps nobody from another change.
        rings(&deployer)
            .create(&post, &ring(&name, Some(template.clone())))
            .await
            .unwrap();
        let other = json!({ "spec": { "members": 5 } });
        let changed = rings(&tenant)
            .patch(&name, &PatchParams::default(), &Patch::Merge(&other))
            .await;
        assert_eq!(changed.unwrap().spec.members, 5);
    }
    // Taking it away chooses nothing.
    let gone = json!({ "spec": { "podTemplate": null } });
    rings(&tenant)
        .patch("ring-0", &PatchParams::default(), &Patch::Merge(&gone))
        .await
        .unwrap();
}
