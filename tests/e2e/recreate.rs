//! Deleting the resource is not deleting the data, unless the resource says so.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::{World, in_namespace};
use crate::support::writers::{Writers, equal};
use crate::support::{eventually, kubectl, sql};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn what_stays_when_the_resource_goes() -> Result<()> {
    in_namespace("recreate", |world| async move {
        let delete = json!({"storage": {"size": "1Gi", "reclaim": "Delete"}});
        let (stays, goes) = tokio::try_join!(
            Ring::ready(&world, "stays", 2, json!({})),
            Ring::ready(&world, "goes", 2, delete)
        )?;
        let writers = Writers::at_members(&stays).await?;
        writers.go_on_everywhere().await?;
        writers.settle().await?;
        let count = "SELECT COUNT(*) FROM app.writes";
        let rows: u64 = sql::value(&mut stays.root(0).await?, count).await?;
        let password = stays.password("root-password").await?;

        stays.delete().await?;
        goes.delete().await?;
        eventually("the pods are gone", || async {
            let pods = kubectl(&["get", "pods", "-n", &world.namespace, "-o", "name"]).await?;
            ensure!(pods.is_empty(), "{pods}");
            Ok(())
        })
        .await?;
        eventually("only what must stay is there", || async {
            let claims = claims(&world).await?;
            ensure!(claims == ["data-stays-0", "data-stays-1"], "{claims:?}");
            let secrets = kubectl(&["get", "secrets", "-n", &world.namespace, "-o", "name"]).await?;
            ensure!(!secrets.contains("/goes-"), "{secrets}");
            ensure!(secrets.contains("secret/stays-credentials"), "{secrets}");
            Ok(())
        })
        .await?;

        let again = Ring::ready(&world, "stays", 2, json!({})).await?;
        ensure!(again.password("root-password").await? == password, "another password");
        for ordinal in again.ordinals() {
            let found: u64 = sql::value(&mut again.root(ordinal).await?, count).await?;
            ensure!(found == rows, "{found} of {rows} rows");
        }
        equal(&again).await
    })
    .await
}

async fn claims(world: &World) -> Result<Vec<String>> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &world.namespace);
    let list = api.list(&ListParams::default()).await?;
    let mut names: Vec<String> = list.items.into_iter().filter_map(|claim| claim.metadata.name).collect();
    names.sort();
    Ok(names)
}
