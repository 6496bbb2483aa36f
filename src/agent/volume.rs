//! How full the volume is. mysqld does not report it: it waits in the middle of a write until there is room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};
use tracing::warn;

use super::member::Shared;
use crate::wire::agent::VolumeUsage;

/// With less room than this, in bytes, the volume counts as full: the next event of a binary log may be larger.
const ROOM: u64 = 1 << 20;
/// How often the room is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// Storage that has not answered for so long is in the log, and again each time that this passes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the room every second, and never ends. Storage that hangs stops the readings and nothing else: the last figures stay in the report, with
/// their age.
pub async fn watch(volume: PathBuf, shared: Arc<Shared>) {
    watch_by(move || usage(&volume), shared).await;
}

async fn watch_by(read: impl Fn() -> io::Result<VolumeUsage> + Clone + Send + 'static, shared: Arc<Shared>) {
    loop {
        // On a thread of its own, because storage that hangs must not delay the agent.
        let full = match answer(tokio::task::spawn_blocking(read.clone())).await {
            Ok(Ok(usage)) => {
                shared.set_volume_usage(usage, Instant::now());
                usage.available_bytes < ROOM
            }
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

/// Waits for one reading, however long it takes: nothing can end a thread that waits for storage, so a second reading would be a second such thread.
async fn answer<T>(mut reading: JoinHandle<T>) -> Result<T, JoinError> {
    let began = Instant::now();
    loop {
        match tokio::time::timeout(PATIENCE, &mut reading).await {
            Ok(answer) => return answer,
            Err(_) => warn!(
                seconds = began.elapsed().as_secs(),
                "the volume does not say how much room it has: its storage hangs"
            ),
        }
    }
}

/// How full the file system of this folder is, now.
///
/// # Errors
/// When the folder is not there or its file system does not say.
pub fn usage(volume: &Path) -> io::Result<VolumeUsage> {
    let space = rustix::fs::statvfs(volume)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(VolumeUsage {
        size_bytes: bytes(space.f_blocks),
        used_bytes: bytes(space.f_blocks.saturating_sub(space.f_bfree)),
        available_bytes: bytes(space.f_bavail),
        seconds_ago: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use clap::Parser;

    use super::*;
    use crate::agent::life::Life;
    use crate::agent::member::Member;
    use crate::args::{Args, Role};

    /// The state of an agent that has read its life record.
    fn shared() -> Arc<Shared> {
        let args = [
            "multimaster",
            "agent",
            "--pod-name=demo-1",
            "--pod-namespace=x",
            "--pod-ip=10.0.0.1",
            "--cluster=demo",
        ];
        let Role::Agent(args) = Args::parse_from(args).role else {
            panic!("not an agent")
        };
        let shared = Shared::new(&Member::new(args).unwrap());
        shared.set_life(&Life::empty(1, None).unwrap());
        Arc::new(shared)
    }

    #[test]
    fn a_folder_says_how_full_its_file_system_is() {
        let folder = std::env::temp_dir();
        let usage = usage(&folder).unwrap();
        assert!(usage.size_bytes > 0, "{usage:?}");
        assert!(
            usage.used_bytes + usage.available_bytes <= usage.size_bytes,
            "{usage:?}"
        );
        assert!(usage.used_percent().is_some_and(|percent| percent <= 100), "{usage:?}");
        let df = std::process::Command::new("df")
            .arg("-Pk")
            .arg(&folder)
            .output()
            .unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let fields: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(fields[1], (usage.size_bytes / 1024).to_string(), "{text}");
        // Others write there meanwhile.
        let percent: u8 = fields[4].trim_end_matches('%').parse().unwrap();
        assert!(usage.used_percent().unwrap().abs_diff(percent) <= 1, "{usage:?} {text}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let absent = usage(Path::new("/no/such/folder"));
        assert_eq!(absent.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_last_figures_stay_in_the_report_with_their_age() {
        let shared = shared();
        let reported = || shared.report().unwrap().volume_usage;
        assert_eq!(reported(), None);
        let usage = VolumeUsage {
            size_bytes: 3,
            used_bytes: 1,
            available_bytes: 2,
            seconds_ago: 0,
        };
        shared.set_volume_usage(usage, Instant::now());
        assert_eq!(reported(), Some(usage));
        let earlier = Instant::now().checked_sub(Duration::from_secs(70)).unwrap();
        shared.set_volume_usage(usage, earlier);
        let old = reported().unwrap();
        assert!((70..80).contains(&old.seconds_ago), "{old:?}");
        assert_eq!(VolumeUsage { seconds_ago: 0, ..old }, usage);
    }

    #[tokio::test]
    async fn storage_that_hangs_is_asked_once() {
        let (shared, asked) = (shared(), Arc::new(AtomicUsize::new(0)));
        let (answers, waiting) = mpsc::channel::<()>();
        let waiting = Arc::new(std::sync::Mutex::new(waiting));
        let read = {
            let asked = Arc::clone(&asked);
            move || {
                asked.fetch_add(1, Ordering::SeqCst);
                // Until the other end is gone.
                let _ = waiting.lock().unwrap().recv();
                Ok(VolumeUsage::default())
            }
        };
        let task = tokio::spawn(watch_by(read, Arc::clone(&shared)));
        tokio::time::sleep(INTERVAL * 3).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(shared.report().unwrap().volume_usage, None);
        drop(answers);
        let is_read = async {
            while shared.report().unwrap().volume_usage.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_read).await.unwrap();
        task.abort();
    }
}
