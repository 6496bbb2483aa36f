//! An attempt: one question to all members at the same time, and which members gave the same answer.

use futures::future::{join_all, try_join_all};
use mysql_async::Conn;

use super::error::{CompareError, ReadError};
use super::object::{Object, counts};
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::connection::{
    ANSWER_OF_DEFINITIONS, Address, PROBE_DEADLINE, SqlError, close, connect, gtid_set, rows, run, within,
};
use crate::mysql::io::statements::kill;

/// Milliseconds after which mysqld ends a statement that reads.
const LONGEST_STATEMENT: u64 = 300_000;

/// One member, on two connections of the comparison's own.
pub struct Peer {
    /// Name of the member.
    pub name: String,
    /// Server UUID of its present life.
    pub server_uuid: String,
    /// Reads.
    pub reader: Conn,
    /// Stops writes and opens the member again. Nothing else is sent on this connection before the end, so that nothing delays the opening.
    pub control: Conn,
    /// For another reader; `None`: there will be none.
    address: Option<Address>,
}

impl Peer {
    /// Connects twice.
    ///
    /// # Errors
    /// [`CompareError::Sql`].
    pub async fn connect(name: String, server_uuid: String, address: &Address) -> Result<Self, CompareError> {
        let of = |source| CompareError::of(&name, source);
        let reader = connect(address, PROBE_DEADLINE).await.map_err(of)?;
        let control = connect(address, PROBE_DEADLINE).await.map_err(of)?;
        let peer = Self::new(name, server_uuid, reader, control).await?;
        Ok(Self {
            address: Some(address.clone()),
            ..peer
        })
    }

    /// Takes two connections, and makes the reader's answers independent of the server's configuration. The reader waits at most 5 s for a table
    /// that is being altered.
    ///
    /// # Errors
    /// [`CompareError::Sql`].
    pub async fn new(name: String, server_uuid: String, reader: Conn, control: Conn) -> Result<Self, CompareError> {
        let mut peer = Self {
            name,
            server_uuid,
            reader,
            control,
            address: None,
        };
        peer.prepare().await?;
        Ok(peer)
    }

    /// Takes another connection for reading, in place of one with an answer that was not read to its end. A snapshot is lost with it.
    async fn read_anew(&mut self) -> Result<(), CompareError> {
        let of = |name: &str, source| CompareError::of(name, source);
        let Some(address) = &self.address else {
            return Err(of(&self.name, SqlError::TooLong));
        };
        let reader = connect(address, PROBE_DEADLINE).await;
        let reader = reader.map_err(|source| of(&self.name, source))?;
        let earlier = std::mem::replace(&mut self.reader, reader);
        let id = u64::from(earlier.id());
        close(earlier);
        let killed = within(PROBE_DEADLINE, kill(&mut self.reader, id)).await;
        killed.map_err(|source| of(&self.name, source))?;
        self.prepare().await
    }

    async fn prepare(&mut self) -> Result<(), CompareError> {
        for statement in [
            "SET NAMES utf8mb4".to_owned(),
            format!(
                "SET SESSION sql_mode = '', time_zone = '+00:00', transaction_isolation = 'REPEATABLE-READ', \
                 print_identified_with_as_hex = ON, lock_wait_timeout = 5, max_execution_time = {LONGEST_STATEMENT}"
            ),
        ] {
            let done = run(&mut self.reader, &statement).await;
            done.map_err(|source| CompareError::of(&self.name, source))?;
        }
        Ok(())
    }

    /// `gtid_executed`.
    ///
    /// # Errors
    /// [`CompareError::Sql`].
    pub async fn executed(&mut self) -> Result<GtidSet, CompareError> {
        let query = "SELECT @@GLOBAL.gtid_executed AS executed";
        let asked = within(PROBE_DEADLINE, async {
            let rows = rows(&mut self.reader, query).await?;
            let row = rows
                .first()
                .ok_or_else(|| SqlError::Unreadable(format!("{query} returned no row")))?;
            gtid_set(row, "executed")
        });
        asked.await.map_err(|source| CompareError::of(&self.name, source))
    }

    /// Ends what the member still carries out for a comparison that was broken off: mysqld does not notice that a connection is gone while it reads.
    /// If the member does not answer, mysqld ends the statement after [`LONGEST_STATEMENT`].
    pub async fn hang_up(mut self) {
        let reading = u64::from(self.reader.id());
        if let Err(error) = within(PROBE_DEADLINE, kill(&mut self.control, reading)).await {
            tracing::warn!(member = self.name, %error, "a statement of a comparison may go on for a while");
        }
        close(self.reader);
        close(self.control);
    }
}

/// What each member says of one object, in the order of the members; `None`: the member does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt(pub Vec<Option<String>>);

