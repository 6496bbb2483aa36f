//! What somebody changes by hand is put back; what somebody adds stays.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::{eventually, kubectl};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn changes_by_hand_are_put_back() -> Result<()> {
    in_namespace("drift", |world| async move {
        let ring = Ring::ready(&world, "demo", 2, json!({})).await?;
        let services: Api<Service> = Api::namespaced(world.client.clone(), &world.namespace);
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(world.client.clone(), &world.namespace);
        let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.namespace);
        let (service, members) = (services.get("demo").await?, services.get("demo-members").await?);
        let budget_name = only(kubectl(&["get", "pdb", "-n", &world.namespace, "-o", "name"]).await?)?;
        let budget = budgets.get(&budget_name).await?;
        let set = sets.get("demo").await?;
        let namespace = world.namespace.as_str();

        // Labels of a person's own, on what is about to be changed.
        for object in [
            "service/demo",
            "statefulset/demo",
            "pod/demo-0",
            &format!("pdb/{budget_name}"),
        ] {
            kubectl(&["label", object, "-n", namespace, "team=shop"]).await?;
        }
        for (object, patch) in [
            (
                "service/demo",
                json!({"spec": {"selector": {"multimaster.dev/serving": "false", "stray": "yes"}}}),
            ),
            (
                "statefulset/demo",
                json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}),
            ),
            (&format!("pdb/{budget_name}"), json!({"spec": {"maxUnavailable": 2}})),
        ] {
            kubectl(&[
                "patch",
                object,
                "-n",
                namespace,
                "--type=merge",
                "-p",
                &patch.to_string(),
            ])
            .await?;
        }
        kubectl(&["delete", "service/demo-members", "-n", namespace]).await?;
        kubectl(&["label", "pod/demo-0", "-n", namespace, "multimaster.dev/serving-"]).await?;
        kubectl(&[
            "label",
            "pod/demo-1",
            "-n",
            namespace,
            "--overwrite",
            "multimaster.dev/serving=no",
        ])
        .await?;

        eventually("the Service's selector is put back", || async {
            let now = services.get("demo").await?;
            let selectors = (
                now.spec.as_ref().map(|it| &it.selector),
                service.spec.as_ref().map(|it| &it.selector),
            );
            ensure!(selectors.0 == selectors.1, "{selectors:?}");
            ensure!(
                now.labels().get("team").is_some_and(|team| team == "shop"),
                "{:?}",
                now.labels()
            );
            Ok(())
        })
        .await?;
        eventually("the budget is put back", || async {
            let now = budgets.get(&budget_name).await?;
            ensure!(now.spec == budget.spec, "{:?}", now.spec);
            ensure!(now.labels().contains_key("team"), "{:?}", now.labels());
            Ok(())
        })
        .await?;
        eventually("the StatefulSet is put back", || async {
            let now = sets.get("demo").await?;
            ensure!(now.spec == set.spec, "{:?}", now.spec);
            ensure!(now.labels().contains_key("team"), "{:?}", now.labels());
            Ok(())
        })
        .await?;
        eventually("the deleted Service is there again", || async {
            let now = services.get("demo-members").await?;
            let selectors = (
                now.spec.map(|it| it.selector),
                members.spec.as_ref().map(|it| it.selector.clone()),
            );
            ensure!(selectors.0 == selectors.1, "{selectors:?}");
            Ok(())
        })
        .await?;
        eventually("the serving labels are put back", || async {
            ensure!(ring.serves(0).await? && ring.serves(1).await?, "not all serve");
            Ok(())
        })
        .await?;
        let pod = ring.pod(0).await?;
        ensure!(
            pod.labels().get("team").is_some_and(|team| team == "shop"),
            "{:?}",
            pod.labels()
        );
        ring.wait_ready().await
    })
    .await
}

/// The one name in a list as `kubectl get -o name` prints it.
fn only(list: String) -> Result<String> {
    let names: Vec<&str> = list.lines().collect();
    ensure!(names.len() == 1, "{names:?}");
    Ok(names[0].rsplit('/').next().unwrap_or_default().to_owned())
}
