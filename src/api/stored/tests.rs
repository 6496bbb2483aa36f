use serde_json::json;

use super::*;
use crate::api::MultiMasterCluster;
use crate::api::status::{MemberState, Phase};

fn condition(type_: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// As this version writes it.
fn plain() -> Value {
    json!({
        "observedGeneration": 3, "phase": "Running", "members": 2, "readyMembers": 2, "serving": "2/2", "selector": "s", "epoch": 7,
        "ring": "0→1→0", "conflicts": 0, "databaseCreated": true, "balancer": {"type": "Service", "serving": 0},
        "writer": {"name": "demo-0", "since": "2026-01-01T00:00:00Z", "why": "the first"},
        "recordedAt": "2026-01-01T00:00:00Z",
        "memberStatuses": [
            {
                "name": "demo-0", "state": "Serving", "since": "2026-01-01T00:00:00Z", "serverId": 4_000_000_001_u32, "serverUUID": "u0",
                "gtidExecuted": "g0", "catchUpTo": "c0", "formerServerUUIDs": ["f0"],
                "links": [{"upstream": "demo-1", "ioRunning": true, "sqlRunning": true, "lagSeconds": 0,
                    "position": {"file": "binlog.000001", "offset": u64::MAX, "sourceUUID": "u1"}}]
            },
            {"name": "demo-1", "state": "Pending", "bypassed": true, "gtidExecuted": "g1", "links": []}
        ],
        "conditions": [condition("Ready"), condition("Available")]
    })
}

fn read(value: Value) -> MultiMasterClusterStatus {
    serde_json::from_value(value).unwrap()
}

fn write(status: &MultiMasterClusterStatus) -> Value {
    serde_json::to_value(status).unwrap()
}

#[test]
fn what_this_version_writes_it_reads_and_writes_the_same() {
    let status = read(plain());
    assert_eq!(status.as_read.unreadable, Vec::<String>::new());
    assert_eq!((status.epoch, status.phase), (7, Phase::Running));
    assert_eq!(write(&status), plain());
    let fresh = MultiMasterClusterStatus::default();
    assert_eq!(read(write(&fresh)), fresh);
}

#[test]
fn what_a_newer_version_has_added_survives_a_write() {
    let mut newer = plain();
    newer["backup"] = json!({"last": [1, {"a": null}]});
    newer["writer"]["term"] = json!(9);
    newer["balancer"]["nodes"] = json!(["a"]);
    newer["memberStatuses"][1]["agentVersion"] = json!("7");
    newer["memberStatuses"][0]["links"][0]["hash"] = json!("h");
    newer["memberStatuses"][0]["links"][0]["position"]["term"] = json!(4);
    newer["conditions"][0]["severity"] = json!("Info");
    let mut foreign = condition("BackedUp");
    foreign["age"] = json!(1);
    newer["conditions"].as_array_mut().unwrap().push(foreign);

    let mut status = read(newer.clone());
    assert_eq!(write(&status), newer);
    // A member is added before, one condition changes, a known field goes.
    status.epoch = 8;
    status.writer = None;
    status.member_statuses[0].catch_up_to = None;
    status.member_statuses.swap(0, 1);
    status.conditions[1].status = "False".into();
    let mut expected = newer;
    expected["epoch"] = json!(8);
    expected.as_object_mut().unwrap().remove("writer");
    let members = expected["memberStatuses"].as_array_mut().unwrap();
    members[0].as_object_mut().unwrap().remove("catchUpTo");
    members.swap(0, 1);
    expected["conditions"][1]["status"] = json!("False");
    assert_eq!(write(&status), expected);
    // One that has left takes what was said of it along.
    status.member_statuses.remove(0);
    let left = write(&status);
    assert_eq!(left["memberStatuses"].as_array().unwrap().len(), 1);
    assert_eq!(left["memberStatuses"][0]["links"][0]["hash"], "h");
}

/// Of each field in turn: another type, a word that is not known, a number that is too large.
#[test]
fn a_value_that_cannot_be_read_is_absent_and_spoils_nothing_else() {
    let recorded = [
        ("/epoch", json!("seven"), "epoch"),
        ("/epoch", json!(null), "epoch"),
        ("/epoch", json!(7.5), "epoch"),
        ("/databaseCreated", json!("yes"), "databaseCreated"),
        ("/writer", json!("demo-0"), "writer"),
        ("/writer/name", json!(0), "writer"),
        ("/writer/since", json!("yesterday"), "writer"),
        ("/memberStatuses", json!({"demo-0": {}}), "memberStatuses"),
        ("/memberStatuses/1", json!("demo-1"), "memberStatuses"),
        ("/memberStatuses/1/name", json!(1), "memberStatuses[1].name"),
        ("/memberStatuses/1/bypassed", json!(1), "memberStatuses[1].bypassed"),
        (
            "/memberStatuses/0/serverUUID",
            json!(["u0"]),
            "memberStatuses[0].serverUUID",
        ),
        (
            "/memberStatuses/0/formerServerUUIDs",
            json!("f0"),
            "memberStatuses[0].formerServerUUIDs",
        ),
        (
            "/memberStatuses/0/formerServerUUIDs/0",
            json!(0),
            "memberStatuses[0].formerServerUUIDs",
        ),
        (
            "/memberStatuses/0/gtidExecuted",
            json!({}),
            "memberStatuses[0].gtidExecuted",
        ),
        ("/memberStatuses/0/catchUpTo", json!(1), "memberStatuses[0].catchUpTo"),
    ];
    for (field, value, path) in recorded {
        let mut odd = plain();
        *odd.pointer_mut(field).unwrap() = value.clone();
        let mut status = read(odd.clone());
        let unreadable: Vec<&str> = status.unreadable().collect();
        assert!(unreadable.contains(&path), "{field}: {unreadable:?}");
        // Something else changes; this stays.
        status.ring = "0✗1→0".into();
        let written = write(&status);
        assert_eq!(written.pointer(field), Some(&value), "{field}");
        assert_eq!(written["ring"], "0✗1→0");
        // What cannot be written is no news.
        let mut next = status.clone();
        next.member_statuses.clear();
        next.epoch = 99;
        let as_read = next.clone().over(&status);
        assert_eq!(
            as_read,
            read(write(&MultiMasterClusterStatus {
                as_read: status.as_read.clone(),
                ..next
            }))
        );
    }

    let fresh = [
        ("/phase", json!("Hibernating"), "phase"),
        ("/phase", json!(1), "phase"),
        ("/members", json!(256), "members"),
        ("/members", json!(-1), "members"),
        ("/observedGeneration", json!("3"), "observedGeneration"),
        ("/recordedAt", json!("then"), "recordedAt"),
        ("/balancer/type", json!("Envoy"), "balancer.type"),
        ("/memberStatuses/0/state", json!("Upgrading"), "memberStatuses[0].state"),
        ("/memberStatuses/0/since", json!(0), "memberStatuses[0].since"),
        (
            "/memberStatuses/0/serverId",
            json!(u64::MAX),
            "memberStatuses[0].serverId",
        ),
        (
            "/memberStatuses/0/links/0/position/offset",
            json!(-4),
            "memberStatuses[0].links[0].position",
        ),
        (
            "/memberStatuses/0/links/0/upstream",
            json!(1),
            "memberStatuses[0].links",
        ),
        ("/conditions/0/status", json!(true), "conditions[0]"),
    ];
    for (field, value, path) in fresh {
        let mut odd = plain();
        *odd.pointer_mut(field).unwrap() = value;
        let status = read(odd);
        assert!(
            status.as_read.unreadable.iter().any(|it| it == path),
            "{field}: {:?}",
            status.as_read.unreadable
        );
        assert_eq!(status.unreadable().next(), None, "{field}");
        assert_eq!((status.epoch, status.member_statuses.len()), (7, 2), "{field}");
        assert_eq!(status.member_statuses[1].gtid_executed, "g1", "{field}");
        let whole = read(plain());
        let written = write(&MultiMasterClusterStatus {
            as_read: status.as_read,
            ..whole
        });
        assert_eq!(written, plain(), "{field}: a fresh value takes its place");
    }
}

#[test]
fn a_state_that_is_not_known_is_the_first_of_all() {
    let mut newer = plain();
    newer["memberStatuses"][0]["state"] = json!("Upgrading");
    assert_eq!(read(newer).member_statuses[0].state, MemberState::Pending);
}

#[test]
fn a_condition_that_cannot_be_read_and_is_not_ours_stays() {
    let mut newer = plain();
    let odd = json!({"type": "BackedUp", "status": 1});
    newer["conditions"].as_array_mut().unwrap().push(odd.clone());
    let status = read(newer);
    assert_eq!(status.conditions.len(), 2);
    assert_eq!(write(&status)["conditions"][2], odd);
}

/// A watch ends at the first object that cannot be decoded, and with it the watch of all others.
#[test]
fn whatever_is_in_a_status_the_resource_is_decoded() {
    for status in [
        json!({"epoch": {"a": []}, "memberStatuses": [null, 3], "conditions": "x"}),
        json!({}),
        json!(5),
        json!(null),
    ] {
        let resource = json!({
            "apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster", "metadata": {"name": "demo"},
            "spec": {"storage": {"size": "1Gi"}}, "status": status
        });
        let read: MultiMasterCluster = serde_json::from_value(resource).unwrap();
        assert_eq!(read.spec.members, 3);
    }
}

#[test]
fn what_is_recorded_is_the_same_until_a_decision_would_be_another() {
    let base = read(plain());
    let member = |status: &mut Value, field: &str, value: Value| status["memberStatuses"][0][field] = value;
    let mut seen = plain();
    for (field, value) in [
        ("state", json!("Failed")),
        ("gtidExecuted", json!("g9")),
        ("links", json!([])),
        ("message", json!("m")),
    ] {
        member(&mut seen, field, value);
    }
    (seen["phase"], seen["ring"], seen["conditions"]) = (json!("Degraded"), json!("0✗1✗0"), json!([]));
    seen["recordedAt"] = json!("2026-01-01T00:00:07Z");
    assert!(read(seen).records_as(&base));
    for (field, value) in [
        ("name", json!("demo-7")),
        ("bypassed", json!(true)),
        ("bypassedAt", json!("2026-01-01T00:00:00Z")),
        ("heldOutUntil", json!("2026-01-01T00:00:00Z")),
        ("serverUUID", json!("u9")),
        ("formerServerUUIDs", json!([])),
        ("catchUpTo", json!("c9")),
    ] {
        let mut other = plain();
        member(&mut other, field, value);
        assert!(!read(other).records_as(&base), "{field}");
    }
    for (field, value) in [
        ("epoch", json!(8)),
        ("databaseCreated", json!(false)),
        ("writer", json!(null)),
        ("memberStatuses", json!([])),
    ] {
        let mut other = plain();
        other[field] = value;
        assert!(!read(other).records_as(&base), "{field}");
    }
}
