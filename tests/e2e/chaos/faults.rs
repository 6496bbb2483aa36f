//! What can happen to member 1. Each ends by itself: what was cut is mended, what was frozen thaws.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::ResourceExt;

use super::{clock, disk};
use crate::support::network::{filter, isolate};
use crate::support::ring::Ring;
use crate::support::{docker, eventually, kubectl, node, operator, sql, uncordon};

type Deed = fn(Ring) -> BoxFuture<'static, Result<()>>;

pub struct Fault {
    pub name: &'static str,
    pub strike: Deed,
    /// The member leaves the Service, whatever happens.
    pub takes_it_out: bool,
    /// What must be so before it can strike. It leaves the ring whole.
    pub prepare: Deed,
    /// What was prepared is taken away again, when the ring is whole.
    pub undo: Deed,
}

const PLAIN: Fault = Fault {
    name: "",
    strike: nothing,
    takes_it_out: true,
    prepare: nothing,
    undo: nothing,
};

fn nothing(_: Ring) -> BoxFuture<'static, Result<()>> {
    async { Ok(()) }.boxed()
}

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "pod deleted",
        strike: |ring| async move { ring.delete_pod(1).await }.boxed(),
        ..PLAIN
    },
    Fault {
        name: "mysqld killed with -9",
        strike: |ring| async move { ring.kill_mysqld(1).await }.boxed(),
        ..PLAIN
    },
    Fault {
        name: "mysqld frozen for 3 s",
        strike: |ring| freeze(ring, 3).boxed(),
        takes_it_out: false,
        ..PLAIN
    },
    Fault {
        name: "mysqld frozen for 60 s",
        strike: |ring| freeze(ring, 60).boxed(),
        ..PLAIN
    },
    Fault {
        name: "node paused for 20 s",
        strike: |ring| pause_node(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "node killed for 10 s",
        strike: |ring| kill_node(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "link to member 2 cut for 15 s, one way",
        strike: |ring| cut(ring, &[(1, 2)]).boxed(),
        takes_it_out: false,
        ..PLAIN
    },
    Fault {
        name: "link to member 2 cut for 15 s, both ways",
        strike: |ring| cut(ring, &[(1, 2), (2, 1)]).boxed(),
        takes_it_out: false,
        ..PLAIN
    },
    Fault {
        name: "cut off from everybody for 30 s",
        strike: |ring| cut_off(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "volume lost",
        strike: |ring| disk::lose(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "volume set back to an older copy",
        strike: |ring| disk::set_back(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "data directory corrupted",
        strike: |ring| disk::corrupt(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "disk full",
        strike: |ring| disk::fill(ring).boxed(),
        prepare: |ring| disk::limit(ring).boxed(),
        undo: |ring| disk::unlimit(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "binary logs purged, pod deleted",
        strike: |ring| disk::purge(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "away until what it needs is purged",
        strike: |ring| disk::long_absence(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "lost with its neighbour, member 2",
        strike: |ring| delete_pods(ring, &[1, 2]).boxed(),
        ..PLAIN
    },
    Fault {
        name: "all pods deleted at once",
        strike: |ring| delete_pods(ring, &[0, 1, 2]).boxed(),
        ..PLAIN
    },
    Fault {
        name: "away for 15 s, operator killed in mid-heal",
        strike: |ring| kill_operator_in_mid_heal(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "mysqld -9, API server down for 30 s",
        strike: |ring| kill_without_api_server(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "table altered during the heal and the return",
        strike: |ring| alter_in_mid_heal(ring).boxed(),
        ..PLAIN
    },
    Fault {
        name: "clock an hour ahead, then an hour behind",
        strike: |ring| clock::jump(ring).boxed(),
        prepare: |ring| clock::take_hold(ring).boxed(),
        undo: |ring| clock::let_go(ring).boxed(),
        ..PLAIN
    },
];

pub async fn lasting(seconds: u64) {
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

async fn kill_node(ring: Ring) -> Result<()> {
    let node = ring.node(1).await?;
    docker(&["kill", &node]).await?;
    lasting(10).await;
    docker(&["start", &node]).await?;
    node::follow(&node).await
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
    uncordon().await
}

/// What was connected to the API server is reset, and nobody connects. The operator loses its lease.
async fn kill_without_api_server(ring: Ring) -> Result<()> {
    let nodes = [
        "get",
        "nodes",
        "-l",
        "node-role.kubernetes.io/control-plane",
        "-o",
        "name",
    ];
    let nodes = kubectl(&nodes).await?;
    let control_plane = nodes.trim().trim_start_matches("node/");
    let member = ring.node(1).await?;
    let rule = "INPUT -p tcp --dport 6443 -j REJECT --reject-with tcp-reset";
    // Processes of pods are processes of their node too.
    let kill = format!(
        "for p in $(grep -lz 'report-host={}[.].*[.]{}[.]' /proc/[0-9]*/cmdline); do p=${{p%/cmdline}}; kill -9 ${{p#/proc/}}; done",
        ring.member(1),
        ring.namespace
    );
    node::shell(control_plane, &format!("iptables -I {rule}")).await?;
    let killed = node::shell(&member, &kill).await;
    lasting(30).await;
    node::shell(control_plane, &format!("iptables -D {rule}")).await?;
    killed.map(drop)
}

/// In place before the ring is closed, and as a copy of the table while the member comes back.
async fn alter_in_mid_heal(ring: Ring) -> Result<()> {
    let before = ring.pod(1).await?.uid();
    kubectl(&["cordon", &ring.node(1).await?]).await?;
    ring.delete_pod(1).await?;
    let add = |column: &str, how: &str| {
        format!("ALTER TABLE app.writes ADD COLUMN {column} INT NOT NULL DEFAULT 7, ALGORITHM={how}")
    };
    sql::run(&mut ring.root(0).await?, &add("instant", "INSTANT")).await?;
    ring.wait_closed("0→2→0").await?;
    uncordon().await?;
    eventually("the member is coming back", || async {
        ensure!(ring.pod(1).await?.uid() != before, "the pod is still ending");
        ring.ip(1).await
    })
    .await?;
    Ok(sql::run(&mut ring.root(2).await?, &add("copied", "COPY")).await?)
}
