//! Time as the mysqld of member 1 sees it, moved under its feet by libfaketime.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::faults::lasting;
use crate::support::ring::Ring;
use crate::support::{docker, eventually, node, run};

/// On every node: the library, and the file that says how far the clock is off.
const FOLDER: &str = "/var/lib/faketime";
const OFFSET: &str = "/var/lib/faketime/offset";

/// All members are started again, with the library in them and the clocks as they are.
pub async fn take_hold(ring: Ring) -> Result<()> {
    let library = run("hack/faketime.sh", &[], "").await?;
    let library = library.trim();
    let name = Path::new(library)
        .file_name()
        .and_then(|name| name.to_str())
        .context(library.to_owned())?;
    for ordinal in ring.ordinals() {
        let node = ring.node(ordinal).await?;
        node::shell(&node, &format!("mkdir -p {FOLDER}; echo +0 >{OFFSET}")).await?;
        docker(&["cp", library, &format!("{node}:{FOLDER}/{name}")]).await?;
    }
    let variables = [
        ("LD_PRELOAD", format!("{FOLDER}/{name}")),
        ("FAKETIME_TIMESTAMP_FILE", OFFSET.into()),
        // Seconds until it reads the file again.
        ("FAKETIME_CACHE_DURATION", "1".into()),
        // What measures how long something takes does not jump.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let variables: Vec<Value> = variables
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let mount = json!({"name": "faketime", "mountPath": FOLDER, "readOnly": true});
    let template = json!({"spec": {
        "volumes": [{"name": "faketime", "hostPath": {"path": FOLDER}}],
        "containers": [{"name": "mysql", "env": variables, "volumeMounts": [mount]}],
    }});
    ring.patch(json!({"spec": {"podTemplate": template}})).await?;
    restarted(&ring, true).await
}

pub async fn let_go(ring: Ring) -> Result<()> {
    ring.patch(json!({"spec": {"podTemplate": null}})).await?;
    restarted(&ring, false).await
}

/// Waits until all members were started again, with the library or without, and are in the ring.
async fn restarted(ring: &Ring, held: bool) -> Result<()> {
    eventually("all members are started again", || async {
        for ordinal in ring.ordinals() {
            let spec = ring.pod(ordinal).await?.spec.unwrap_or_default();
            let has = spec.volumes.iter().flatten().any(|volume| volume.name == "faketime");
            ensure!(has == held, "{} is the old one", ring.member(ordinal));
        }
        Ok(())
    })
    .await?;
    ring.wait_ready().await
}

/// An hour ahead, then two hours back. Each time mysqld crashes in it: its links are made anew, certificates and all.
pub async fn jump(ring: Ring) -> Result<()> {
    let node = ring.node(1).await?;
    for offset in ["+3600", "-3600"] {
        node::shell(&node, &format!("echo {offset} >{OFFSET}")).await?;
        lasting(10).await;
        ring.kill_mysqld(1).await?;
        lasting(10).await;
    }
    node::shell(&node, &format!("echo +0 >{OFFSET}")).await.map(drop)
}
