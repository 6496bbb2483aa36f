//! Fills the history from HAProxy's log and statistics, and passes the log on to the container's log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, stdout};
use tokio::sync::Notify;
use tracing::warn;

use super::haproxy::HaProxy;
use super::history::History;
use super::statistics::Line;
use crate::wire::history::Extract;

/// Fills the history of this pod.
pub struct Recorder {
    history: Mutex<History>,
    message: Notify,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            history: Mutex::new(History::new(now())),
            message: Notify::new(),
        }
    }
}

impl Recorder {
    fn history(&self) -> MutexGuard<'_, History> {
        // After a panic while the lock was held the data is still usable.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until HAProxy logs a message for people. Nearly always the message is that the state of a server has changed.
    pub async fn message(&self) {
        self.message.notified().await;
    }

    /// Reads HAProxy's log to its end.
    pub async fn read(self: Arc<Self>, log: impl AsyncRead + Unpin) {
        let (mut log, mut line) = (BufReader::new(log), Vec::new());
        loop {
            line.clear();
            match log.read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) => self.note(&String::from_utf8_lossy(&line)),
                Err(error) => return warn!("HAProxy's log cannot be read any more: {error}"),
            }
            if let Err(error) = pass_on(&line).await {
                warn!("a line of HAProxy's log cannot be passed on: {error}");
            }
        }
    }

    fn note(&self, line: &str) {
        match Line::read(line.trim_end()) {
            Ok(Some(line)) => self.history().log(line, now()),
            Ok(None) => self.message.notify_one(),
            Err(error) => warn!("{error:#}"),
        }
    }

    /// Notes HAProxy's statistics.
    pub async fn sample(&self, haproxy: &HaProxy) {
        match haproxy.statistics().await {
            Ok(workers) => self.history().sample(&workers, now()),
            Err(error) => warn!("HAProxy's statistics are missing in the history: {error:#}"),
        }
    }

    /// The history since a time; without a time the whole history.
    pub fn extract(&self, since: Option<Timestamp>) -> Extract {
        self.history().extract(since)
    }
}

/// The time in whole milliseconds, like HAProxy's own times.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

async fn pass_on(line: &[u8]) -> std::io::Result<()> {
    let mut out = stdout();
    out.write_all(line).await?;
    out.flush().await
}
