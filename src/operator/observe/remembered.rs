//! What events last said of a member, and when they are read again.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// While a member stays away, its events are read again after this.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// While they say the same, the time until the next reading doubles, up to this.
const MOST: Duration = Duration::from_secs(60);

/// What events said of a member.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// When they were read.
    at: Instant,
    /// The selector of the events, and since when the member is away: what was said of an earlier absence explains nothing.
    of: (String, Timestamp),
    /// How long they are not read again.
    pause: Duration,
    /// The one that says why.
    pub why: Option<String>,
}

impl Explanation {
    /// What was read now, after what was read before. `of`: the selector of the events, and since when the member is away. An error says nothing; what
    /// was known stays.
    pub fn after<E>(
        before: Option<&Self>,
        of: (&str, Timestamp),
        read: Result<Option<String>, E>,
        now: Instant,
    ) -> Self {
        let before = before.filter(|before| before.is_of(of));
        let pause = match (&read, before) {
            (Ok(why), Some(before)) if *why == before.why => (before.pause * 2).min(MOST),
            _ => READ_AGAIN,
        };
        Self {
            at: now,
            of: (of.0.to_owned(), of.1),
            pause,
            why: read.unwrap_or_else(|_| before.and_then(|before| before.why.clone())),
        }
    }

    /// It is of these events and of this absence.
    pub fn is_of(&self, (selector, since): (&str, Timestamp)) -> bool {
        self.of.0 == selector && self.of.1 == since
    }

    /// The events need not be read again yet.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_the_same_is_read_less_often() {
        let begun = Instant::now();
        let away = ("a", Timestamp::UNIX_EPOCH);
        let read = |before: Option<&Explanation>, of, read: Result<Option<&str>, ()>| {
            Explanation::after(before, of, read.map(|why| why.map(str::to_owned)), begun)
        };
        let mut last = read(None, away, Ok(Some("quota")));
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(last.pause.as_secs());
            last = read(Some(&last), away, Ok(Some("quota")));
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        assert!(last.is_fresh(begun + Duration::from_secs(59)) && !last.is_fresh(begun + Duration::from_secs(60)));
        let other = read(Some(&last), ("b", away.1), Ok(Some("quota")));
        assert_eq!(other.pause, READ_AGAIN, "other events");
        let news = read(Some(&last), away, Ok(Some("webhook")));
        assert_eq!(news.pause, READ_AGAIN, "they say something else");
        let unread = read(Some(&last), away, Err(()));
        assert_eq!((unread.pause, unread.why.as_deref()), (READ_AGAIN, Some("quota")));
        let again = ("a", Timestamp::UNIX_EPOCH + Duration::from_secs(1));
        assert!(last.is_of(away) && !last.is_of(again), "another absence");
        assert_eq!(read(Some(&last), again, Err(())).why, None);
    }
}
