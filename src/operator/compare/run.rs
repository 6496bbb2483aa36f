//! One comparison from its beginning to its end: every object once; objects that differ up to [`ROUNDS`] times more; objects that still differ,
//! and only these, while writes are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::attempts::{Attempt, Peer, attempt, settled_attempt};
use super::chunks::{Chunk, Key, Table};
use super::error::{CompareError, Permit, Progress};
use super::object::{Object, describe, key_after, list, shows_triggers, whole};
use super::stop::{close_up, let_go, snapshots};
use crate::api::status::{ComparisonStatus, Difference};

/// How often an object that differs is asked for again before writes are stopped for it.
const ROUNDS: usize = 3;
/// Pause before each of these rounds: by then links have usually applied what was under way.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two chunks. The pause is as long as the chunk took, so that members have at least half of their time for clients.
const BREATH: Duration = Duration::from_millis(100);
/// Definitions and accounts that are compared while writes are stopped.
const MOST_STOPPED: usize = 20;
/// Chunks that are compared in one snapshot. More would keep the snapshot open for too long.
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

/// Compares members. The comparison waits for `permit` before it stops writes, and drops it once the members take writes again. It tells `progress`
/// what it reads.
///
/// # Errors
/// [`CompareError`].
pub async fn compare(
    peers: &mut [Peer],
    subject: Subject,
    permit: BoxFuture<'static, Option<Permit>>,
    progress: &Progress,
) -> Result<ComparisonStatus, CompareError> {
    let status = ComparisonStatus {
        requested: subject.requested.clone(),
        started_at: Some(Time(Timestamp::now())),
        ..ComparisonStatus::default()
    };
    let mut run = Run {
        peers,
        status,
        progress,
        left_out: BTreeMap::new(),
    };
    let mut suspects = Vec::new();
    for object in run.list(subject.app.as_deref()).await? {
        suspects.extend(run.examine(object).await?);
    }
    for _ in 0..ROUNDS {
        if suspects.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        suspects = run.again(suspects).await?;
    }
    if !suspects.is_empty() {
        run.with_writes_stopped(suspects, permit).await?;
    }
    run.status.not_compared = listed(run.left_out);
    run.status.finished_at = Some(Time(Timestamp::now()));
    Ok(run.status)
}

struct Run<'a> {
    peers: &'a mut [Peer],
    status: ComparisonStatus,
    progress: &'a Progress,
    /// Objects that are too long to be compared, each with the reason and the member.
    left_out: BTreeMap<String, String>,
}

/// Objects that were left out, for status.
fn listed(left_out: BTreeMap<String, String>) -> Vec<String> {
    let more = left_out.len().saturating_sub(MOST_LISTED);
    let named = left_out.into_iter().take(MOST_LISTED);
    let mut listed: Vec<String> = named.map(|(object, why)| format!("{object} {why}")).collect();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed
}

