//! Two clusters of one name in two namespaces know nothing of each other.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::Writers;

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn one_name_in_two_namespaces() -> Result<()> {
    in_namespace("here", |here| async move {
        in_namespace("there", |there| async move {
            let (a, b) = tokio::try_join!(
                Ring::ready(&here, "demo", 2, json!({})),
                Ring::ready(&there, "demo", 2, json!({})),
            )?;
            ensure!(
                a.password("root-password").await? != b.password("root-password").await?,
                "the same password"
            );
            let (left, right) = (Writers::at_members(&a).await?, Writers::at_members(&b).await?);
            left.go_on_everywhere().await?;
            right.go_on_everywhere().await?;
            left.settle().await?;
            right.settle().await.map(drop)
        })
        .await
    })
    .await
}
