//! Whether this process had a processor while it looked. If its own timers ran late, it proves nothing that somebody has not answered in time.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// From one timer to the next.
const TICK: Duration = Duration::from_millis(50);

/// A timer that is so late has stolen a good part of [`PROBE_DEADLINE`](crate::mysql::io::connection::PROBE_DEADLINE) from those who were to answer.
/// A limit of processor time (`limits.cpu`) makes them late by up to 100 ms.
const LATE: Duration = Duration::from_millis(300);

/// Looks, and returns whether a timer ran late meanwhile. The timers are this task's own: what delays one delays the other.
pub async fn noting_lateness<T>(look: impl Future<Output = T>) -> (T, bool) {
    let mut look = pin!(look);
    let mut late = false;
    loop {
        let set = Instant::now();
        tokio::select! {
            biased;
            seen = &mut look => return (seen, late || is_late(set.elapsed())),
            () = sleep(TICK) => late |= is_late(set.elapsed()),
        }
    }
}

/// After so long in which every look was late, looks are believed again: a machine that is always busy must not keep a ring from healing.
const LONGEST: Duration = Duration::from_secs(60);

/// Whether a look proves nothing because it was late. `since`: since when every look was.
pub fn proves_nothing(since: &mut Option<Instant>, late: bool, now: Instant) -> bool {
    if late && since.is_none() {
        tracing::warn!(
            "this operator was late itself when it looked, so it declares no member failed: it lacks a processor (resources.requests.cpu)"
        );
    }
    *since = late.then(|| since.unwrap_or(now));
    since.is_some_and(|since| now.duration_since(since) < LONGEST)
}

/// `elapsed`: since a timer of [`TICK`] was set.
fn is_late(elapsed: Duration) -> bool {
    elapsed >= TICK + LATE
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LATE, TICK, is_late, noting_lateness, proves_nothing};
    use tokio::time::sleep;

    #[test]
    fn a_timer_may_be_a_little_late() {
        let late = |milliseconds| is_late(TICK + Duration::from_millis(milliseconds));
        assert_eq!([0, 120, 299, 300].map(late), [false, false, false, true]);
    }

    #[test]
    fn looks_that_are_always_late_are_believed_in_the_end() {
        let (began, mut since) = (Instant::now(), None);
        let mut look = |seconds, late| proves_nothing(&mut since, late, began + Duration::from_secs(seconds));
        assert!(!look(0, false) && look(1, true) && look(60, true) && !look(61, true));
        assert!(!look(62, false) && look(63, true));
    }

    #[tokio::test]
    async fn a_look_without_a_processor_is_late() {
        let ((), late) = noting_lateness(async {
            sleep(TICK).await;
            // Nothing else runs on this thread.
            std::thread::sleep(2 * LATE);
            sleep(TICK).await;
        })
        .await;
        assert!(late);
        let ((), late) = noting_lateness(async { std::thread::sleep(2 * LATE) }).await;
        assert!(late, "also in the first step");
    }
}
