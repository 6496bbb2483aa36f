//! In the middle of a rollout, and after going back by its image alone, an earlier operator works with the rights of this version.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde::Deserialize;
use serde_json::Value;

use crate::VERSIONS;

/// Kind of the role, API group, resource, verb.
type Right = [String; 4];

#[test]
fn no_right_is_taken_away() {
    let today = rights("manifests/operator/rbac.yaml");
    for version in VERSIONS {
        let before = rights(&format!("tests/upgrade/{version}/rbac.yaml"));
        assert!(before.len() > 20, "{before:?}");
        let gone: Vec<&Right> = before.difference(&today).collect();
        assert!(gone.is_empty(), "the operator of {version} needs {gone:?}");
    }
}

fn rights(path: &str) -> BTreeSet<Right> {
    let text = fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut rights = BTreeSet::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let object = Value::deserialize(document).unwrap();
        let (kind, rules) = match object["kind"].as_str().unwrap() {
            "ClusterRole" => (
                "ClusterRole",
                serde_json::from_value::<ClusterRole>(object).unwrap().rules,
            ),
            "Role" => ("Role", serde_json::from_value::<Role>(object).unwrap().rules),
            _ => continue,
        };
        for rule in rules.into_iter().flatten() {
            rights.extend(of(kind, &rule));
        }
    }
    rights
}

fn of(kind: &str, rule: &PolicyRule) -> Vec<Right> {
    // A rule for some names only is another right than the one for all.
    let named = rule
        .resource_names
        .iter()
        .flatten()
        .cloned()
        .collect::<Vec<_>>()
        .join(",");
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            let resource = format!("{resource} {named}").trim().to_owned();
            let verbs = rule.verbs.iter().cloned();
            rights.extend(verbs.map(|verb| [kind.to_owned(), group.clone(), resource.clone(), verb]));
        }
    }
    rights
}
