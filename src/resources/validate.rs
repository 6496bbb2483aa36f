//! Errors in a spec that the API server has accepted.
//!
//! The CRD has every check that CEL can express; this file has the others. Their messages are shown in the Ready condition, so each names the field,
//! what is wrong, and the way out.

use std::fmt;

use kube::ResourceExt;

use super::{overlay, quantity};
use crate::api::MultiMasterCluster;
use crate::mysql::settings::{OWNED_LATER, RING_OWNED, normalise};

/// Names of settings with which the names of others begin.
const WHOLE_NAMES: [&str; 2] = ["general_log", "slow_query_log"];

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
    let is_founded = cluster.is_founded();
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
        if let Some((problem, way_out)) = wrong_key(key, is_founded) {
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

/// Settings of `spec.mysql.config` that have no effect: they belong to the ring since a later version than that which accepted them.
pub fn left_out(cluster: &MultiMasterCluster) -> impl Iterator<Item = &str> {
    let settings = cluster.spec.mysql.iter().flat_map(|mysql| mysql.config.keys());
    settings.map(String::as_str).filter(|key| is_left_out(key))
}

/// Whether a setting has no effect.
pub fn is_left_out(key: &str) -> bool {
    owned(&canonical(key), OWNED_LATER).is_some()
}

/// The setting of a list that mysqld may take a key for: it accepts a prefix of a name, if no other name begins with it.
fn owned<'a>(key: &str, list: &[&'a str]) -> Option<&'a str> {
    let is_it = |name: &&&str| canonical(name) == key;
    let is_prefix = |name: &&&str| canonical(name).starts_with(key) && !WHOLE_NAMES.contains(&key);
    list.iter().find(is_it).or_else(|| list.iter().find(is_prefix)).copied()
}

fn wrong_key(key: &str, is_founded: bool) -> Option<(String, String)> {
    let well_formed = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !well_formed {
        let way_out = "use letters, digits, '_', '-' or '.', beginning with a letter";
        return Some(("is not the name of a MySQL setting".into(), way_out.into()));
    }
    let key = canonical(key);
    let later = || owned(&key, OWNED_LATER).filter(|_| !is_founded);
    let owned = owned(&key, RING_OWNED).or_else(later)?;
    let problem = match canonical(owned) == key {
        true => "is a setting that the ring owns".to_owned(),
        false => format!("can be read as {owned}, a setting that the ring owns"),
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
mod tests;
