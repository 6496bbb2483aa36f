//! What can happen to what member 1 has on its disk.

use anyhow::{Result, ensure};

use super::faults::lasting;
use crate::support::ring::Ring;
use crate::support::volume::Volume;
use crate::support::{eventually, kubectl, uncordon};

/// The copy is what a snapshot of the storage would hold: taken between two writes, of a mysqld that runs.
pub async fn set_back(ring: Ring) -> Result<()> {
    let volume = Volume::of(&ring, 1).await?;
    let life = ring.server_uuid(1).await?;
    ring.signal_mysqld(1, "STOP").await?;
    let copied = volume.copy().await;
    ring.signal_mysqld(1, "CONT").await?;
    copied?;
    lasting(5).await;
    ring.away(1).await?;
    volume.set_back().await?;
    uncordon().await?;
    eventually("it is back", || async {
        ensure!(ring.server_uuid(1).await? != life, "not with a new life");
        Ok(())
    })
    .await
}

/// mysqld cannot start any more, and status has its words. The way out is a person's: the volume is given up, the member becomes a copy.
pub async fn corrupt(ring: Ring) -> Result<()> {
    let volume = Volume::of(&ring, 1).await?;
    ring.away(1).await?;
    // What was sent is what may be looked for afterwards; a mysqld that ends in order has sent all.
    volume
        .shell("dd if=/dev/urandom of=data/mysql.ibd bs=16k seek=1 count=64 conv=notrunc")
        .await?;
    uncordon().await?;
    eventually("status says what mysqld says", || async {
        let status = ring.get().await?.status.unwrap_or_default();
        let message = status.member_statuses[1].message.clone().unwrap_or_default();
        ensure!(message.contains("Database page corruption"), "{message}");
        Ok(())
    })
    .await?;
    lose(ring).await
}

/// Volume and pod are deleted: a new member begins in their place, with an empty volume.
pub async fn lose(ring: Ring) -> Result<()> {
    let objects = ["pvc/data-demo-1", "pod/demo-1"];
    kubectl(&[&["delete", "-n", &ring.namespace, "--wait=false"], objects.as_slice()].concat())
        .await
        .map(drop)
}

/// The volume has a size that is really a limit.
pub async fn limit(ring: Ring) -> Result<()> {
    let volume = Volume::of(&ring, 1).await?;
    ring.away(1).await?;
    volume.limit(200).await?;
    uncordon().await?;
    ring.wait_ready().await
}

pub async fn unlimit(ring: Ring) -> Result<()> {
    let volume = Volume::of(&ring, 1).await?;
    ring.away(1).await?;
    volume.unlimit().await?;
    uncordon().await?;
    ring.wait_ready().await
}

/// Somebody fills it. Half a minute later there is room again.
pub async fn fill(ring: Ring) -> Result<()> {
    let volume = Volume::of(&ring, 1).await?;
    let said = volume.shell("dd if=/dev/zero of=filler bs=1M 2>&1 || true").await?;
    ensure!(said.contains("No space left"), "it is not full: {said}");
    lasting(30).await;
    volume.shell("rm filler").await.map(drop)
}

/// Everybody keeps only what is written next; nobody lacks what is gone.
pub async fn purge(ring: Ring) -> Result<()> {
    for ordinal in ring.ordinals() {
        ring.purge_binary_logs(ordinal).await?;
    }
    ring.delete_pod(1).await
}

pub async fn long_absence(ring: Ring) -> Result<()> {
    let life = ring.server_uuid(1).await?;
    ring.away(1).await?;
    lasting(5).await;
    for ordinal in [0, 2] {
        ring.purge_binary_logs(ordinal).await?;
    }
    uncordon().await?;
    eventually("it is made a copy", || async {
        ensure!(ring.server_uuid(1).await? != life, "not yet");
        Ok(())
    })
    .await
}
