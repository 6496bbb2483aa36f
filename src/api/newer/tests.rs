use super::*;

fn read(spec: Value) -> MultiMasterClusterSpec {
    serde_json::from_value(spec).unwrap()
}

fn full() -> Value {
    let manifest: Value = serde_yaml_ng::from_str(include_str!("../../../manifests/full.yaml")).unwrap();
    manifest["spec"].clone()
}

#[test]
fn what_this_version_knows_it_reads_as_before() {
    let spec = read(full());
    assert_eq!(spec.unknown, [""; 0]);
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(read(written.clone()), spec);
    for (key, value) in full().as_object().unwrap() {
        assert!(!written[key].is_null(), "{key}: {value}");
    }
    assert_eq!(
        read(json!({"storage": {"size": "1Gi"}, "image": null})).unknown,
        [""; 0]
    );
    for cpu in [json!(1), json!(0.5), json!("1")] {
        let limits = json!({"limits": {"cpu": cpu, "memory": "1Gi"}});
        let spec = read(json!({"storage": {"size": 1073741824}, "resources": limits}));
        assert_eq!(spec.unknown, [""; 0]);
        assert_eq!(
            spec.resources.unwrap().limits.unwrap()["cpu"].0,
            cpu.to_string().trim_matches('"')
        );
    }
}

#[test]
fn what_it_does_not_know_is_named_and_spoils_nothing_else() {
    for (field, value, unknown) in [
        ("/backup", json!({"every": "1h"}), "backup"),
        ("/replication/compression", json!("zstd"), "replication.compression"),
        ("/replication/healing", json!("Sometimes"), "replication.healing"),
        ("/members", json!(300), "members"),
        ("/members", json!("three"), "members"),
        // A version to come may allow more.
        ("/members", json!(12), "members"),
        ("/isolation/leaseSeconds", json!(90), "isolation.leaseSeconds"),
        (
            "/failureDetection/periodSeconds",
            json!(0),
            "failureDetection.periodSeconds",
        ),
        ("/writes", json!("TwoWriters"), "writes"),
        ("/writes", json!(["SingleWriter"]), "writes"),
        ("/conflicts/prefer", json!([0, "1"]), "conflicts.prefer"),
        (
            "/balancer/members",
            json!([{"ordinal": 0, "zone": "a"}]),
            "balancer.members[0].zone",
        ),
        ("/balancer/members", json!([{"weight": 1}]), "balancer.members"),
        ("/storage", json!("1Gi"), "storage"),
        ("/storage/size", json!(true), "storage"),
        ("/storage/snapshots", json!(3), "storage.snapshots"),
        ("/mysql/config", json!({"a": 1}), "mysql.config.a"),
        ("/resources/limits", json!("x"), "resources.limits"),
        ("/paused", json!("perhaps"), "paused"),
    ] {
        let mut spec = full();
        let (parent, key) = field.rsplit_once('/').unwrap();
        let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{field}"));
        parent[key] = value;
        let read = read(spec);
        assert_eq!(read.unknown, [unknown], "{field}");
        assert!(read.is_unknown(unknown) && read.is_unknown(unknown.split(['.', '[']).next().unwrap()));
        assert_eq!(read.max_lag_seconds, self::read(full()).max_lag_seconds, "{field}");
    }
    assert!(!read(json!({"balancers": 1})).is_unknown("balancer"));
}

/// One that cannot be read would hide all that come in the same list.
#[test]
fn no_spec_is_refused_whatever_is_in_it() {
    let poison = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!("x"),
        json!([]),
        json!([[1]]),
        json!({}),
        json!({"x": {"": null}}),
    ];
    let mut paths = Vec::new();
    collect(&full(), "", &mut paths);
    assert!(paths.len() > 40);
    for value in &poison {
        read(value.clone());
        for path in &paths {
            let mut spec = full();
            *spec.pointer_mut(path).unwrap() = value.clone();
            read(spec);
        }
    }
}

fn collect(value: &Value, path: &str, paths: &mut Vec<String>) {
    paths.push(path.into());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(
                    value,
                    &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")),
                    paths,
                );
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                collect(item, &format!("{path}/{n}"), paths);
            }
        }
        _ => {}
    }
}

#[test]
fn the_ring_goes_on_as_it_was_recorded() {
    let cluster = |spec: Value, status: Value| -> MultiMasterCluster {
        let mut all = json!({"storage": {"size": "1Gi"}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let cluster = json!({"apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster", "metadata": {"name": "demo"}, "spec": all, "status": status});
        serde_json::from_value::<MultiMasterCluster>(cluster)
            .unwrap()
            .as_recorded()
    };
    let member = |n: u8| json!({"name": format!("demo-{n}"), "state": "Serving", "links": []});
    let members: Vec<Value> = (0..5).map(member).collect();
    let writer = json!({"name": "demo-1", "since": "2026-01-01T00:00:00Z", "why": ""});
    let status = json!({"memberStatuses": members, "writer": writer, "balancer": {"type": "HAProxy", "serving": 2}});
    let newer = cluster(
        json!({"members": "all", "writes": "Some", "replication": {"healing": "x"}, "conflicts": {"policy": "y"}, "isolation": {"policy": "z"}, "balancer": 1}),
        status.clone(),
    );
    let spec = &newer.spec;
    assert_eq!(
        (spec.members, spec.replication.healing(), spec.conflicts.policy),
        (5, Healing::Wait, ConflictPolicy::Halt)
    );
    assert!(spec.balancer.is_haproxy() && newer.has_single_writer() && spec.comparison.period_hours == 0);
    assert_eq!((spec.paused, spec.knows_positioning()), (None, true));
    assert_eq!(cluster(json!({"paused": 1}), status.clone()).spec.paused, Some(true));
    // No other field says who takes writes.
    let unclear = cluster(json!({"writes": "Quorum"}), json!({"memberStatuses": []}));
    assert_eq!(unclear.spec.paused, Some(true));
    assert!(
        !cluster(json!({"replication": "Clock"}), status.clone())
            .spec
            .knows_positioning()
    );
    // Whoever waits for the end of a lease waits for the longest, and nobody gets one that is longer than it is to be.
    for (isolation, (granted, awaited)) in [
        (json!({"leaseSeconds": 5}), (5, 5)),
        (json!({"leaseSeconds": 5, "quorum": 2}), (5, 5)),
        (json!({"leaseSeconds": "5s"}), (3, 600)),
        (json!(true), (3, 600)),
    ] {
        let spec = cluster(json!({"isolation": isolation}), status.clone()).spec;
        assert_eq!(
            (spec.isolation.lease_seconds, spec.longest_lease()),
            (granted, awaited),
            "{isolation}"
        );
    }
    // What is known is not touched, but for the number of members: nobody joins or leaves meanwhile.
    let known = cluster(json!({"members": 2, "writes": "AllMembers", "backup": {}}), status);
    assert_eq!(
        (known.spec.members, known.has_single_writer(), known.spec.unknown),
        (5, false, vec!["backup".to_owned()])
    );
    assert_eq!(known.spec.replication.healing(), Healing::Bypass);
}
