//! A node's container is restarted: its members return, in both positioning modes.

use anyhow::Result;

use crate::support::history::History;
use crate::support::ring::Ring;
use crate::support::writers::{At, Writers};
use crate::support::{docker, node};

pub async fn restarted(rings: &[Ring; 2]) -> Result<()> {
    let node = rings[0].node(1).await?;
    let mut watched = Vec::new();
    for ring in rings {
        watched.push((ring, History::of(ring).await?, Writers::at_members(ring).await?));
    }
    for (.., writers) in &watched {
        writers.go_on_everywhere().await?;
    }
    docker(&["restart", "--time", "0", &node]).await?;
    node::follow(&node).await?;
    for (ring, history, writers) in watched {
        let (on_it, elsewhere) = members_by_node(ring, &node).await?;
        writers.go_on(&elsewhere).await?;
        for ordinal in on_it {
            history.went_and_came_back(&ring.member(ordinal), 0).await?;
        }
        ring.wait_ready().await?;
        writers.go_on_everywhere().await?;
        writers.settle().await?;
    }
    Ok(())
}

/// Members on the node, and places elsewhere.
async fn members_by_node(ring: &Ring, node: &str) -> Result<(Vec<u8>, Vec<At>)> {
    let (mut on_it, mut elsewhere) = (Vec::new(), Vec::new());
    for ordinal in ring.ordinals() {
        // A pod stays on its node across the restart: its volume is there.
        if ring.node(ordinal).await? == node {
            on_it.push(ordinal);
        } else {
            elsewhere.push(At::Member(ordinal));
        }
    }
    Ok((on_it, elsewhere))
}
