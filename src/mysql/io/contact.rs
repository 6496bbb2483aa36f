//! How long ago a channel had its last contact with its source.
//!
//! performance_schema has the times of a channel's last heartbeat and of its last transaction. It has no time of transactions that the replica
//! wrote itself and gets back around the ring: the receiver discards them, and the source sends no heartbeats as long as they come (measured with
//! MySQL 9.7.4: where one member takes all the writes, its channel seems to have no contact). But the position up to which the receiver has read
//! moves on. [`Contacts`] watches that position.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mysql_async::Row;

use super::connection::{SqlError, required};
use super::statements::last_contact;

/// A position that was watched for less than this proves nothing.
const WATCHED: Duration = Duration::from_secs(2);

/// The read positions of one server's channels, from observation to observation.
#[derive(Debug, Default)]
pub struct Contacts {
    channels: HashMap<String, ReadPosition>,
}

/// How far a receiver has read in its source's binary logs.
#[derive(Debug)]
struct ReadPosition {
    at: (String, u64),
    since: Instant,
    moved: bool,
}

impl Contacts {
    /// Whole seconds since each channel's last contact with its source, in the order of `statuses`; `None`: not known. `statuses`: rows of
    /// `SHOW REPLICA STATUS`; `times`: rows of [`LAST_CONTACT`](super::statements::LAST_CONTACT).
    ///
    /// # Errors
    /// [`SqlError::Unreadable`] when a column is missing, NULL or of another type.
    pub fn seconds_since(
        &mut self,
        statuses: &[Row],
        times: &[Row],
        now: Instant,
    ) -> Result<Vec<Option<i64>>, SqlError> {
        let times: HashMap<String, Option<i64>> = times.iter().map(last_contact).collect::<Result<_, _>>()?;
        let mut seconds = |row: &Row| {
            let channel: String = required(row, "Channel_Name")?;
            let at = (required(row, "Source_Log_File")?, required(row, "Read_Source_Log_Pos")?);
            let by_time = times.get(&channel).copied().flatten();
            Ok(self.seconds(channel, at, by_time, now))
        };
        statuses.iter().map(&mut seconds).collect()
    }

    fn seconds(&mut self, channel: String, at: (String, u64), by_time: Option<i64>, now: Instant) -> Option<i64> {
        let new = |moved| ReadPosition {
            at: at.clone(),
            since: now,
            moved,
        };
        let position = self.channels.entry(channel).or_insert_with(|| new(false));
        if at > position.at {
            *position = new(true);
        } else if at < position.at {
            // Another channel of this name.
            *position = new(false);
        }
        let still = now.duration_since(position.since);
        let by_position = i64::try_from(still.as_secs()).unwrap_or(i64::MAX);
        match by_time {
            Some(by_time) if by_time <= by_position => Some(by_time),
            _ if position.moved => Some(by_position),
            None => None,
            // It may have had contact just before the first observation, and none since.
            Some(_) => (still >= WATCHED).then_some(by_position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results of a sequence of observations, each at this second, with the receiver at this offset and this age by performance_schema.
    fn seconds_since(observations: &[(u64, u64, Option<i64>)]) -> Vec<Option<i64>> {
        let (mut contacts, begun) = (Contacts::default(), Instant::now());
        let mut observe = |(second, offset, by_time): &(u64, u64, Option<i64>)| {
            let at = ("binlog.000002".to_owned(), *offset);
            contacts.seconds("from-1".into(), at, *by_time, begun + Duration::from_secs(*second))
        };
        observations.iter().map(&mut observe).collect()
    }

    #[test]
    fn a_receiver_that_reads_on_has_contact() {
        let observations = [(0, 100, Some(300)), (1, 200, Some(301)), (2, 300, Some(302))];
        assert_eq!(seconds_since(&observations), [None, Some(0), Some(0)]);
    }

    #[test]
    fn a_receiver_that_does_not_read_on_has_none() {
        let observations = [
            (0, 100, Some(0)),
            (1, 200, Some(1)),
            (4, 200, Some(4)),
            (9, 200, Some(9)),
        ];
        assert_eq!(seconds_since(&observations), [Some(0), Some(0), Some(3), Some(8)]);
    }

    #[test]
    fn heartbeats_are_contact_without_reading_on() {
        let observations = [(0, 100, Some(0)), (5, 100, Some(1)), (9, 100, Some(0))];
        assert_eq!(seconds_since(&observations), [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn contact_before_the_first_observation_is_not_known() {
        let observations = [(0, 100, Some(300)), (1, 100, Some(301)), (3, 100, Some(303))];
        assert_eq!(seconds_since(&observations), [None, None, Some(3)]);
        assert_eq!(seconds_since(&[(0, 100, None), (9, 100, None)]), [None, None]);
    }

    #[test]
    fn a_channel_that_begins_anew_has_had_no_contact() {
        let observations = [(0, 100, Some(300)), (1, 4, Some(301))];
        assert_eq!(seconds_since(&observations), [None, None]);
    }
}
