//! Cuts between members: packets are dropped where they enter, or leave, the node of the receiver.

use anyhow::Result;

use super::docker;
use super::ring::Ring;

/// `-I` drops what the rule names at the node of a member, `-D` no longer does.
pub async fn filter(ring: &Ring, action: &str, at: u8, rule: &[&str]) -> Result<()> {
    let node = ring.node(at).await?;
    let command = [&["exec", &node, "iptables", action, "FORWARD"], rule, &["-j", "DROP"]].concat();
    docker(&command).await.map(drop)
}

/// Cuts a member off from everybody but its own node; answers what to mend it with.
pub async fn isolate(ring: &Ring, ordinal: u8) -> Result<Isolated> {
    let isolated = Isolated {
        ring: ring.clone(),
        ordinal,
        ip: ring.ip(ordinal).await?,
    };
    isolated.filter("-I").await?;
    Ok(isolated)
}

/// A member that is cut off from everybody.
pub struct Isolated {
    ring: Ring,
    ordinal: u8,
    ip: String,
}

impl Isolated {
    async fn filter(&self, action: &str) -> Result<()> {
        for way in ["-s", "-d"] {
            filter(&self.ring, action, self.ordinal, &[way, &self.ip]).await?;
        }
        Ok(())
    }

    pub async fn mend(self) -> Result<()> {
        self.filter("-D").await
    }
}
