//! Manifests as snapshots, and the promises that a snapshot does not spell out.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Secret};
use kube::Resource;
use serde_json::{Value, json};

use super::*;
use crate::api::balancer::BalancerType;
use crate::names;

/// The cluster `demo` as the API server would give it.
pub(crate) fn cluster(spec: Value) -> MultiMasterCluster {
    serde_json::from_value(json!({
        "apiVersion": "multimaster.dev/v1alpha1",
        "kind": "MultiMasterCluster",
        "metadata": { "name": "demo", "namespace": "shop", "uid": "6b1c5a7e-0000-4000-8000-000000000001" },
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn minimal() -> MultiMasterCluster {
    cluster(json!({ "storage": { "size": "1Gi" } }))
}

fn everything() -> MultiMasterCluster {
    cluster(json!({
        "members": 5,
        "image": "registry.example/mysql:9.7.4",
        "storage": { "size": "100Gi", "storageClassName": "fast", "reclaim": "Delete" },
        "resources": { "requests": { "cpu": "500m", "memory": "1Gi" }, "limits": { "memory": "2Gi" } },
        "podTemplate": {
            "metadata": { "labels": { "team": "shop" }, "annotations": { "note": "ours" } },
            "spec": {
                "nodeSelector": { "disk": "ssd" },
                "tolerations": [{ "key": "database", "operator": "Exists" }],
                "imagePullSecrets": [{ "name": "registry" }],
                "containers": [
                    { "name": "mysql", "env": [{ "name": "TZ", "value": "UTC" }], "volumeMounts": [{ "name": "dumps", "mountPath": "/dumps" }] },
                    { "name": "exporter", "image": "exporter:1", "ports": [{ "name": "metrics", "containerPort": 9104 }] },
                ],
                "volumes": [{ "name": "dumps", "emptyDir": {} }],
            },
        },
        "mysql": { "config": { "max_connections": "500", "innodb_buffer_pool_size": "1G", "skip-external-locking": "" } },
        "replication": { "positioning": "FilePosition" },
        "database": { "name": "shop", "user": "shop" },
        "balancer": { "type": "HAProxy", "image": "registry.example/haproxy:3.2.1", "replicas": 3, "resources": { "limits": { "memory": "256Mi" } } },
    }))
}

pub(crate) fn settings() -> Settings {
    Settings {
        operator_image: "multimaster-operator:0.1.0".into(),
        default_mysql_image: "mysql:9.7".into(),
        default_haproxy_image: "haproxy:3.2".into(),
        log_format: "Json".into(),
    }
}

fn pod(cluster: &MultiMasterCluster) -> PodSpec {
    pod_template(cluster, &settings()).spec.unwrap()
}

fn with_template(template: Value) -> PodTemplateSpec {
    let cluster = cluster(json!({ "storage": { "size": "1Gi" }, "podTemplate": template }));
    pod_template(&cluster, &settings())
}

#[test]
fn the_smallest_manifest() {
    insta::assert_yaml_snapshot!(desired(&minimal(), &settings(), None));
}

#[test]
fn a_manifest_with_everything() {
    insta::assert_yaml_snapshot!(desired(&everything(), &settings(), None));
}

#[test]
fn every_object_names_its_type_its_owner_and_its_cluster() {
    let mut cluster = minimal();
    cluster.spec.balancer.type_ = BalancerType::HAProxy;
    let objects = serde_json::to_value(desired(&cluster, &settings(), None)).unwrap();
    for object in objects.as_object().unwrap().values() {
        assert!(
            object["apiVersion"].is_string() && object["kind"].is_string(),
            "for server-side apply: {object}"
        );
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(owner["kind"], "MultiMasterCluster");
        assert_eq!(
            (&owner["controller"], &owner["blockOwnerDeletion"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(object["metadata"]["labels"]["multimaster.dev/cluster"], "demo");
        assert_eq!(object["metadata"]["namespace"], "shop");
    }
}

#[test]
fn no_pod_is_born_serving_and_every_pod_is_selected() {
    for cluster in [minimal(), everything()] {
        let set = stateful_set(&cluster, &settings(), None).spec.unwrap();
        let labels = set.template.metadata.unwrap().labels.unwrap();
        assert!(!labels.contains_key(names::LABEL_SERVING));
        assert!(
            set.selector
                .match_labels
                .unwrap()
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        );
        assert_eq!(
            labels::selector_text(&cluster),
            "app.kubernetes.io/component=member,multimaster.dev/cluster=demo"
        );
    }
}

#[test]
fn the_authoritys_key_stays_out_of_the_pods() {
    let volumes = pod(&minimal()).volumes.unwrap();
    let tls = volumes
        .iter()
        .find(|volume| volume.name == "tls")
        .unwrap()
        .secret
        .as_ref()
        .unwrap();
    let keys: Vec<&str> = tls.items.iter().flatten().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"]);
}

#[test]
fn mounts_agree_with_the_paths_that_the_agent_uses() {
    let mysql = pod(&minimal()).containers.remove(0);
    let mounts: Vec<String> = mysql
        .volume_mounts
        .unwrap()
        .into_iter()
        .map(|mount| mount.mount_path)
        .collect();
    for path in [
        names::paths::BINARY,
        names::paths::CONFIG,
        names::paths::SOCKET,
        names::paths::LIFE,
    ] {
        let folder = path.rsplit_once('/').unwrap().0;
        assert!(mounts.iter().any(|mount| mount == folder), "{path}");
    }
    assert_eq!(names::paths::CONFIG.rsplit_once('/').unwrap().1, config::FILE);
    let everything = pod(&everything()).containers.remove(0);
    let names: Vec<String> = everything
        .env
        .unwrap()
        .into_iter()
        .map(|variable| variable.name)
        .collect();
    assert!(
        reserved::VARIABLES
            .iter()
            .all(|variable| names.iter().any(|name| name == variable))
    );
}

#[test]
fn a_change_of_the_configuration_is_a_new_revision() {
    let plain = minimal();
    let configured =
        cluster(json!({ "storage": { "size": "1Gi" }, "mysql": { "config": { "max_connections": "7" } } }));
    assert_ne!(config::config_hash(&plain), config::config_hash(&configured));
    assert_ne!(
        pod_template(&plain, &settings()),
        pod_template(&configured, &settings())
    );
    // A later version that computes another value would restart every member.
    assert_eq!(config::config_hash(&configured), "e78578b616ea715d");
    assert!(
        config::my_cnf(&everything())
            .ends_with("[mysqld]\ninnodb_buffer_pool_size = 1G\nmax_connections = 500\nskip-external-locking\n")
    );
}

#[test]
fn what_cannot_change_stays_as_it_is_alive() {
    let mut live = stateful_set(&minimal(), &settings(), None);
    let spec = live.spec.as_mut().unwrap();
    spec.selector.match_labels = Some([("older".to_owned(), "label".to_owned())].into());
    spec.service_name = Some("older".into());
    let grown = cluster(json!({ "storage": { "size": "2Gi", "reclaim": "Delete" }, "image": "mysql:new" }));
    let desired = stateful_set(&grown, &settings(), Some(&live)).spec.unwrap();
    let live = live.spec.unwrap();
    assert_eq!(desired.volume_claim_templates, live.volume_claim_templates);
    assert_eq!(desired.selector, live.selector);
    assert_eq!(desired.service_name, live.service_name);
    assert_eq!(desired.template.metadata.unwrap().labels.unwrap()["older"], "label");
    assert_eq!(
        desired.template.spec.unwrap().containers[0].image.as_deref(),
        Some("mysql:new")
    );
    assert_eq!(
        desired
            .persistent_volume_claim_retention_policy
            .unwrap()
            .when_deleted
            .as_deref(),
        Some("Delete")
    );
}

#[test]
fn a_pod_template_adds_and_changes() {
    let template = with_template(json!({
        "metadata": { "labels": { "team": "a" } },
        "spec": {
            "terminationGracePeriodSeconds": 300,
            "priorityClassName": "high",
            "topologySpreadConstraints": [{ "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 2 }],
            "containers": [
                { "name": "mysql", "resources": { "limits": { "memory": "3Gi" } }, "securityContext": { "readOnlyRootFilesystem": false } },
                { "name": "sidecar", "image": "s:1" },
            ],
            "initContainers": [{ "name": "prepare", "image": "p:1" }],
        },
    }));
    assert_eq!(template.metadata.unwrap().labels.unwrap()["team"], "a");
    let spec = template.spec.unwrap();
    assert_eq!(spec.termination_grace_period_seconds, Some(300));
    assert_eq!(spec.priority_class_name.as_deref(), Some("high"));
    let spread = spec.topology_spread_constraints.unwrap();
    assert_eq!((spread.len(), spread[0].max_skew), (2, 2));
    let names: Vec<&str> = spec
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(names, ["mysql", "sidecar"]);
    let mysql = &spec.containers[0];
    assert_eq!(
        mysql.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0,
        "3Gi"
    );
    let security = mysql.security_context.as_ref().unwrap();
    assert_eq!(
        (security.read_only_root_filesystem, security.allow_privilege_escalation),
        (Some(false), Some(false))
    );
    assert_eq!(spec.init_containers.unwrap()[1].name, "prepare");
}

#[test]
fn a_pod_template_cannot_take_a_member_apart() {
    let template = with_template(json!({
        "metadata": {
            "labels": { "multimaster.dev/serving": "true", "multimaster.dev/cluster": "other", "app.kubernetes.io/component": "x" },
            "annotations": { "multimaster.dev/config-hash": "x" },
        },
        "spec": {
            "hostNetwork": true, "hostPID": true, "hostIPC": true, "shareProcessNamespace": true,
            "containers": [{
                "name": "mysql", "image": "x", "command": ["sh"], "args": ["-c"],
                "livenessProbe": { "exec": { "command": ["false"] } }, "readinessProbe": { "periodSeconds": 60 },
                "env": [{ "name": "CLUSTER", "value": "other" }],
                "ports": [{ "containerPort": 3306, "protocol": "TCP", "hostPort": 3306 }],
                "volumeMounts": [{ "name": "tmp", "mountPath": "/var/lib/mysql" }],
            }],
            "initContainers": [{ "name": "agent", "image": "x" }],
            "volumes": [{ "name": "credentials", "emptyDir": {} }],
        },
    }));
    assert_eq!(template, pod_template(&minimal(), &settings()));
}

#[test]
fn a_secret_without_label_is_known_by_what_is_in_it() {
    let certificate = |host: &str| {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        json!({ "tls.crt": ByteString(made.cert.pem().into_bytes()) })
    };
    let label = |name: &str| json!({ "labels": { "multimaster.dev/cluster": name } });
    let passwords = json!({ "agent-token": ByteString(b"chosen".to_vec()) });
    let sealed = json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "SealedSecret", "name": "demo-credentials", "uid": "9" }] });
    let mut sealed_with_label = label("demo");
    sealed_with_label["ownerReferences"] = sealed["ownerReferences"].clone();
    let earlier = json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "MultiMasterCluster", "name": "demo", "uid": "9" }] });
    for (name, metadata, data, is_foreign) in [
        ("demo-credentials", label("demo"), json!({}), false),
        ("demo-credentials", json!({}), passwords.clone(), false),
        ("demo-credentials", sealed, passwords.clone(), false),
        ("demo-credentials", sealed_with_label, json!({}), false),
        ("demo-credentials", earlier, passwords.clone(), true),
        (
            "demo-credentials",
            json!({}),
            json!({ "token": "", "root-password": "" }),
            true,
        ),
        ("demo-credentials", label("other"), passwords.clone(), true),
        // Restored into another namespace: whoever reads it says so.
        (
            "demo-tls",
            json!({}),
            certificate("demo-0.demo-members.elsewhere.svc"),
            false,
        ),
        ("demo-tls", json!({}), certificate("*.demo-members.shop.svc"), false),
        ("demo-tls", json!({}), certificate("shop.example"), true),
        ("demo-tls", json!({}), certificate("demo-a.demo-members.shop.svc"), true),
        ("demo-tls", json!({}), passwords, true),
        ("demo-tls", json!({}), json!({}), true),
    ] {
        let mut secret = json!({ "metadata": metadata, "data": data });
        secret["metadata"]["name"] = name.into();
        let text = secret.to_string();
        let secret: Secret = serde_json::from_value(secret).unwrap();
        assert_eq!(
            secrets::foreign_secret(&secret, &minimal()).is_some(),
            is_foreign,
            "{text}"
        );
    }
}

#[test]
fn a_secret_that_argo_cd_would_prune_is_told_with_the_command_against_it() {
    let new = secrets::credentials(&minimal(), || [1; 24]);
    assert!(!secrets::may_be_pruned(&new));
    let mut old = new.clone();
    let labels = old.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/instance".into(), "demo".into());
    assert!(secrets::may_be_pruned(&old));
    let told = secrets::against_pruning(&old);
    let (_, command) = told
        .split_once("kubectl annotate secret -n shop demo-credentials ")
        .unwrap();
    let (key, value) = command.split_once('=').unwrap();
    old.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
    assert!(!secrets::may_be_pruned(&old));
}

#[test]
fn a_password_that_cannot_be_used_is_named_and_not_told() {
    let with = |key: &str, value: &[u8]| {
        let mut secret = secrets::credentials(&minimal(), || [1; 24]);
        let data = secret.data.as_mut().unwrap();
        data.insert(key.into(), ByteString(value.to_vec()));
        secrets::unusable(&secret)
    };
    assert_eq!(with("root-password", "it's \"grün\"".as_bytes()), None);
    assert_eq!(with("replication-password", &[b'x'; 32]), None);
    assert_eq!(with("agent-token", b"a token of my own"), None);
    for (key, value, expected) in [
        (
            "replication-password",
            &b"hunter2-SECRET\n"[..],
            "replication-password ends with a line break, as a file does; ",
        ),
        (
            "replication-password",
            &[b'x'; 33],
            "replication-password has 33 characters; the most are 32",
        ),
        (
            "root-password",
            &[b'p'; 70_000],
            "root-password has 70000 bytes; the most are 128",
        ),
        ("root-password", b"SECRET\xff\xfe", "root-password is not UTF-8"),
        ("app-password", b"SEC\0RET", "app-password has a control character"),
        (
            "agent-token",
            b"SECRET ",
            "agent-token has more than the visible characters of ASCII",
        ),
    ] {
        let told = with(key, value).unwrap();
        assert!(told.starts_with(expected) && !told.contains("SECRET"), "{told}");
    }
}

#[test]
fn credentials_are_complete_random_and_outlive_the_resource() {
    let mut calls = 0_u8;
    let mut random = || {
        calls += 1;
        std::array::from_fn(|at| (at as u8).wrapping_mul(37).wrapping_add(calls))
    };
    let secret = secrets::credentials(&minimal(), &mut random);
    assert_eq!(secrets::missing_keys(&secret), [""; 0]);
    assert_eq!(secret.metadata.owner_references, None);
    let passwords: Vec<&[u8]> = secret
        .data
        .as_ref()
        .unwrap()
        .values()
        .map(|value| value.0.as_slice())
        .collect();
    for (at, password) in passwords.iter().enumerate() {
        assert_eq!(password.len(), 32);
        assert!(password.iter().all(u8::is_ascii_alphanumeric));
        assert!(!passwords[..at].contains(password));
    }
    let deletes = cluster(json!({ "storage": { "size": "1Gi", "reclaim": "Delete" } }));
    assert_eq!(
        secrets::credentials(&deletes, random)
            .metadata
            .owner_references
            .unwrap()[0]
            .uid,
        deletes.meta().uid.clone().unwrap()
    );
}

#[test]
fn a_secret_says_which_keys_it_lacks() {
    let mut secret = secrets::credentials(&minimal(), || [7; 24]);
    let data = secret.data.as_mut().unwrap();
    data.remove(names::keys::AGENT);
    data.insert(names::keys::APP.into(), ByteString(Vec::new()));
    assert_eq!(secrets::missing_keys(&secret), [names::keys::AGENT, names::keys::APP]);
    secret.data = None;
    assert_eq!(secrets::missing_keys(&secret), names::keys::ALL);
}
