//! ConfigMap with the user's MySQL configuration, and its hash.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::object::owned;
use super::validate::is_left_out;
use crate::api::MultiMasterCluster;
use crate::names;

/// The file name at the end of [`names::paths::CONFIG`].
pub(super) const FILE: &str = "my.cnf";

/// ConfigMap `<cluster>-config`.
pub fn config_map(cluster: &MultiMasterCluster) -> ConfigMap {
    ConfigMap {
        metadata: owned(cluster, names::config_map(&cluster.name_any())),
        data: Some(BTreeMap::from([(FILE.to_owned(), my_cnf(cluster))])),
        ..ConfigMap::default()
    }
}

/// The whole file. The ring's settings are not in it: they are on mysqld's command line, which wins over this file.
pub fn my_cnf(cluster: &MultiMasterCluster) -> String {
    let comment = "# spec.mysql.config of the MultiMasterCluster; edits here are undone.";
    format!("{comment}\n[mysqld]\n{}", settings(cluster))
}

/// Hash of the configuration. It is in the pod template, so that a change of the configuration makes a new revision of the members.
///
/// FNV-1a is written out here because the hash must stay the same in every later version: another value restarts all members.
pub fn config_hash(cluster: &MultiMasterCluster) -> String {
    let hash = settings(cluster).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The user's settings, sorted, a line each.
fn settings(cluster: &MultiMasterCluster) -> String {
    let mut lines = String::new();
    let all = cluster.spec.mysql.iter().flat_map(|mysql| &mysql.config);
    for (key, value) in all.filter(|(key, _)| !is_left_out(key)) {
        // Writing to a String does not fail.
        let _ = if value.is_empty() {
            writeln!(lines, "{key}")
        } else {
            writeln!(lines, "{key} = {value}")
        };
    }
    lines
}
