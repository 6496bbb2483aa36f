//! The volume of a member: a folder on its node.

use anyhow::{Result, ensure};

use super::ring::Ring;
use super::{kubectl, node};

pub struct Volume {
    node: String,
    folder: String,
}

impl Volume {
    pub async fn of(ring: &Ring, ordinal: u8) -> Result<Self> {
        let claim = format!("pvc/data-{}", ring.member(ordinal));
        let name = "jsonpath={.spec.volumeName}";
        let volume = kubectl(&["get", &claim, "-n", &ring.namespace, "-o", name]).await?;
        let path = "jsonpath={.spec.hostPath.path}{.spec.local.path}";
        let folder = kubectl(&["get", "pv", &volume, "-o", path]).await?;
        ensure!(folder.contains(&volume), "{volume} is at {folder:?}");
        let node = ring.node(ordinal).await?;
        Ok(Self { node, folder })
    }

    /// A script as root on the node, in the folder.
    pub async fn shell(&self, script: &str) -> Result<String> {
        node::shell(&self.node, &format!("cd '{}'; {script}", self.folder)).await
    }

    /// Copies it beside itself. Nobody may write to it meanwhile.
    pub async fn copy(&self) -> Result<()> {
        self.shell(r#"cp -a . "$PWD.older""#).await.map(drop)
    }

    /// Back to the copy. Nobody may use it meanwhile.
    pub async fn set_back(&self) -> Result<()> {
        let script = r#"find . -mindepth 1 -delete; cp -a "$PWD.older/." .; rm -r "$PWD.older""#;
        self.shell(script).await.map(drop)
    }

    /// Moves it to a filesystem of its own in which there is little room. Nobody may use it meanwhile.
    pub async fn limit(&self, free_mebibytes: u32) -> Result<()> {
        let script = format!(
            r#"cp -a . "$PWD.moved"; size=$(($(du -sm . | cut -f1) + {free_mebibytes}))
            mount -t tmpfs -o "size=${{size}}m" limited "$PWD"; cd "$PWD"; cp -a "$PWD.moved/." .; rm -r "$PWD.moved""#
        );
        self.shell(&script).await.map(drop)
    }

    /// Back to where it was, with what is in it now. Nobody may use it meanwhile.
    pub async fn unlimit(&self) -> Result<()> {
        let script = r#"cp -a . "$PWD.moved"; cd /; umount "$OLDPWD"; cd "$OLDPWD"
            find . -mindepth 1 -delete; cp -a "$PWD.moved/." .; rm -r "$PWD.moved""#;
        self.shell(script).await.map(drop)
    }
}
