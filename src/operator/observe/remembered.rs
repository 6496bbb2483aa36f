//! What events last said of a member, and when they are read again.

use std::time::{Duration, Instant};

/// While a member stays away, its events are read again after this.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// While they say the same, the time until the next reading doubles, up to this.
const MOST: Duration = Duration::from_secs(60);

/// What events said of a member.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// When they were read.
    at: Instant,
    /// The selector of the events.
    of: String,
    /// How long they are not read again.
    pause: Duration,
    /// The one that says why.
    pub why: Option<String>,
}

impl Explanation {
    /// What was read now, after what was read before.
    pub fn after(before: Option<&Self>, of: &str, why: Option<String>, now: Instant) -> Self {
        let same = before.filter(|before| before.of == of && before.why == why);
        Self {
            at: now,
            of: of.to_owned(),
            pause: same.map_or(READ_AGAIN, |same| (same.pause * 2).min(MOST)),
            why,
        }
    }

    /// It is of these events.
    pub fn is_of(&self, selector: &str) -> bool {
        self.of == selector
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
        let mut last = Explanation::after(None, "a", None, begun);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(last.pause.as_secs());
            last = Explanation::after(Some(&last), "a", None, begun);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        assert!(last.is_fresh(begun + Duration::from_secs(59)) && !last.is_fresh(begun + Duration::from_secs(60)));
        let other = Explanation::after(Some(&last), "b", None, begun);
        assert_eq!(other.pause, READ_AGAIN, "other events");
        let news = Explanation::after(Some(&last), "a", Some("quota".into()), begun);
        assert_eq!(news.pause, READ_AGAIN, "they say something else");
    }
}
