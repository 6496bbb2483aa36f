//! Ten kinds of resources that the API server stores and nobody can carry out.

use std::net::TcpListener;

use kube::Api;
use kube::api::{Patch, PatchParams};
use multimaster::api::MultiMasterCluster;
use serde_json::{Value, json};

use crate::harness::ApiServer;

/// How many there are.
pub const POISON: usize = 10;
const NAMESPACE: &str = "poison";
/// Whose webhook never answers.
const HUNG: &str = "hung";

/// Makes one of each kind.
pub async fn poison(server: &ApiServer) {
    server.namespace(NAMESPACE).await;
    server.namespace(HUNG).await;
    hang(server).await;
    refuse(server, "refused").await;
    server.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "large-secret-credentials", "namespace": NAMESPACE},
        "stringData": {"root-password": "x".repeat(1_000_000)},
    })).await;
    server
        .apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "foreign-members", "namespace": NAMESPACE},
            "spec": {"ports": [{"port": 80}]},
        }))
        .await;
    let template = |name: &str, template: Value| of(NAMESPACE, name, json!({"podTemplate": template}));
    let all: [Value; POISON] = [
        template("wrong-type", json!({"spec": {"nodeSelector": {"gpu": true}}})),
        template("no-list", json!({"spec": {"containers": {"name": "exporter"}}})),
        template("deep", (0..100).fold(json!({}), |inner, _| json!({"a": inner}))),
        template(
            "huge",
            json!({"metadata": {"annotations": {"text": "x".repeat(700_000)}}}),
        ),
        of(
            NAMESPACE,
            "no-class",
            json!({"storage": {"size": "1Gi", "storageClassName": "nowhere"}}),
        ),
        of(NAMESPACE, "no-status", json!({})),
        of(NAMESPACE, "large-secret", json!({})),
        of(NAMESPACE, "foreign", json!({})),
        of(NAMESPACE, "refused", json!({})),
        of(HUNG, "hung", json!({})),
    ];
    for resource in all {
        server.apply(resource).await;
    }
    // Of a ring that was founded long ago.
    let clusters: Api<MultiMasterCluster> = Api::namespaced(server.client.clone(), NAMESPACE);
    let member = json!({"name": "no-status-0", "state": "Serving", "gtidExecuted": "no GTID set"});
    let status = json!({"status": {"epoch": 7, "ring": "0→9→0", "memberStatuses": [member]}});
    let params = PatchParams::default();
    clusters
        .patch_status("no-status", &params, &Patch::Merge(&status))
        .await
        .unwrap();
}

fn of(namespace: &str, name: &str, spec: Value) -> Value {
    let mut whole = json!({"storage": {"size": "1Gi"}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    json!({
        "apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster",
        "metadata": {"name": name, "namespace": namespace}, "spec": whole,
    })
}

/// A webhook that takes connections and never answers.
async fn hang(server: &ApiServer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept() {
            kept.push(connection);
        }
    });
    server
        .apply(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "hangs"},
            "webhooks": [{
                "name": "hangs.multimaster.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"url": format!("https://127.0.0.1:{port}/")},
                "failurePolicy": "Fail", "timeoutSeconds": 30,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": HUNG}},
                "rules": [{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["services", "configmaps", "statefulsets"]}],
            }],
        }))
        .await;
}

/// A policy that refuses the objects of a cluster.
async fn refuse(server: &ApiServer, name: &str) {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "refuses"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["", "apps"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["services", "configmaps", "statefulsets"]}]},
            "validations": [{"expression": format!("!object.metadata.name.startsWith('{name}')"), "message": "not here"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "refuses"},
        "spec": {"policyName": "refuses", "validationActions": ["Deny"]},
    });
    server.apply(policy).await;
    server.apply(binding).await;
}
