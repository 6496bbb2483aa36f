//! Writers that remember what they were told is safe, and the check that it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use mysql_async::{Conn, Error};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ring::{DATABASE, Ring};
use super::{eventually, sql};

/// No writer goes on for ever.
const MOST: u64 = 20_000;
/// Between two writes, so that two cores can do something else as well.
const PAUSE: Duration = Duration::from_millis(25);
/// The server said that it takes no writes: this one was surely not carried out.
const READ_ONLY: [u16; 2] = [1290, 1836];
/// A writer at a member comes back to a row after this many others, so that some are changed after a fault that were made before it.
const LATER: u64 = 40;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS app.writes (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, seq BIGINT NOT NULL, changes INT NOT NULL DEFAULT 0, KEY (writer, seq))";

/// Where a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Member(u8),
    Service,
}

impl At {
    fn number(self) -> u64 {
        match self {
            Self::Member(ordinal) => ordinal.into(),
            Self::Service => 100,
        }
    }
}

/// (writer, number of the row)
type Key = (u64, u64);

/// What a row holds: how often it was changed; `None`: it is not there.
type Content = Option<u32>;

/// What a writer was told of a row.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// After the last write that was acknowledged.
    safe: Content,
    /// After a write that was sent and had no answer. There is none after it: it could still be carried out.
    maybe: Option<Content>,
}

impl Row {
    fn may_hold(self, content: Content) -> bool {
        self.safe == content || self.maybe == Some(content)
    }
}

#[derive(Clone, Debug, Default)]
struct Told {
    rows: BTreeMap<Key, Row>,
    /// Acknowledged writes, by writer.
    safe: BTreeMap<u64, usize>,
    /// Sent, no answer.
    maybe: u64,
    /// Refused because the member was fenced.
    fenced: u64,
    /// There was no connection, so nothing was sent.
    unconnected: u64,
}

/// Writers that run until they are told to stop.
pub struct Writers {
    ring: Ring,
    places: Vec<At>,
    /// Number of the first write: later ones than those of earlier writers.
    first: u64,
    told: Arc<Mutex<Told>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Creates the table and starts a writer at every member.
    pub async fn at_members(ring: &Ring) -> Result<Self> {
        Self::start(ring, ring.ordinals().map(At::Member).collect()).await
    }

