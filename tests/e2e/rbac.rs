//! The operator may do what it does, and nothing broader.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::support::kubectl;
use crate::support::operator::NAMESPACE;

/// Resource and verbs, in any namespace.
const EVERYWHERE: [&str; 18] = [
    "configmaps [list watch create patch]",
    "deployments.apps [list watch create patch delete]",
    "events [list]",
    "events.events.k8s.io [create patch]",
    "multimasterclusters.multimaster.dev [list watch]",
    "multimasterclusters.multimaster.dev/finalizers [update]",
    "multimasterclusters.multimaster.dev/status [update]",
    "persistentvolumeclaims [list patch]",
    "poddisruptionbudgets.policy [list watch create patch delete]",
    "pods [list watch patch delete]",
    "secrets [get create]",
    "selfsubjectaccessreviews.authorization.k8s.io [create]",
    "selfsubjectreviews.authentication.k8s.io [create]",
    "selfsubjectrulesreviews.authorization.k8s.io [create]",
    "services [list watch create patch]",
    "statefulsets.apps [list watch create patch]",
    "subjectaccessreviews.authorization.k8s.io [create]",
    "tokenreviews.authentication.k8s.io [create]",
];
/// Not in a namespace; `kubectl auth can-i --list` shows it nevertheless.
const UNNAMESPACED: &str = "storageclasses.storage.k8s.io [get]";
/// What it may do in its own namespace besides. Operators of earlier versions need `patch`, in the middle of a rollout.
const AT_HOME: &str = "leases.coordination.k8s.io [get create update patch]";

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn nothing_broader_than_it_uses() -> Result<()> {
    let mut expected: BTreeSet<String> = EVERYWHERE.iter().map(ToString::to_string).collect();
    expected.insert(UNNAMESPACED.into());
    ensure!(rules("default").await? == expected, "{:#?}", rules("default").await?);
    expected.insert(AT_HOME.into());
    ensure!(rules(NAMESPACE).await? == expected, "{:#?}", rules(NAMESPACE).await?);
    Ok(())
}

/// The rules in a namespace. URLs that are no resources (discovery, health) are open to every account and left out.
async fn rules(namespace: &str) -> Result<BTreeSet<String>> {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:multimaster-operator");
    let table = kubectl(&["auth", "can-i", "--list", "--no-headers", &account, "-n", namespace]).await?;
    let mut rules = BTreeSet::new();
    for line in table.lines() {
        // Resources, Non-Resource URLs, Resource Names, Verbs: a rule for single names would show them.
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((resource, rest)) = words.split_first() else {
            continue;
        };
        if resource.starts_with("[/") {
            continue;
        }
        ensure!(rest.starts_with(&["[]", "[]"]), "{line}");
        rules.insert(format!("{resource} {}", rest[2..].join(" ")));
    }
    Ok(rules)
}
