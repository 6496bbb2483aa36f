//! What a ring of either positioning mode goes through, on two rings side by side, one for each mode.

use anyhow::Result;

use super::{node, operator, position};
use crate::support::part;
use crate::support::ring::Ring;
use crate::support::world::alone;

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn both_modes_resume_where_they_were() -> Result<()> {
    alone("modes", |world| async move {
        let rings = Ring::of_both_modes(&world).await?;
        part("a forgotten channel resumes where it was", position::forgotten(&rings)).await?;
        part("the operator dies together with a member", operator::together(&rings)).await?;
        part("the members of a restarted node return", node::restarted(&rings)).await
    })
    .await
}
