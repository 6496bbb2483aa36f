//! What a ring does while all is well, on one ring.

use anyhow::Result;
use serde_json::json;

use crate::support::part;
use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::{comparison, consistency, fencing, ring};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_healthy_ring_does_what_it_says() -> Result<()> {
    in_namespace("healthy", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        part("a write at any member arrives at all", ring::writes_arrive(&ring)).await?;
        part("an annotation fences members by name", fencing::by_annotation(&ring)).await?;
        part(
            "a row that differs is named, and nobody is stopped for long",
            comparison::names_what_differs(&ring),
        )
        .await?;
        part(
            "where all write, a member shows causes first, and nothing else is sure",
            consistency::where_all_write(&ring),
        )
        .await
    })
    .await
}
