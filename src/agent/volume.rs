//! Whether the volume is full. mysqld does not report it: it waits in the middle of a write until there is room.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::member::Shared;

/// With less room than this, in bytes, the volume counts as full: the next event of a binary log may be larger.
const ROOM: u64 = 1 << 20;
/// How often the room is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the room every second, and never ends.
pub async fn watch(volume: PathBuf, shared: Arc<Shared>) {
    loop {
        let volume = volume.clone();
        // On a thread of its own, because storage that hangs must not delay the agent.
        let full = match tokio::task::spawn_blocking(move || rustix::fs::statvfs(&volume)).await {
            Ok(Ok(space)) => space.f_bavail.saturating_mul(space.f_frsize) < ROOM,
            Ok(Err(error)) => {
                warn!(%error, "cannot read how much room there is on the volume");
                false
            }
            Err(error) => {
                warn!(%error, "reading the room on the volume was cut off");
                false
            }
        };
        if shared.set_volume_full(full) {
            warn!(full, "the volume is full, or not any more");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
