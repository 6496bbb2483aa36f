use serde_json::json;

use super::*;
use crate::resources::tests::cluster;

fn invalid(spec: serde_json::Value) -> Vec<String> {
    let mut all = json!({ "storage": { "size": "1Gi" } });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    validate(&cluster(all))
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn config(key: &str, value: &str) -> Vec<String> {
    invalid(json!({ "mysql": { "config": { key: value } } }))
}

#[test]
fn ordinary_settings_are_the_users_own() {
    for key in [
        "max_connections",
        "MAX-CONNECTIONS",
        "innodb_buffer_pool_size",
        "skip-external-locking",
        "loose_foo",
        "sql_mode",
        "validate_password.policy",
        "innodb-redo-log-capacity",
        "character_set_server",
        "log_error_verbosity",
        "maximum_sort_buffer_size",
        "long_query_time",
        "general_log",
        "slow_query_log",
        "binlog_cache_size",
        "default_time_zone",
        "table_open_cache",
    ] {
        assert_eq!(config(key, "1"), [""; 0], "{key}");
    }
    assert_eq!(config("sql_mode", "ANSI,NO_ZERO_DATE"), [""; 0]);
    assert_eq!(config("init_x", "'a # b'"), [""; 0]);
    assert_eq!(invalid(json!({})), [""; 0]);
}

#[test]
fn settings_of_the_ring_are_refused_in_every_spelling() {
    for key in [
        "server_id",
        "server-id",
        "SERVER-ID",
        "loose-server_id",
        "maximum_server_id",
        "gtid_mode",
        "log_bin",
        "skip-log-bin",
        "loose_skip_log_bin",
        "disable-log-bin",
        "auto_increment_increment",
        "auto-increment-offset",
        "super_read_only",
        "read_only",
        "log_slave_updates",
        "skip-slave-start",
        "slave_skip_errors",
        "replicate-do-db",
        "replicate_wild_ignore_table",
        "binlog-ignore-db",
        "replicate-rewrite-db",
        "plugin-load-add",
        "ssl_ca",
        "admin_port",
        "event_scheduler",
        "datadir",
        "init_file",
        "relay_log_recovery",
        "binlog_expire_logs_seconds",
        "sql_require_primary_key",
    ] {
        let invalid = config(key, "1");
        assert_eq!(invalid.len(), 1, "{key}");
        assert!(
            invalid[0].starts_with(&format!("spec.mysql.config.{key}: is a setting that the ring owns; ")),
            "{}",
            invalid[0]
        );
    }
    assert!(config("binlog-do-d", "x")[0].contains("can be read as binlog_do_db"));
    assert!(config("server-i", "1")[0].contains("can be read as server_id"));
}

#[test]
fn a_founded_ring_goes_on_without_a_setting_that_the_ring_owns_later() {
    let mut cluster = cluster(json!({
        "storage": { "size": "1Gi" },
        "mysql": { "config": { "general_log": "ON", "loose-PLUGIN-dir": "/x", "general_log_f": "/y", "slave_load_tmpdir": "/z", "max_connections": "9" } },
    }));
    let invalid = validate(&cluster).unwrap_err();
    let fields: Vec<&str> = invalid.iter().map(|invalid| invalid.field.as_str()).collect();
    let settings = ["general_log_f", "loose-PLUGIN-dir", "slave_load_tmpdir"];
    assert_eq!(fields, settings.map(|key| format!("spec.mysql.config.{key}")));
    cluster.status = Some(serde_json::from_value(json!({ "epoch": 1 })).unwrap());
    assert_eq!(validate(&cluster), Ok(()));
    assert_eq!(left_out(&cluster).collect::<Vec<_>>(), settings);
    let file = crate::resources::config::my_cnf(&cluster);
    assert!(
        file.ends_with("[mysqld]\ngeneral_log = ON\nmax_connections = 9\n"),
        "{file}"
    );
}

#[test]
fn nobody_writes_a_line_of_his_own_into_my_cnf() {
    for key in [
        "",
        "a b",
        "a=b",
        "a\nserver_id",
        "[client]",
        "!include /x",
        "#",
        "-x",
        "ключ",
    ] {
        assert!(
            config(key, "1")[0].contains("is not the name of a MySQL setting"),
            "{key}"
        );
    }
    assert!(config("a\nserver_id", "1")[0].starts_with(r"spec.mysql.config.a\nserver_id: "));
    for value in ["1\nserver_id=1", "1\r", "a\0b", "\u{1b}[0m"] {
        assert!(config("sql_mode", value)[0].contains("control character"), "{value:?}");
    }
    assert!(config("init_x", "a#b")[0].contains("'#'"));
}

#[test]
fn the_example_manifests_are_valid() {
    for text in [
        include_str!("../../../manifests/demo.yaml"),
        include_str!("../../../manifests/full.yaml"),
    ] {
        let cluster: MultiMasterCluster = serde_yaml_ng::from_str(text).unwrap();
        assert_eq!((validate(&cluster), cluster.spec.unknown), (Ok(()), Vec::new()));
    }
}

#[test]
fn a_volume_has_a_size() {
    for size in [
        "",
        "abc",
        "0",
        "-1Gi",
        "1 Gi",
        "10m",
        "1Ei",
        "1152921504606846976",
        "9E",
    ] {
        assert!(
            invalid(json!({ "storage": { "size": size } }))[0].starts_with("spec.storage.size: "),
            "{size}"
        );
    }
    for size in [json!(1_073_741_824), json!("1"), json!("1.5Gi"), json!("1023Pi")] {
        assert_eq!(invalid(json!({ "storage": { "size": size } })), [""; 0], "{size}");
    }
}

#[test]
fn a_name_that_another_clusters_service_has_is_refused() {
    let mut cluster = cluster(json!({ "storage": { "size": "1Gi" } }));
    for name in ["demo-members", "demo-balancer", "demo-reads"] {
        cluster.metadata.name = Some(name.into());
        assert_eq!(validate(&cluster).unwrap_err()[0].field, "metadata.name");
    }
    // A ring that has such a name goes on.
    cluster.status = Some(serde_json::from_value(json!({ "epoch": 1 })).unwrap());
    assert_eq!(validate(&cluster), Ok(()));
}

#[test]
fn a_pod_template_that_cannot_be_read_is_the_trouble_of_its_cluster_alone() {
    for (template, expected) in [
        (
            json!({"spec": {"nodeSelector": {"gpu": true}}}),
            "spec.podTemplate.spec.nodeSelector.gpu: cannot be read: invalid type: boolean `true`, expected a string; write it",
        ),
        (
            json!({"metadata": {"labels": {"version": 2}}}),
            "spec.podTemplate.metadata.labels.version: cannot be read: invalid type: integer `2`, expected a string; ",
        ),
        (
            json!({"spec": {"containers": [{"name": "mysql", "env": [{"name": "A", "value": 1}]}]}}),
            "spec.podTemplate.spec.containers[0].env[0].value: cannot be read: ",
        ),
        (
            json!({"spec": {"tolerations": {}}}),
            "spec.podTemplate.spec.tolerations: cannot be read: ",
        ),
        (json!({"spec": "x"}), "spec.podTemplate.spec: cannot be read: "),
    ] {
        let invalid = invalid(json!({ "podTemplate": template }));
        assert_eq!(invalid.len(), 1, "{invalid:?}");
        assert!(invalid[0].starts_with(expected), "{}", invalid[0]);
    }
}

#[test]
fn a_pod_template_says_which_of_its_fields_cannot_be() {
    let template = json!({
        "metadata": {
            "labels": { "team": "a", "multimaster.dev/serving": "true" },
            "annotations": { "multimaster.dev/config-hash": "x", "note": "y" },
        },
        "spec": {
            "hostNetwork": true, "shareProcessNamespace": true, "hostPID": false,
            "nodeSelector": { "disk": "ssd" },
            "containers": [
                { "name": "mysql", "image": "x", "command": ["sh"], "args": ["-c"], "livenessProbe": {},
                  "env": [{ "name": "TZ", "value": "UTC" }, { "name": "POD_IP", "value": "1.2.3.4" }],
                  "volumeMounts": [{ "name": "dumps", "mountPath": "/dumps" }, { "name": "dumps", "mountPath": "/var/lib/mysql/data/" }, { "name": "dumps", "mountPath": "/tmp/dumps" }],
                  "resources": { "limits": { "memory": "1Gi" } } },
                { "name": "exporter", "image": "exporter:1", "command": ["x"] },
            ],
            "initContainers": [{ "name": "agent", "image": "mine" }, { "name": "mysql", "image": "other" }],
            "volumes": [{ "name": "dumps", "emptyDir": {} }, { "name": "credentials", "emptyDir": {} }],
        },
    });
    insta::assert_yaml_snapshot!(invalid(json!({ "podTemplate": template })));
}
