//! Looks: one question to all members at the same time, and which of them gave the same answer.

use futures::future::try_join_all;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::error::CompareError;
use super::item::{Item, counts};
use crate::mysql::io::connection::{Address, PROBE_DEADLINE, SqlError, connect, run, within};

/// A statement that takes longer than this is given up, in milliseconds.
const LONGEST_STATEMENT: u64 = 300_000;

/// One member, on two connections of the comparison's own.
pub struct Peer {
    /// Name of the member.
    pub name: String,
    /// Its life.
    pub server_uuid: String,
    /// Reads.
    pub reader: Conn,
    /// Stops writes and lets them go on. Nothing else is sent on it, so that nothing can be in the way of the latter.
    pub control: Conn,
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
        Self::new(name, server_uuid, reader, control).await
    }

    /// Makes answers independent of what a server's configuration says. A table that is being altered is not waited for long.
    ///
    /// # Errors
    /// [`CompareError::Sql`].
    pub async fn new(name: String, server_uuid: String, reader: Conn, control: Conn) -> Result<Self, CompareError> {
        let mut peer = Self {
            name,
            server_uuid,
            reader,
            control,
        };
        for statement in [
            "SET NAMES utf8mb4".to_owned(),
            format!(
                "SET SESSION sql_mode = '', time_zone = '+00:00', transaction_isolation = 'REPEATABLE-READ', \
                 print_identified_with_as_hex = ON, lock_wait_timeout = 5, max_execution_time = {LONGEST_STATEMENT}"
            ),
        ] {
            let done = run(&mut peer.reader, &statement).await;
            done.map_err(|source| CompareError::of(&peer.name, source))?;
        }
        Ok(peer)
    }

    /// `gtid_executed`, as this member prints it: equal sets are printed alike.
    ///
    /// # Errors
    /// [`CompareError::Sql`].
    pub async fn executed(&mut self) -> Result<String, CompareError> {
        let query = "SELECT @@GLOBAL.gtid_executed";
        let asked = within(PROBE_DEADLINE, async {
            Ok(self.reader.query_first::<String, _>(query).await?)
        });
        let set = asked.await.map_err(|source| CompareError::of(&self.name, source))?;
        set.ok_or_else(|| CompareError::of(&self.name, SqlError::Outdated(format!("{query} returned no row"))))
    }
}

/// What all members say of one thing, in the order of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(pub Vec<Option<String>>);

impl Look {
    /// All say the same.
    pub fn is_equal(&self) -> bool {
        self.0.windows(2).all(|pair| pair.first() == pair.last())
    }

    /// Rows on each member, if rows were looked at.
    pub fn rows(&self) -> Vec<u64> {
        let rows = |text: &Option<String>| text.as_deref().and_then(counts).unwrap_or_default();
        self.0.iter().map(rows).collect()
    }

    /// Members that say the same, between bars: `demo-0,demo-2 | demo-1`; those that do not have it at all last, in brackets.
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

/// Asks all members at the same time.
///
/// # Errors
/// [`CompareError::Item`] with the first that could not be asked.
pub async fn look(peers: &mut [Peer], item: &Item) -> Result<Look, CompareError> {
    let asked = peers.iter_mut().map(|peer| async {
        let said = item.read(&mut peer.reader).await;
        said.map_err(|source| CompareError::Item {
            member: peer.name.clone(),
            object: item.object(),
            source,
        })
    });
    try_join_all(asked).await.map(Look)
}

/// `gtid_executed` of every member.
///
/// # Errors
/// [`CompareError::Sql`].
pub async fn executed(peers: &mut [Peer]) -> Result<Vec<String>, CompareError> {
    try_join_all(peers.iter_mut().map(Peer::executed)).await
}

/// Looks, and says whether all members had executed the same, and nothing else meanwhile: what differs then is divergence.
///
/// # Errors
/// As [`look`].
pub async fn settled_look(peers: &mut [Peer], item: &Item) -> Result<(Look, bool), CompareError> {
    let before = executed(peers).await?;
    let look = look(peers, item).await?;
    let after = executed(peers).await?;
    let settled = before.iter().chain(&after).all(|set| Some(set) == before.first());
    Ok((look, settled))
}

#[cfg(test)]
mod tests {
    use super::Look;

    #[test]
    fn members_that_say_the_same_are_one_group() {
        let names: Vec<String> = (0..4).map(|n| format!("demo-{n}")).collect();
        let groups = |said: &[Option<&str>]| {
            let look = Look(said.iter().map(|said| said.map(str::to_owned)).collect());
            (look.is_equal(), look.groups(&names))
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
