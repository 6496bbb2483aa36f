//! Ends work for one cluster that does not end by itself: the others never notice.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::time::timeout;

/// The end of a pass. A pass takes a second or two, and a step on a server that answers slowly some more.
pub const PASS_END: Duration = Duration::from_secs(60);
/// The longest pause after passes that broke off.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Work that had to be broken off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenOff {
    /// It took too long.
    #[error("it did not end within {0:?}")]
    Overdue(Duration),
    /// It panicked, which is a bug.
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// Awaits work, but not for ever, and catches its panic.
///
/// # Errors
/// [`BrokenOff`]. Whatever it did up to then stays done.
pub async fn guarded<T>(end: Duration, work: impl Future<Output = T>) -> Result<T, BrokenOff> {
    match timeout(end, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panic)) => Err(BrokenOff::Panicked(said(&*panic))),
        Err(_) => Err(BrokenOff::Overdue(end)),
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the operator's log says where".into())
}

/// The pause of a cluster whose passes were broken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Passes in a row that were broken off.
    pub times: u32,
    until: Instant,
    generation: Option<i64>,
}

impl Pause {
    /// After another pass was broken off: 2, 4, 8 s and so on. `generation`: of the resource.
    pub fn after(before: Option<&Self>, generation: Option<i64>, now: Instant) -> Self {
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let pause = Duration::from_secs(1 << times.min(6)).min(LONGEST_PAUSE);
        Self {
            times,
            until: now + pause,
            generation,
        }
    }

    /// How long it still lasts; `None`: it is over, or the spec is another one by now.
    pub fn left(&self, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let left = self.until.checked_duration_since(now)?;
        (self.generation == generation && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_by_itself_or_is_ended() {
        let end = Duration::from_secs(60);
        assert_eq!(guarded(end, async { 7 }).await, Ok(7));
        let (never, soon) = (std::future::pending::<()>(), Duration::from_millis(1));
        assert_eq!(guarded(soon, never).await, Err(BrokenOff::Overdue(soon)));
        for (text, panics) in [("one", false), ("two 2", true)] {
            let work = async {
                match panics {
                    true => panic!("two {}", 2),
                    false => panic!("one"),
                }
            };
            let broken: Result<(), _> = guarded(end, work).await;
            assert_eq!(broken, Err(BrokenOff::Panicked(text.into())));
        }
    }

    #[test]
    fn each_pause_is_longer_and_another_spec_ends_it() {
        let now = Instant::now();
        let mut pause = None;
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            let next = Pause::after(pause.as_ref(), Some(1), now);
            assert_eq!(next.left(Some(1), now), Some(Duration::from_secs(seconds)));
            assert_eq!(next.left(Some(1), now + Duration::from_secs(seconds)), None);
            assert_eq!(next.left(Some(2), now), None);
            pause = Some(next);
        }
    }
}
