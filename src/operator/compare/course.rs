//! The course of one comparison: everything once; what differs a few times more; what still differs, and only that, while nobody writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::chunks::{Chunk, Key, Table};
use super::error::{CompareError, Permit};
use super::item::{Item, describe, key_after, list, whole};
use super::looks::{Look, Peer, look, settled_look};
use super::stop::{let_go, snapshots};
use crate::api::status::{ComparisonStatus, Difference};

/// How often what differs is looked at again before writes are stopped for it.
const ROUNDS: usize = 3;
/// Between two of these: links have applied by then what was under way.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two chunks: as long as the last one took, so that members have at least half of their time for others, but no longer.
const BREATH: Duration = Duration::from_millis(100);
/// Definitions and accounts that are looked at while writes are stopped.
const MOST_STOPPED: usize = 20;
/// Chunks that are looked at in one snapshot: it must not become old.
const MOST_IN_SNAPSHOT: usize = 500;
/// Differences that are listed in status.
const MOST_LISTED: usize = 20;

/// What is to be compared.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The text of the annotation that asked for it.
    pub requested: Option<String>,
    /// `spec.database.user`: the account whose password each agent sets by itself.
    pub app: Option<String>,
}

/// Compares members. `permit` is awaited before writes are stopped, and given back when they go on.
///
/// # Errors
/// [`CompareError`].
pub async fn compare(
    peers: &mut [Peer],
    subject: Subject,
    permit: BoxFuture<'static, Option<Permit>>,
) -> Result<ComparisonStatus, CompareError> {
    let status = ComparisonStatus {
        requested: subject.requested.clone(),
        started_at: Some(Time(Timestamp::now())),
        ..ComparisonStatus::default()
    };
    let mut course = Course { peers, status };
    let mut suspects = Vec::new();
    for item in course.list(subject.app.as_deref()).await? {
        suspects.extend(course.examine(item).await?);
    }
    for _ in 0..ROUNDS {
        if suspects.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        suspects = course.again(suspects).await?;
    }
    if !suspects.is_empty() {
        course.while_nobody_writes(suspects, permit).await?;
    }
    course.status.finished_at = Some(Time(Timestamp::now()));
    Ok(course.status)
}

struct Course<'a> {
    peers: &'a mut [Peer],
    status: ComparisonStatus,
}

