//! Whether there is room on the volume. mysqld does not say: it waits, in the middle of a write, until somebody makes some.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::member::Shared;

/// Less than this is none: the next event of a binary log may be larger.
const ROOM: u64 = 1 << 20;
/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks again and again, and never ends.
pub async fn watch(volume: PathBuf, shared: Arc<Shared>) {
    loop {
        let volume = volume.clone();
        // Storage that hangs must not hold up the agent.
        let full = match tokio::task::spawn_blocking(move || rustix::fs::statvfs(&volume)).await {
            Ok(Ok(space)) => space.f_bavail.saturating_mul(space.f_frsize) < ROOM,
            Ok(Err(error)) => {
                warn!(%error, "cannot see how much room there is on the volume");
                false
            }
            Err(error) => {
                warn!(%error, "the look at the volume was cut off");
                false
            }
        };
        if shared.set_volume_full(full) {
            warn!(full, "the volume is full, or not any more");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
