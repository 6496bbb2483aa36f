//! Against live objects as API servers give them back.

use serde_json::json;

use super::*;
use crate::resources::tests::{minimal, settings};
use crate::resources::{desired, owner};

/// The StatefulSet after a round trip: what the API server and its controllers add.
fn live() -> Value {
    let mut live = serde_json::to_value(desired(&minimal(), &settings(), None).stateful_set).unwrap();
    live["metadata"]["uid"] = json!("x");
    live["metadata"]["resourceVersion"] = json!("7");
    live["metadata"]["generation"] = json!(1);
    live["status"] = json!({ "replicas": 3 });
    let spec = &mut live["spec"];
    spec["revisionHistoryLimit"] = json!(10);
    spec["volumeClaimTemplates"][0]["spec"]["volumeMode"] = json!("Filesystem");
    spec["volumeClaimTemplates"][0]["status"] = json!({ "phase": "Pending" });
    spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("1024Mi");
    let pod = &mut spec["template"]["spec"];
    pod["restartPolicy"] = json!("Always");
    pod["dnsPolicy"] = json!("ClusterFirst");
    pod["schedulerName"] = json!("default-scheduler");
    pod["containers"][0]["livenessProbe"]["successThreshold"] = json!(1);
    pod["containers"][0]["livenessProbe"]["httpGet"]["scheme"] = json!("HTTP");
    pod["containers"][0]["resources"] = json!({});
    pod["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
    pod["volumes"][3]["configMap"]["defaultMode"] = json!(420);
    live
}

fn unchanged(change: impl FnOnce(&mut Value)) -> bool {
    let desired = serde_json::to_value(desired(&minimal(), &settings(), None).stateful_set).unwrap();
    let mut live = live();
    change(&mut live);
    is_subset(&desired, &live)
}

#[test]
fn defaults_are_no_drift() {
    assert!(unchanged(|_| {}));
    assert!(unchanged(
        |live| live["metadata"]["annotations"] = json!({ "somebody": "else" })
    ));
    assert!(unchanged(
        |live| live["metadata"]["finalizers"] = json!(["foregroundDeletion"])
    ));
    assert!(unchanged(|live| {
        let other = json!({ "apiVersion": "v1", "kind": "Thing", "name": "other", "uid": "2" });
        live["metadata"]["ownerReferences"]
            .as_array_mut()
            .unwrap()
            .insert(0, other);
    }));
}

#[test]
fn what_somebody_changed_is_drift() {
    assert!(!unchanged(|live| live["spec"]["replicas"] = json!(2)));
    assert!(!unchanged(
        |live| live["metadata"]["labels"]["multimaster.dev/cluster"] = json!("x")
    ));
    assert!(!unchanged(|live| live["metadata"]["ownerReferences"] = json!([])));
    assert!(!unchanged(
        |live| live["spec"]["updateStrategy"]["type"] = json!("RollingUpdate")
    ));
    let pod = |change: fn(&mut Value)| unchanged(|live| change(&mut live["spec"]["template"]["spec"]));
    assert!(pod(|_| {}));
    assert!(
        !pod(|pod| pod["automountServiceAccountToken"] = json!(null)),
        "absent means true"
    );
    assert!(!pod(|pod| pod["containers"][0]["image"] = json!("other")));
    assert!(!pod(|pod| pod["containers"][0]["ports"][0]["containerPort"] = json!(1)));
    assert!(!pod(|pod| pod["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "extra" }))));
    assert!(!pod(|pod| pod["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .truncate(1)));
    assert!(!pod(|pod| pod["containers"][0]["command"] = json!(["sh"])));
    assert!(!pod(|pod| {
        pod["volumes"][1].as_object_mut().unwrap().remove("emptyDir");
        pod["volumes"][1]["hostPath"] = json!({ "path": "/" });
    }));
}

#[test]
fn one_more_key_in_a_selector_is_drift() {
    let service = serde_json::to_value(desired(&minimal(), &settings(), None).service).unwrap();
    let mut live = service.clone();
    live["spec"]["clusterIP"] = json!("10.0.0.1");
    live["spec"]["ports"][0]["nodePort"] = json!(30000);
    assert!(is_subset(&service, &live));
    live["spec"]["selector"]["more"] = json!("x");
    assert!(!is_subset(&service, &live));
    assert!(owner(&minimal()).is_some());
}

#[test]
fn named_items_may_come_in_any_order() {
    let one = json!([{ "name": "a", "value": "1" }, { "name": "b" }]);
    let other = json!([{ "name": "b", "value": "2" }, { "name": "a", "value": "1" }]);
    assert!(is_subset(&one, &other));
    assert!(!is_subset(&other, &one));
    assert!(!is_subset(&json!(["a", "b"]), &json!(["b", "a"])));
    // Two mounts of one volume.
    let mounts = json!([{ "name": "v", "mountPath": "/a" }, { "name": "v", "mountPath": "/b" }]);
    assert!(is_subset(&mounts, &mounts));
    assert!(!is_subset(
        &mounts,
        &json!([{ "name": "v", "mountPath": "/a" }, { "name": "v", "mountPath": "/c" }])
    ));
}

#[test]
fn quantities_are_compared_by_value_and_nothing_else_is() {
    let limits = |memory: &str| json!({ "resources": { "limits": { "memory": memory } } });
    assert!(is_subset(&limits("1Gi"), &limits("1024Mi")));
    assert!(!is_subset(&limits("1Gi"), &limits("1G")));
    assert!(is_subset(
        &json!({ "emptyDir": { "sizeLimit": "1Gi" } }),
        &json!({ "emptyDir": { "sizeLimit": "1024Mi" } })
    ));
    assert!(
        !is_subset(&json!({ "value": "1000m" }), &json!({ "value": "1" })),
        "a variable is text"
    );
}

#[test]
fn nothing_equals_nothing() {
    for nothing in [json!(null), json!({}), json!([]), json!(""), json!({ "limits": {} })] {
        assert!(is_subset(&json!({ "x": nothing }), &json!({})), "{nothing}");
        assert!(is_subset(&json!({ "x": nothing }), &json!({ "x": null })), "{nothing}");
    }
    assert!(
        is_subset(&json!({ "hostNetwork": false }), &json!({})),
        "the API server does not keep it"
    );
    assert!(!is_subset(
        &json!({ "hostNetwork": false }),
        &json!({ "hostNetwork": true })
    ));
    assert!(is_subset(&json!({ "initialDelaySeconds": 0 }), &json!({})));
    assert!(!is_subset(&json!({ "x": 0 }), &json!({})));
    assert!(!is_subset(&json!({ "x": [] }), &json!({ "x": ["a"] })));
    assert!(!is_subset(&json!({ "x": { "y": 1 } }), &json!({})));
}
