//! Clones that failed in a row. The life record counts them, so that the operator waits longer each time, whichever process was restarted meanwhile.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::wire::agent;

/// Clones that failed in a row, in the life record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloneFailures {
    /// How many failed.
    pub count: u32,
    /// How many of them may have read the donor.
    pub copied: u32,
    /// The last one was refused before anything was dropped.
    pub refused: bool,
    /// When the last one failed: seconds since 1970 by the clock of this machine.
    pub at: u64,
    /// Server UUID of the last one's donor, if the operator has named it.
    #[serde(rename = "donorUUID", skip_serializing_if = "Option::is_none")]
    pub donor_uuid: Option<String>,
}

impl CloneFailures {
    /// Counts one more. `refused`: before anything was dropped. `clock`: of this machine.
    pub fn add(&mut self, refused: bool, donor_uuid: Option<String>, clock: SystemTime) {
        self.count = self.count.saturating_add(1);
        self.copied = self.copied.saturating_add(u32::from(!refused));
        (self.refused, self.donor_uuid) = (refused, donor_uuid);
        self.at = seconds(clock);
    }
}

/// The failures that the life record has, and for how long the agent has known of them.
#[derive(Debug)]
pub struct Noted {
    failures: CloneFailures,
    /// Age of the last failure when the agent read of it.
    age: u64,
    read: Instant,
}

impl Noted {
    /// Notes what the life record has. What was noted before stays if it is the same: its age grows by a clock that nobody sets. `clock`: of this
    /// machine; if it was set back since the failure, the failure counts as a new one.
    pub fn note(noted: &mut Option<Self>, failures: Option<&CloneFailures>, clock: SystemTime, now: Instant) {
        if noted.as_ref().map(|noted| &noted.failures) != failures {
            *noted = failures.map(|failures| Self {
                failures: failures.clone(),
                age: seconds(clock).saturating_sub(failures.at),
                read: now,
            });
        }
    }

    /// As the report has it.
    pub fn report(&self, now: Instant) -> agent::CloneFailures {
        let since_read = now.saturating_duration_since(self.read).as_secs();
        agent::CloneFailures {
            count: self.failures.count,
            copied: self.failures.copied,
            refused: self.failures.refused,
            seconds_ago: self.age.saturating_add(since_read),
            donor_uuid: self.failures.donor_uuid.clone(),
        }
    }
}

fn seconds(clock: SystemTime) -> u64 {
    clock.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn refusals_and_copies_are_counted_apart() {
        let mut failures = CloneFailures::default();
        for (refused, seconds, copied) in [(true, 10, 0), (false, 20, 1), (false, 30, 2), (true, 40, 2)] {
            failures.add(refused, Some("b".into()), clock(seconds));
            assert_eq!(
                (failures.copied, failures.refused, failures.at),
                (copied, refused, seconds)
            );
        }
        assert_eq!((failures.count, failures.donor_uuid.as_deref()), (4, Some("b")));
    }

    /// The age of a failure at 1000 s, when the agent starts at `started` and looks after an hour; `set_to`: the clock then.
    fn age(started: u64, set_to: u64) -> (u64, u64) {
        let mut failures = CloneFailures::default();
        failures.add(false, None, clock(1000));
        let (mut noted, now) = (None, Instant::now());
        Noted::note(&mut noted, Some(&failures), clock(started), now);
        let at_first = noted.as_ref().unwrap().report(now).seconds_ago;
        let later = now + Duration::from_secs(3600);
        Noted::note(&mut noted, Some(&failures), clock(set_to), later);
        (at_first, noted.unwrap().report(later).seconds_ago)
    }

    #[test]
    fn the_age_grows_whatever_becomes_of_the_clock() {
        assert_eq!(age(1000, 4600), (0, 3600));
        assert_eq!(age(1250, 4850), (250, 3850), "a restart of the agent");
        assert_eq!(age(1000, 7), (0, 3600), "set back while the agent runs");
        assert_eq!(age(7, 3607), (0, 3600), "set back before the agent started");
        assert_eq!(age(1_000_000, 7), (999_000, 1_002_600), "set forward");
    }

    #[test]
    fn a_further_failure_begins_anew_and_a_success_forgets() {
        let (mut failures, mut noted) = (CloneFailures::default(), None);
        let now = Instant::now();
        failures.add(false, None, clock(1000));
        Noted::note(&mut noted, Some(&failures), clock(1000), now);
        let later = now + Duration::from_secs(60);
        failures.add(false, None, clock(1060));
        Noted::note(&mut noted, Some(&failures), clock(1060), later);
        let report = noted.as_ref().unwrap().report(later);
        assert_eq!((report.count, report.copied, report.seconds_ago), (2, 2, 0));
        Noted::note(&mut noted, None, clock(1060), later);
        assert!(noted.is_none());
    }
}
