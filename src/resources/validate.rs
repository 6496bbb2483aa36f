//! Errors in a spec that the API server has accepted.
//!
//! The CRD has every check that CEL can express; this file has the others. Their messages are shown in the Ready condition, so each names the field,
//! what is wrong, and the way out.

use std::fmt;

use kube::ResourceExt;

use super::{overlay, quantity};
use crate::api::MultiMasterCluster;
use crate::mysql::settings::{RING_OWNED, normalise};

/// The field with the size of the volumes.
pub const STORAGE_SIZE: &str = "spec.storage.size";

/// One byte, in billionths.
const BYTE: i128 = 1_000_000_000;
/// No volume is asked for from this size on, 1Ei. Kubernetes and storage drivers count bytes in 64 bits, which end at 8Ei, and drivers round up; no
/// storage makes a volume of 1Ei. The CRD has the same bound.
const TOO_LARGE: i128 = BYTE << 60;

/// A field of the resource that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// Its path, as people write it: `spec.mysql.config.server_id`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub way_out: String,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.problem, self.way_out)
    }
}

/// Checks the resource. It reports every error, not only the first.
///
/// # Errors
/// Every field that cannot be carried out, with the reason and the way out.
pub fn validate(cluster: &MultiMasterCluster) -> Result<(), Vec<InvalidField>> {
    let mut invalid = Vec::new();
    let mut report = |field: String, problem: &str, way_out: &str| {
        invalid.push(InvalidField {
            field,
            problem: problem.into(),
            way_out: way_out.into(),
        });
    };
    if cluster.name_any().ends_with("-members") {
        let problem = "ends with -members, as the Services with the members' names do";
        report("metadata.name".into(), problem, "choose another name");
    }
    if cluster.name_any().ends_with("-balancer") {
        let problem = "ends with -balancer, as HAProxy's objects of another cluster do";
        report("metadata.name".into(), problem, "choose another name");
    }
    let is_founded = cluster.status.as_ref().is_some_and(|status| status.epoch > 0);
    if cluster.name_any().ends_with("-reads") && !is_founded {
        let problem = "ends with -reads, as the Services for reads do";
        report("metadata.name".into(), problem, "choose another name");
    }
    if let Some((problem, way_out)) = storage_size(cluster) {
        report(STORAGE_SIZE.into(), problem, way_out);
    }
    for (key, value) in cluster.spec.mysql.iter().flat_map(|mysql| &mysql.config) {
        // A key with odd characters must not garble the message.
        let field = format!("spec.mysql.config.{}", key.escape_debug());
        if let Some((problem, way_out)) = wrong_key(key) {
            report(field, &problem, &way_out);
        } else if let Some((problem, way_out)) = wrong_value(value) {
            report(field, problem, way_out);
        }
    }
    match overlay::theirs(cluster) {
        Ok(template) => {
            for (field, way_out) in template.iter().flat_map(|template| overlay::refused(cluster, template)) {
                report(format!("spec.podTemplate.{field}"), "is what the ring owns", way_out);
            }
        }
        Err((field, why)) => {
            let way_out =
                "write it as in the pod template of a Deployment; a number or true in place of a text needs quotes";
            report(
                format!("spec.podTemplate.{field}"),
                &format!("cannot be read: {why}"),
                way_out,
            );
        }
    }
    if invalid.is_empty() { Ok(()) } else { Err(invalid) }
}

/// What is wrong with the size of the volumes, and the way out.
pub fn storage_size(cluster: &MultiMasterCluster) -> Option<(&'static str, &'static str)> {
    let problem = match quantity::nanos(&cluster.spec.storage.size.0) {
        None => "is not a size",
        Some(..=0) => "is not more than 0",
        Some(size) if size < BYTE => "is less than one byte; m means thousandths",
        Some(TOO_LARGE..) => "is 1Ei or more, which no storage has",
        Some(_) => return None,
    };
    Some((problem, "write it like 10Gi"))
}

fn wrong_key(key: &str) -> Option<(String, String)> {
    let well_formed = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !well_formed {
        let way_out = "use letters, digits, '_', '-' or '.', beginning with a letter";
        return Some(("is not the name of a MySQL setting".into(), way_out.into()));
    }
    let (key, owned) = (canonical(key), RING_OWNED.iter().copied());
    let problem = if owned.clone().any(|owned| canonical(owned) == key) {
        "is a setting that the ring owns".to_owned()
    } else {
        // mysqld accepts a prefix of a name, if no other name begins with it.
        let owned = owned.clone().find(|owned| canonical(owned).starts_with(&key))?;
        format!("can be read as {owned}, a setting that the ring owns")
    };
    Some((problem, "remove it".into()))
}

/// One spelling for all names that mysqld takes for the same setting, older names included.
fn canonical(key: &str) -> String {
    normalise(key).replace("slave", "replica").replace("master", "source")
}

fn wrong_value(value: &str) -> Option<(&'static str, &'static str)> {
    if value.chars().any(char::is_control) {
        return Some((
            "has a line break or another control character",
            "write the value in one line",
        ));
    }
    // mysqld would ignore the rest of the line without a warning.
    if value.contains('#') && !value.starts_with(['"', '\'']) {
        return Some(("has a '#', which begins a comment in my.cnf", "put the value in quotes"));
    }
    None
}

#[cfg(test)]
mod tests {
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
            include_str!("../../manifests/demo.yaml"),
            include_str!("../../manifests/full.yaml"),
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
}
