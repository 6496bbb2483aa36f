//! What can happen to member 1. Each ends by itself: what was cut is mended, what was frozen thaws.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::support::network::{filter, isolate};
use crate::support::ring::Ring;
use crate::support::{docker, eventually, kubectl, operator};

pub struct Fault {
    pub name: &'static str,
    pub strike: fn(Ring) -> BoxFuture<'static, Result<()>>,
    /// The member leaves the Service, whatever happens.
    pub takes_it_out: bool,
}

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "pod deleted",
        strike: |ring| async move { ring.delete_pod(1).await }.boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "mysqld killed with -9",
        strike: |ring| async move { ring.kill_mysqld(1).await }.boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "mysqld frozen for 3 s",
        strike: |ring| freeze(ring, 3).boxed(),
        takes_it_out: false,
    },
    Fault {
        name: "mysqld frozen for 60 s",
        strike: |ring| freeze(ring, 60).boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "node paused for 20 s",
        strike: |ring| pause_node(ring).boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "link to member 2 cut for 15 s, one way",
        strike: |ring| cut(ring, &[(1, 2)]).boxed(),
        takes_it_out: false,
    },
    Fault {
        name: "link to member 2 cut for 15 s, both ways",
        strike: |ring| cut(ring, &[(1, 2), (2, 1)]).boxed(),
        takes_it_out: false,
    },
    Fault {
        name: "cut off from everybody for 30 s",
        strike: |ring| cut_off(ring).boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "volume lost",
        strike: |ring| lose_volume(ring).boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "lost with its neighbour, member 2",
        strike: |ring| delete_pods(ring, &[1, 2]).boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "all pods deleted at once",
        strike: |ring| delete_pods(ring, &[0, 1, 2]).boxed(),
        takes_it_out: true,
    },
    Fault {
        name: "away for 15 s, operator killed in mid-heal",
        strike: |ring| kill_operator_in_mid_heal(ring).boxed(),
        takes_it_out: true,
    },
];

async fn lasting(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn freeze(ring: Ring, seconds: u64) -> Result<()> {
    ring.signal_mysqld(1, "STOP").await?;
    lasting(seconds).await;
    ring.signal_mysqld(1, "CONT").await
}

async fn pause_node(ring: Ring) -> Result<()> {
    let node = ring.node(1).await?;
    docker(&["pause", &node]).await?;
    lasting(20).await;
    docker(&["unpause", &node]).await.map(drop)
}

async fn cut(ring: Ring, ways: &'static [(u8, u8)]) -> Result<()> {
    let mut rules = Vec::new();
    for &(from, to) in ways {
        rules.push((to, ring.ip(from).await?, ring.ip(to).await?));
    }
    for (to, source, target) in &rules {
        filter(&ring, "-I", *to, &["-s", source, "-d", target]).await?;
    }
    lasting(15).await;
    for (to, source, target) in &rules {
        filter(&ring, "-D", *to, &["-s", source, "-d", target]).await?;
    }
    Ok(())
}

async fn cut_off(ring: Ring) -> Result<()> {
    let cut = isolate(&ring, 1).await?;
    lasting(30).await;
    cut.mend().await
}

async fn lose_volume(ring: Ring) -> Result<()> {
    let objects = ["pvc/data-demo-1", "pod/demo-1"];
    kubectl(&[&["delete", "-n", &ring.namespace, "--wait=false"], objects.as_slice()].concat())
        .await
        .map(drop)
}

async fn delete_pods(ring: Ring, ordinals: &[u8]) -> Result<()> {
    for ordinal in ordinals {
        ring.delete_pod(*ordinal).await?;
    }
    Ok(())
}

async fn kill_operator_in_mid_heal(ring: Ring) -> Result<()> {
    let node = ring.node(1).await?;
    kubectl(&["cordon", &node]).await?;
    ring.delete_pod(1).await?;
    eventually("the ring is being closed", || async {
        let status = ring.get().await?.status.unwrap_or_default();
        ensure!(status.member_statuses[1].bypassed, "{}", status.ring);
        Ok(())
    })
    .await?;
    operator::kill(&[operator::leader().await?]).await?;
    ring.wait_closed("0→2→0").await?;
    lasting(5).await;
    kubectl(&["uncordon", &node]).await.map(drop)
}