impl Run<'_> {
    /// Every object that any member has. Triggers and events only if all members show them.
    async fn list(&mut self, app: Option<&str>) -> Result<BTreeSet<Object>, CompareError> {
        let mut objects = BTreeSet::new();
        for peer in &mut *self.peers {
            self.progress
                .send_replace(format!("the list of objects at {}", peer.name));
            let listed = list(&mut peer.reader, app).await;
            objects.extend(listed.map_err(|source| CompareError::of(&peer.name, source))?);
        }
        for peer in &mut *self.peers {
            let shows = shows_triggers(&mut peer.reader).await;
            if !shows.map_err(|source| CompareError::of(&peer.name, source))? {
                tracing::info!(
                    member = peer.name,
                    "triggers and events are compared once the agent is of this version"
                );
                objects.retain(|object| !matches!(object, Object::Trigger(..) | Object::Event(..)));
            }
        }
        Ok(objects)
    }

    async fn attempt(&mut self, object: &Object) -> Result<Attempt, CompareError> {
        self.progress.send_replace(object.name());
        attempt(self.peers, object).await
    }

    /// What an attempt found. `None`: the object is too long. It is noted, and the comparison goes on with the others.
    fn unless_too_long<T>(&mut self, found: Result<T, CompareError>) -> Result<Option<T>, CompareError> {
        match found {
            Err(CompareError::TooLong { member, object, why }) => {
                self.left_out.insert(object, format!("at {member}: {why}"));
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// Compares an object; a table's rows too, if its definition is the same everywhere. Returns the objects that differ.
    async fn examine(&mut self, object: Object) -> Result<Vec<Object>, CompareError> {
        let attempt = self.attempt(&object).await;
        let Some(attempt) = self.unless_too_long(attempt)? else {
            return Ok(Vec::new());
        };
        match object {
            object if !attempt.is_equal() => Ok(vec![object]),
            Object::Table(schema, name) => self.rows(&schema, &name).await,
            _ => Ok(Vec::new()),
        }
    }

    /// Compares the rows of a table, and returns the chunks that differ. A chunk that is equal is equal, whatever is under way. No snapshot is held
    /// for it: a snapshot keeps members from purging old versions of rows.
    async fn rows(&mut self, schema: &str, name: &str) -> Result<Vec<Object>, CompareError> {
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
            // With a key in a character set that Unicode does not cover, the same key would come back again and again.
            if !is_last && chunk.after == chunk.upto {
                return Err(CompareError::Key {
                    table: format!("{schema}.{name}"),
                });
            }
            let object = Object::Rows(chunk);
            let attempt = self.attempt(&object).await;
            if let Some(attempt) = self.unless_too_long(attempt)? {
                self.status.chunks += 1;
                self.status.rows += attempt.rows().into_iter().max().unwrap_or_default();
                if !attempt.is_equal() {
                    suspects.push(object);
                }
            }
            if is_last {
                return Ok(suspects);
            }
            rest = after;
            tokio::time::sleep(begin.elapsed().min(BREATH)).await;
        }
    }

    /// `None`: the table was dropped a moment ago.
    async fn describe(&mut self, schema: &str, name: &str) -> Result<Option<Table>, CompareError> {
        let Some(peer) = self.peers.first_mut() else {
            return Ok(None);
        };
        self.progress
            .send_replace(format!("the columns of table {schema}.{name}"));
        let table = describe(&mut peer.reader, schema, name).await;
        let table = table.map_err(|source| CompareError::of(&peer.name, source))?;
        Ok((!table.columns.is_empty() || !table.key.is_empty()).then_some(table))
    }

    async fn key_after(&mut self, member: usize, chunk: &Chunk, rows: u64) -> Result<Option<Key>, CompareError> {
        let Some(peer) = self.peers.get_mut(member) else {
            return Ok(None);
        };
        let object = format!("table {}.{}", chunk.table.schema, chunk.table.name);
        self.progress.send_replace(object.clone());
        let key = key_after(&mut peer.reader, chunk, rows).await;
        key.map_err(|source| CompareError::Object {
            member: peer.name.clone(),
            object,
            source,
        })
    }

    /// Compares again what differed. An object that differs while all members have executed the same diverges. Returns the others that differ.
    async fn again(&mut self, suspects: Vec<Object>) -> Result<Vec<Object>, CompareError> {
        let mut rest = Vec::new();
        for object in suspects {
            self.progress.send_replace(object.name());
            let found = settled_attempt(self.peers, &object).await;
            let Some((attempt, settled)) = self.unless_too_long(found)? else {
                continue;
            };
            match object {
                object if !attempt.is_equal() && settled => self.diverges(object, attempt).await?,
                object if !attempt.is_equal() => rest.push(object),
                Object::Table(schema, name) => rest.extend(self.rows(&schema, &name).await?),
                _ => {}
            }
        }
        Ok(rest)
    }

    /// Stops writes for the snapshots, and compares in them.
    async fn with_writes_stopped(
        &mut self,
        suspects: Vec<Object>,
        permit: BoxFuture<'static, Option<Permit>>,
    ) -> Result<(), CompareError> {
        let (rows, others): (Vec<Object>, Vec<Object>) = suspects
            .into_iter()
            .partition(|object| matches!(object, Object::Rows(_)));
        let too_many = rows.len() > MOST_IN_SNAPSHOT || others.len() > MOST_STOPPED;
        let waits = |for_what: &str| self.progress.send_replace(for_what.to_owned());
        waits("the members, to be in step");
        close_up(self.peers).await?;
        waits("a pass that lets writes be stopped");
        let permit = permit.await.ok_or_else(|| CompareError::NotStopped {
            why: "not every member serves".into(),
        })?;
        let others: Vec<Object> = others.into_iter().take(MOST_STOPPED).collect();
        self.progress.send_replace("snapshots".to_owned());
        let stopped = snapshots(self.peers, &others).await;
        drop(permit);
        let stopped = stopped?;
        self.status.writes_stopped_milliseconds = u64::try_from(stopped.lasted.as_millis()).unwrap_or(u64::MAX).max(1);
        for (object, attempt) in others.into_iter().zip(stopped.attempts) {
            if !attempt.is_equal() {
                self.diverges(object, attempt).await?;
            } else if let Object::Table(..) = object {
                return Err(CompareError::Altered { object: object.name() });
            }
        }
        for object in rows.into_iter().take(MOST_IN_SNAPSHOT) {
            let attempt = self.attempt(&object).await?;
            if !attempt.is_equal() {
                self.diverges(object, attempt).await?;
            }
            let_go(self.peers).await?;
        }
        if too_many && self.status.differing == 0 {
            return Err(CompareError::Busy);
        }
        Ok(())
    }

    /// Notes a difference.
    async fn diverges(&mut self, object: Object, attempt: Attempt) -> Result<(), CompareError> {
        self.status.differing += 1;
        if self.status.differences.len() >= MOST_LISTED {
            return Ok(());
        }
        let (name, names) = (
            object.name(),
            self.peers.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>(),
        );
        let (keys, attempt) = match object {
            Object::Rows(chunk) => {
                let (chunk, attempt) = self.narrow(chunk, attempt).await?;
                (Some(chunk.keys()), attempt)
            }
            _ => (None, attempt),
        };
        self.status.differences.push(Difference {
            object: name,
            keys,
            members: attempt.groups(&names),
        });
        Ok(())
    }

    /// Halves a chunk as long as only one half differs.
    async fn narrow(&mut self, mut chunk: Chunk, mut seen: Attempt) -> Result<(Chunk, Attempt), CompareError> {
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
            let lower_attempt = self.attempt(&Object::Rows(lower.clone())).await?;
            let upper_attempt = self.attempt(&Object::Rows(upper.clone())).await?;
            let (half, attempt) = match (lower_attempt.is_equal(), upper_attempt.is_equal()) {
                (false, true) => (lower, lower_attempt),
                (true, false) => (upper, upper_attempt),
                _ => break,
            };
            if attempt.rows().iter().sum::<u64>() >= seen.rows().iter().sum() {
                break;
            }
            (chunk, seen) = (half, attempt);
        }
        Ok((chunk, seen))
    }
}