    pub async fn start(ring: &Ring, places: Vec<At>) -> Result<Self> {
        let open = ring.get().await?.writer().unwrap_or(0);
        let mut first = ring.app(&ring.ip(open).await?).await?;
        sql::run(&mut first, TABLE).await?;
        eventually("the table of writes everywhere", || async {
            for mut conn in ring.roots().await? {
                sql::rows::<u64>(&mut conn, "SELECT COUNT(*) FROM app.writes").await?;
            }
            Ok(())
        })
        .await?;
        if places.contains(&At::Service) {
            // kube-proxy is the last to know who is behind the address of a new ring. What that costs is not the ring's doing.
            let service = ring.service_ip().await?;
            eventually("the Service leads to a member", || ring.app(&service)).await?;
        }
        let first = sql::value(&mut first, "SELECT COALESCE(MAX(seq), 0) + 1 FROM app.writes").await?;
        let told = Arc::new(Mutex::new(Told::default()));
        let (stop, stopped) = watch::channel(false);
        let tasks = places.clone().into_iter().map(|at| {
            let (ring, told, stopped) = (ring.clone(), told.clone(), stopped.clone());
            tokio::spawn(async move { write(&ring, at, first, &told, &stopped).await })
        });
        let tasks = tasks.collect();
        let writers = Self {
            ring: ring.clone(),
            places,
            first,
            told,
            stop,
            tasks,
        };
        Ok(writers)
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Acknowledged writes at one place.
    pub fn safe(&self, at: At) -> usize {
        self.told().safe.get(&at.number()).copied().unwrap_or_default()
    }

    /// Writes that were not acknowledged, wherever.
    pub fn failures(&self) -> u64 {
        let told = self.told();
        told.fenced + told.unconnected + told.maybe
    }

    /// Writes that were refused because the member was fenced.
    pub fn refused(&self) -> u64 {
        self.told().fenced
    }

    /// Waits until 20 more writes were acknowledged at each of these places.
    pub async fn go_on(&self, places: &[At]) -> Result<()> {
        let before: Vec<usize> = places.iter().map(|&at| self.safe(at)).collect();
        eventually(&format!("writes go on at {places:?}"), || async {
            for (&at, &before) in places.iter().zip(&before) {
                let now = self.safe(at);
                ensure!(now >= before + 20, "at {at:?}: {before}, then {now}");
            }
            Ok(())
        })
        .await
    }

    /// Waits until writes go on at every member.
    pub async fn go_on_everywhere(&self) -> Result<()> {
        let places: Vec<At> = self.ring.ordinals().map(At::Member).collect();
        self.go_on(&places).await
    }

    pub async fn stop(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        Ok(())
    }

    /// What these have written is looked for in this ring from now on: some of its members have left.
    pub fn found_in(self, ring: &Ring) -> Self {
        Self {
            ring: ring.clone(),
            ..self
        }
    }

    /// Stops writing, then all members must come to hold the same: the outcome of every acknowledged insert, update and delete, each row
    /// once, and nothing that was refused. Answers how many were acknowledged. Nobody else may write meanwhile.
    pub async fn settle(mut self) -> Result<usize> {
        self.stop().await?;
        let told = self.told();
        let safe = told.safe.values().sum();
        eprintln!(
            "{}: {safe} safe, {} maybe, {} refused",
            self.ring.name, told.maybe, told.fenced
        );
        ensure!(safe > 0, "nothing was written");
        equal(&self.ring).await?;
        let own: Vec<String> = self.places.iter().map(|at| at.number().to_string()).collect();
        let query = format!(
            "SELECT writer, seq, changes FROM app.writes WHERE seq >= {} AND writer IN ({})",
            self.first,
            own.join(", ")
        );
        for mut conn in self.ring.roots().await? {
            let rows: Vec<(u64, u64, u32)> = sql::rows(&mut conn, &query).await?;
            let there: BTreeMap<Key, u32> = rows.iter().map(|row| ((row.0, row.1), row.2)).collect();
            ensure!(
                there.len() == rows.len(),
                "{} rows are there twice",
                rows.len() - there.len()
            );
            let holds = |key: &Key| there.get(key).copied();
            let wrong = told.rows.iter().filter(|(key, row)| !row.may_hold(holds(key)));
            let wrong: Vec<_> = wrong.map(|(key, row)| (key, row, holds(key))).take(10).collect();
            ensure!(wrong.is_empty(), "acknowledged and lost (key, told, found): {wrong:?}");
            let unknown: Vec<_> = there
                .keys()
                .filter(|key| !told.rows.contains_key(key))
                .take(10)
                .collect();
            ensure!(unknown.is_empty(), "refused and yet there (writer, row): {unknown:?}");
        }
        Ok(safe)
    }
}

/// Waits until all members have executed the same transactions, then compares their rows.
pub async fn equal(ring: &Ring) -> Result<()> {
    eventually(&format!("equal GTID sets in {}", ring.name), || async {
        let sets = on_all(ring, "SELECT @@GLOBAL.gtid_executed").await?;
        ensure!(sets.windows(2).all(|pair| pair[0] == pair[1]), "{sets:#?}");
        Ok(())
    })
    .await?;
    let columns = on_all(
        ring,
        "SELECT GROUP_CONCAT(COLUMN_NAME ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = 'app' AND TABLE_NAME = 'writes'",
    )
    .await?;
    ensure!(
        columns.windows(2).all(|pair| pair[0] == pair[1]),
        "columns differ: {columns:?}"
    );
    // A sum over all rows that depends on every column; the order of the rows plays no part.
    let sum = format!(
        "SELECT CONCAT_WS(' ', COUNT(*), COUNT(DISTINCT id), SUM(CRC32(CONCAT_WS('/', {})))) FROM app.writes",
        columns.first().context("no member")?
    );
    let sums = on_all(ring, &sum).await?;
    ensure!(sums.windows(2).all(|pair| pair[0] == pair[1]), "rows differ: {sums:?}");
    Ok(())
}

/// The same value from every member.
async fn on_all(ring: &Ring, query: &str) -> Result<Vec<String>> {
    let conns = ring.roots().await?;
    try_join_all(
        conns
            .into_iter()
            .map(|mut conn| async move { sql::value(&mut conn, query).await }),
    )
    .await
}

async fn write(ring: &Ring, at: At, first: u64, told: &Mutex<Told>, stopped: &watch::Receiver<bool>) {
    let mut conn: Option<Conn> = None;
    for seq in first..first + MOST {
        for (key, content) in writes(at, first, seq) {
            if *stopped.borrow() {
                return;
            }
            if !is_due(told, key, content) {
                continue;
            }
            let result = write_one(ring, at, key, content, &mut conn).await;
            let failed = result.is_err();
            note(told, key, content, result);
            tokio::time::sleep(PAUSE).await;
            // The next connection through the Service may lead to another member, and a row is changed at one only.
            if failed {
                break;
            }
        }
        // What is of interest there is where new connections go.
        if at == At::Service {
            conn = None;
        }
    }
}

/// A new row; and of three, one is changed later, and one changed and then deleted. Through the Service at once, by the same connection.
fn writes(at: At, first: u64, seq: u64) -> Vec<(Key, Content)> {
    let later = if at == At::Service { 0 } else { LATER };
    let key = |seq| (at.number(), seq);
    let mut writes = vec![(key(seq), Some(0))];
    let earlier = |by: u64| seq.checked_sub(by).filter(|earlier| *earlier >= first);
    if let Some(changed) = earlier(later).filter(|seq| seq % 3 != 0) {
        writes.push((key(changed), Some(1)));
    }
    if let Some(deleted) = earlier(2 * later).filter(|seq| seq % 3 == 2) {
        writes.push((key(deleted), None));
    }
    writes
}

/// A row is changed only if it is surely there, and never after a write of which nothing is known.
fn is_due(told: &Mutex<Told>, key: Key, content: Content) -> bool {
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    match told.rows.get(&key) {
        Some(row) => row.safe.is_some() && row.maybe.is_none(),
        None => content == Some(0),
    }
}

/// `Ok`: how many rows it found to change.
fn note(told: &Mutex<Told>, key: Key, content: Content, result: Result<u64, Option<Error>>) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        // It is not back yet at a member that returned alone. In the end it must be as it was, so it is left alone.
        Ok(0) => {
            let row = told.rows.entry(key).or_default();
            row.maybe = Some(row.safe);
        }
        Ok(_) => {
            told.rows.entry(key).or_default().safe = content;
            *told.safe.entry(key.0).or_default() += 1;
        }
        Err(Some(Error::Server(error))) if READ_ONLY.contains(&error.code) => told.fenced += 1,
        Err(Some(_)) => {
            told.rows.entry(key).or_default().maybe = Some(content);
            told.maybe += 1;
        }
        Err(None) => told.unconnected += 1,
    }
}

/// `None`: there was no connection. A connection is used again as long as it works.
async fn write_one(
    ring: &Ring,
    at: At,
    (writer, seq): Key,
    content: Content,
    conn: &mut Option<Conn>,
) -> Result<u64, Option<Error>> {
    let mut open = match conn.take() {
        Some(open) => open,
        None => {
            let ip = match at {
                At::Member(ordinal) => ring.ip(ordinal).await,
                At::Service => ring.service_ip().await,
            };
            ring.app(&ip.map_err(|_| None)?).await.map_err(|_| None)?
        }
    };
    let row = format!("WHERE writer = {writer} AND seq = {seq}");
    let statement = match content {
        Some(0) => format!("INSERT INTO {DATABASE}.writes (writer, seq) VALUES ({writer}, {seq})"),
        Some(changes) => format!("UPDATE {DATABASE}.writes SET changes = {changes} {row}"),
        None => format!("DELETE FROM {DATABASE}.writes {row}"),
    };
    sql::run(&mut open, &statement).await.map_err(Some)?;
    let found = open.affected_rows();
    *conn = Some(open);
    Ok(found)
}