impl Course<'_> {
    /// What any member has.
    async fn list(&mut self, app: Option<&str>) -> Result<BTreeSet<Item>, CompareError> {
        let mut items = BTreeSet::new();
        for peer in &mut *self.peers {
            let listed = list(&mut peer.reader, app).await;
            items.extend(listed.map_err(|source| CompareError::of(&peer.name, source))?);
        }
        Ok(items)
    }

    /// Looks at it; at a table's rows too, if its definition is the same everywhere. Gives what differs.
    async fn examine(&mut self, item: Item) -> Result<Vec<Item>, CompareError> {
        let look = look(self.peers, &item).await?;
        match item {
            item if !look.is_equal() => Ok(vec![item]),
            Item::Table(schema, name) => self.rows(&schema, &name).await,
            _ => Ok(Vec::new()),
        }
    }

    /// The rows of a table. A chunk that is equal is equal, whatever is under way; no snapshot is held for it, which would keep
    /// members from purging old versions of rows.
    async fn rows(&mut self, schema: &str, name: &str) -> Result<Vec<Item>, CompareError> {
        let Some(table) = self.describe(schema, name).await? else {
            return Ok(Vec::new());
        };
        self.status.tables += 1;
        let per_chunk = table.chunk_rows();
        let mut rest = whole(Arc::new(table));
        let mut suspects = Vec::new();
        loop {
            let begin = Instant::now();
            let upto = match rest.table.key.is_empty() {
                true => None,
                false => self.key_after(0, &rest, per_chunk - 1).await?,
            };
            let is_last = upto.is_none();
            let (chunk, after) = match upto {
                Some(upto) => rest.split(&upto),
                None => (rest.clone(), rest),
            };
            // A key in a character set that Unicode does not cover would be the same again and again.
            if !is_last && chunk.after == chunk.upto {
                return Err(CompareError::Key {
                    table: format!("{schema}.{name}"),
                });
            }
            let item = Item::Rows(chunk);
            let look = look(self.peers, &item).await?;
            self.status.chunks += 1;
            self.status.rows += look.rows().into_iter().max().unwrap_or_default();
            if !look.is_equal() {
                suspects.push(item);
            }
            if is_last {
                return Ok(suspects);
            }
            rest = after;
            tokio::time::sleep(begin.elapsed().min(BREATH)).await;
        }
    }

    /// `None`: it was dropped a moment ago.
    async fn describe(&mut self, schema: &str, name: &str) -> Result<Option<Table>, CompareError> {
        let Some(peer) = self.peers.first_mut() else {
            return Ok(None);
        };
        let table = describe(&mut peer.reader, schema, name).await;
        let table = table.map_err(|source| CompareError::of(&peer.name, source))?;
        Ok((!table.columns.is_empty() || !table.key.is_empty()).then_some(table))
    }

    async fn key_after(&mut self, member: usize, chunk: &Chunk, rows: u64) -> Result<Option<Key>, CompareError> {
        let Some(peer) = self.peers.get_mut(member) else {
            return Ok(None);
        };
        let key = key_after(&mut peer.reader, chunk, rows).await;
        key.map_err(|source| CompareError::Item {
            member: peer.name.clone(),
            object: format!("table {}.{}", chunk.table.schema, chunk.table.name),
            source,
        })
    }

    /// Looks at what differed again. What differs while all have executed the same diverges; the rest is given back.
    async fn again(&mut self, suspects: Vec<Item>) -> Result<Vec<Item>, CompareError> {
        let mut rest = Vec::new();
        for item in suspects {
            let (look, settled) = settled_look(self.peers, &item).await?;
            match item {
                item if !look.is_equal() && settled => self.diverges(item, look).await?,
                item if !look.is_equal() => rest.push(item),
                Item::Table(schema, name) => rest.extend(self.rows(&schema, &name).await?),
                _ => {}
            }
        }
        Ok(rest)
    }

    async fn while_nobody_writes(
        &mut self,
        suspects: Vec<Item>,
        permit: BoxFuture<'static, Option<Permit>>,
    ) -> Result<(), CompareError> {
        let (rows, others): (Vec<Item>, Vec<Item>) =
            suspects.into_iter().partition(|item| matches!(item, Item::Rows(_)));
        let too_many = rows.len() > MOST_IN_SNAPSHOT || others.len() > MOST_STOPPED;
        let permit = permit.await.ok_or_else(|| CompareError::NotStopped {
            why: "not every member serves".into(),
        })?;
        let others: Vec<Item> = others.into_iter().take(MOST_STOPPED).collect();
        let stopped = snapshots(self.peers, &others).await;
        drop(permit);
        let stopped = stopped?;
        self.status.writes_stopped_milliseconds = u64::try_from(stopped.lasted.as_millis()).unwrap_or(u64::MAX).max(1);
        for (item, look) in others.into_iter().zip(stopped.looks) {
            if !look.is_equal() {
                self.diverges(item, look).await?;
            } else if let Item::Table(..) = item {
                return Err(CompareError::Altered { object: item.object() });
            }
        }
        for item in rows.into_iter().take(MOST_IN_SNAPSHOT) {
            let look = look(self.peers, &item).await?;
            if !look.is_equal() {
                self.diverges(item, look).await?;
            }
            let_go(self.peers).await?;
        }
        if too_many && self.status.differing == 0 {
            return Err(CompareError::Busy);
        }
        Ok(())
    }

    /// Notes a difference.
    async fn diverges(&mut self, item: Item, look: Look) -> Result<(), CompareError> {
        self.status.differing += 1;
        if self.status.differences.len() >= MOST_LISTED {
            return Ok(());
        }
        let (object, names) = (
            item.object(),
            self.peers.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>(),
        );
        let (keys, look) = match item {
            Item::Rows(chunk) => {
                let (chunk, look) = self.narrow(chunk, look).await?;
                (Some(chunk.keys()), look)
            }
            _ => (None, look),
        };
        self.status.differences.push(Difference {
            object,
            keys,
            members: look.groups(&names),
        });
        Ok(())
    }

    /// Halves a chunk for as long as all that differs is in one half.
    async fn narrow(&mut self, mut chunk: Chunk, mut seen: Look) -> Result<(Chunk, Look), CompareError> {
        loop {
            let rows = seen.rows();
            let most = rows.iter().enumerate().max_by_key(|(_, rows)| **rows);
            let Some((member, rows)) = most.filter(|(_, rows)| **rows > 1) else {
                break;
            };
            if chunk.table.key.is_empty() {
                break;
            }
            let Some(middle) = self.key_after(member, &chunk, rows / 2 - 1).await? else {
                break;
            };
            let (lower, upper) = chunk.split(&middle);
            let lower_look = look(self.peers, &Item::Rows(lower.clone())).await?;
            let upper_look = look(self.peers, &Item::Rows(upper.clone())).await?;
            let (half, look) = match (lower_look.is_equal(), upper_look.is_equal()) {
                (false, true) => (lower, lower_look),
                (true, false) => (upper, upper_look),
                _ => break,
            };
            if look.rows().iter().sum::<u64>() >= seen.rows().iter().sum() {
                break;
            }
            (chunk, seen) = (half, look);
        }
        Ok((chunk, seen))
    }
}