impl Attempt {
    /// All members say the same.
    pub fn is_equal(&self) -> bool {
        self.0.windows(2).all(|pair| pair.first() == pair.last())
    }

    /// Number of rows on each member, if the object is rows.
    pub fn rows(&self) -> Vec<u64> {
        let rows = |text: &Option<String>| text.as_deref().and_then(counts).unwrap_or_default();
        self.0.iter().map(rows).collect()
    }

    /// Members that say the same, with bars between the groups: `demo-0,demo-2 | demo-1`. Members that do not have the object come last, in
    /// brackets.
    pub fn groups(&self, names: &[String]) -> String {
        let mut groups: Vec<(&Option<String>, Vec<&str>)> = Vec::new();
        for (said, name) in self.0.iter().zip(names) {
            match groups.iter_mut().find(|(other, _)| *other == said) {
                Some((_, members)) => members.push(name),
                None => groups.push((said, vec![name])),
            }
        }
        groups.sort_by_key(|(said, _)| said.is_none());
        let groups: Vec<String> = groups
            .into_iter()
            .map(|(said, members)| match said {
                Some(_) => members.join(","),
                None => format!("({} without it)", members.join(",")),
            })
            .collect();
        groups.join(" | ")
    }
}

/// Asks all members at the same time. Each answers to its end: an answer that is broken off makes its connection useless.
///
/// # Errors
/// [`CompareError::Object`] with the first member that could not be asked; [`CompareError::TooLong`] if all could be asked, and the object is too long
/// at one of them.
pub async fn attempt(peers: &mut [Peer], object: &Object) -> Result<Attempt, CompareError> {
    let asked = peers.iter_mut().map(|peer| said(peer, object));
    let (mut attempt, mut too_long) = (Vec::new(), None);
    for said in join_all(asked).await {
        match said {
            Ok(said) => attempt.push(said),
            Err(error @ CompareError::TooLong { .. }) => {
                too_long.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    too_long.map_or(Ok(Attempt(attempt)), Err)
}

async fn said(peer: &mut Peer, object: &Object) -> Result<Option<String>, CompareError> {
    let why = match object.read(&mut peer.reader).await {
        Ok(said) => return Ok(said),
        Err(ReadError::TooLong(why)) => why,
        Err(ReadError::Sql(SqlError::TooLong)) => {
            peer.read_anew().await?;
            format!("it is longer than {} MiB", ANSWER_OF_DEFINITIONS >> 20)
        }
        Err(ReadError::Sql(source)) => {
            return Err(CompareError::Object {
                member: peer.name.clone(),
                object: object.name(),
                source,
            });
        }
    };
    Err(CompareError::TooLong {
        member: peer.name.clone(),
        object: object.name(),
        why,
    })
}

/// `gtid_executed` of every member.
///
/// # Errors
/// [`CompareError::Sql`].
pub async fn executed(peers: &mut [Peer]) -> Result<Vec<GtidSet>, CompareError> {
    try_join_all(peers.iter_mut().map(Peer::executed)).await
}

/// Whether all members have executed the same.
pub fn are_equal(sets: &[GtidSet]) -> bool {
    sets.windows(2).all(|pair| pair.first() == pair.last())
}

/// Asks all members, and says whether all had executed the same transactions before and after. What differs then is divergence.
///
/// # Errors
/// As [`attempt`].
pub async fn settled_attempt(peers: &mut [Peer], object: &Object) -> Result<(Attempt, bool), CompareError> {
    let before = executed(peers).await?;
    let attempt = attempt(peers, object).await?;
    let after = executed(peers).await?;
    Ok((attempt, are_equal(&[before, after].concat())))
}

#[cfg(test)]
mod tests {
    use super::Attempt;

    #[test]
    fn members_that_say_the_same_are_one_group() {
        let names: Vec<String> = (0..4).map(|n| format!("demo-{n}")).collect();
        let groups = |said: &[Option<&str>]| {
            let attempt = Attempt(said.iter().map(|said| said.map(str::to_owned)).collect());
            (attempt.is_equal(), attempt.groups(&names))
        };
        for (said, equal, text) in [
            ([Some("a"); 4], true, "demo-0,demo-1,demo-2,demo-3"),
            (
                [Some("a"), Some("b"), Some("a"), Some("a")],
                false,
                "demo-0,demo-2,demo-3 | demo-1",
            ),
            (
                [Some("a"), Some("b"), Some("c"), Some("b")],
                false,
                "demo-0 | demo-1,demo-3 | demo-2",
            ),
            (
                [None, Some("b"), None, Some("b")],
                false,
                "demo-1,demo-3 | (demo-0,demo-2 without it)",
            ),
        ] {
            assert_eq!(groups(&said), (equal, text.to_owned()));
        }
    }
}
