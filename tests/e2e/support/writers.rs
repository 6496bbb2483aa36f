//! Writers that remember what they were told is safe, and the check that it is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
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

const TABLE: &str = "CREATE TABLE IF NOT EXISTS app.writes (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, seq BIGINT NOT NULL, KEY (writer, seq))";

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

/// (writer, number of the write)
type Key = (u64, u64);

#[derive(Clone, Debug, Default)]
struct Told {
    /// Acknowledged.
    safe: BTreeSet<Key>,
    /// Sent, no answer.
    maybe: BTreeSet<Key>,
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
        let mut first = ring.app(&ring.ip(0).await?).await?;
        sql::run(&mut first, TABLE).await?;
        eventually("the table of writes everywhere", || async {
            for mut conn in ring.roots().await? {
                sql::rows::<u64>(&mut conn, "SELECT COUNT(*) FROM app.writes").await?;
            }
            Ok(())
        })
        .await?;
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
        self.told()
            .safe
            .iter()
            .filter(|(writer, _)| *writer == at.number())
            .count()
    }

    /// Writes that were not acknowledged, wherever.
    pub fn failures(&self) -> u64 {
        let told = self.told();
        told.fenced + told.unconnected + told.maybe.len() as u64
    }

    /// Writes that were refused because the member was fenced.
    pub fn refused(&self) -> u64 {
        self.told().fenced
    }

    /// Waits until 20 more writes were acknowledged at each of these places.
    pub async fn go_on(&self, places: &[At]) -> Result<()> {
        for &at in places {
            let before = self.safe(at);
            eventually(&format!("writes go on at {at:?}"), || async {
                let now = self.safe(at);
                ensure!(now >= before + 20, "{before}, then {now}");
                Ok(())
            })
            .await?;
        }
        Ok(())
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

    /// Stops writing, then all members must come to hold the same: every acknowledged row once, and none that was refused.
    /// Answers how many were acknowledged. Nobody else may write meanwhile.
    pub async fn settle(mut self) -> Result<usize> {
        self.stop().await?;
        let told = self.told();
        eprintln!(
            "{}: {} safe, {} maybe, {} refused",
            self.ring.name,
            told.safe.len(),
            told.maybe.len(),
            told.fenced
        );
        ensure!(!told.safe.is_empty(), "nothing was written");
        equal(&self.ring).await?;
        let own: Vec<String> = self.places.iter().map(|at| at.number().to_string()).collect();
        let query = format!(
            "SELECT writer, seq FROM app.writes WHERE seq >= {} AND writer IN ({})",
            self.first,
            own.join(", ")
        );
        for mut conn in self.ring.roots().await? {
            let rows: Vec<Key> = sql::rows(&mut conn, &query).await?;
            let there: BTreeSet<Key> = rows.iter().copied().collect();
            ensure!(
                there.len() == rows.len(),
                "{} rows are there twice",
                rows.len() - there.len()
            );
            let lost: Vec<_> = told.safe.difference(&there).take(10).collect();
            ensure!(lost.is_empty(), "acknowledged and lost (writer, write): {lost:?}");
            let known: BTreeSet<Key> = told.safe.union(&told.maybe).copied().collect();
            let unknown: Vec<_> = there.difference(&known).take(10).collect();
            ensure!(unknown.is_empty(), "refused and yet there (writer, write): {unknown:?}");
        }
        Ok(told.safe.len())
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
    // A sum over all rows that depends on every column; the order of the rows plays no part.
    let sums = on_all(
        ring,
        "SELECT CONCAT_WS(' ', COUNT(*), COUNT(DISTINCT id), SUM(CRC32(CONCAT_WS('/', id, writer, seq)))) FROM app.writes",
    )
    .await?;
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
        if *stopped.borrow() {
            return;
        }
        let result = write_one(ring, at, seq, &mut conn).await;
        note(told, (at.number(), seq), result);
        tokio::time::sleep(PAUSE).await;
    }
}

fn note(told: &Mutex<Told>, key: Key, result: Result<(), Option<Error>>) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok(()) => drop(told.safe.insert(key)),
        Err(Some(Error::Server(error))) if READ_ONLY.contains(&error.code) => told.fenced += 1,
        Err(Some(_)) => drop(told.maybe.insert(key)),
        Err(None) => told.unconnected += 1,
    }
}

/// `None`: there was no connection. A connection is used again as long as it works; one through the Service only once, as what is
/// of interest there is where new ones go.
async fn write_one(ring: &Ring, at: At, seq: u64, conn: &mut Option<Conn>) -> Result<(), Option<Error>> {
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
    let insert = format!(
        "INSERT INTO {DATABASE}.writes (writer, seq) VALUES ({}, {seq})",
        at.number()
    );
    sql::run(&mut open, &insert).await.map_err(Some)?;
    if at != At::Service {
        *conn = Some(open);
    }
    Ok(())
}
