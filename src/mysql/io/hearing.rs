//! For how long a channel has heard nothing from its source.
//!
//! Of heartbeats and transactions performance_schema has the times. Not of what the replica wrote itself and gets back in a ring: its receiver
//! throws that away, and as long as it comes the source sends no heartbeats (measured, 9.7.4: a member that takes all the writes "hears" nothing for
//! as long as it does). But the place up to which the receiver has read moves on, and that is watched here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mysql_async::Row;

use super::connection::{SqlError, required};
use super::statements::told_silence;

/// A place that was watched for less than this says nothing.
const LOOKED: Duration = Duration::from_secs(2);

/// The places of one server's channels, from look to look.
#[derive(Debug, Default)]
pub struct Hearing {
    channels: HashMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    at: (String, u64),
    since: Instant,
    moved: bool,
}

impl Hearing {
    /// Whole seconds for which each channel has heard nothing, in the order of `statuses`; `None`: nobody knows. `statuses`: rows of
    /// `SHOW REPLICA STATUS`; `told`: of [`SILENCE`](super::statements::SILENCE).
    ///
    /// # Errors
    /// [`SqlError::Unreadable`](super::connection::SqlError::Unreadable).
    pub fn silences(&mut self, statuses: &[Row], told: &[Row], now: Instant) -> Result<Vec<Option<i64>>, SqlError> {
        let told: HashMap<String, Option<i64>> = told.iter().map(told_silence).collect::<Result<_, _>>()?;
        let mut silence = |row: &Row| {
            let channel: String = required(row, "Channel_Name")?;
            let at = (required(row, "Source_Log_File")?, required(row, "Read_Source_Log_Pos")?);
            let told = told.get(&channel).copied().flatten();
            Ok(self.silence(channel, at, told, now))
        };
        statuses.iter().map(&mut silence).collect()
    }

    fn silence(&mut self, channel: String, at: (String, u64), told: Option<i64>, now: Instant) -> Option<i64> {
        let new = |moved| Place {
            at: at.clone(),
            since: now,
            moved,
        };
        let place = self.channels.entry(channel).or_insert_with(|| new(false));
        if at > place.at {
            *place = new(true);
        } else if at < place.at {
            // Another channel of this name.
            *place = new(false);
        }
        let still = now.duration_since(place.since);
        let seconds = i64::try_from(still.as_secs()).unwrap_or(i64::MAX);
        match told {
            Some(told) if told <= seconds => Some(told),
            _ if place.moved => Some(seconds),
            None => None,
            // It may have heard something before anybody looked, and nothing since.
            Some(_) => (still >= LOOKED).then_some(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a history of looks, each at this second with the receiver at this offset, comes to.
    fn silences(looks: &[(u64, u64, Option<i64>)]) -> Vec<Option<i64>> {
        let (mut hearing, begun) = (Hearing::default(), Instant::now());
        let mut look = |(second, offset, told): &(u64, u64, Option<i64>)| {
            let at = ("binlog.000002".to_owned(), *offset);
            hearing.silence("from-1".into(), at, *told, begun + Duration::from_secs(*second))
        };
        looks.iter().map(&mut look).collect()
    }

    #[test]
    fn a_receiver_that_reads_on_hears_its_source() {
        let looks = [(0, 100, Some(300)), (1, 200, Some(301)), (2, 300, Some(302))];
        assert_eq!(silences(&looks), [None, Some(0), Some(0)]);
    }

    #[test]
    fn one_that_stands_still_does_not() {
        let looks = [
            (0, 100, Some(0)),
            (1, 200, Some(1)),
            (4, 200, Some(4)),
            (9, 200, Some(9)),
        ];
        assert_eq!(silences(&looks), [Some(0), Some(0), Some(3), Some(8)]);
    }

    #[test]
    fn heartbeats_are_heard_in_one_place() {
        let looks = [(0, 100, Some(0)), (5, 100, Some(1)), (9, 100, Some(0))];
        assert_eq!(silences(&looks), [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn what_was_heard_before_anybody_looked_is_not_known() {
        let looks = [(0, 100, Some(300)), (1, 100, Some(301)), (3, 100, Some(303))];
        assert_eq!(silences(&looks), [None, None, Some(3)]);
        assert_eq!(silences(&[(0, 100, None), (9, 100, None)]), [None, None]);
    }

    #[test]
    fn a_channel_that_begins_anew_has_heard_nothing() {
        let looks = [(0, 100, Some(300)), (1, 4, Some(301))];
        assert_eq!(silences(&looks), [None, None]);
    }
}
