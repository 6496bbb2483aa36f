//! Clients that write to every member by its own address, whoever takes the writes: who did take them, and when?

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ring::Ring;
use super::{eventually, sql};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);
/// No client goes on for ever.
const MOST: u64 = 60_000;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS app.taken (
    id BIGINT AUTO_INCREMENT PRIMARY KEY, member VARCHAR(64) NOT NULL, number BIGINT NOT NULL, at DATETIME(6) NOT NULL)";

/// They try until they are told to stop.
pub struct Stubborn {
    ring: Ring,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<u64>>,
}

/// What one member took between its first and its last write without another one's in between.
#[derive(Debug)]
pub struct Turn {
    pub member: String,
    pub writes: u64,
}

impl Stubborn {
    pub async fn start(ring: &Ring) -> Result<Self> {
        let writer = ring.get().await?.writer().context("no writer")?;
        let mut conn = ring.app(&ring.ip(writer).await?).await?;
        sql::run(&mut conn, TABLE).await?;
        let (stop, stopped) = watch::channel(false);
        let tasks = ring.ordinals().map(|ordinal| {
            let (ring, stopped) = (ring.clone(), stopped.clone());
            tokio::spawn(async move { go_on(&ring, ordinal, &stopped).await })
        });
        let tasks = tasks.collect();
        Ok(Self {
            ring: ring.clone(),
            stop,
            tasks,
        })
    }

    /// Stops them. Every write that was acknowledged must come to be on every member. Answers whose turn it was, in the order of the moments at
    /// which the members executed the writes: nodes of a test cluster have one clock.
    pub async fn settle(mut self) -> Result<Vec<Turn>> {
        self.stop.send_replace(true);
        let mut acknowledged = 0;
        for task in self.tasks.drain(..) {
            acknowledged += task.await?;
        }
        // Others may go on writing to other tables.
        let rows = eventually("the same writes on every member", || async {
            let mut all: Vec<Vec<(String, u64)>> = Vec::new();
            for mut conn in self.ring.roots().await? {
                all.push(sql::rows(&mut conn, "SELECT member, number FROM app.taken ORDER BY at, id").await?);
            }
            let counts: Vec<usize> = all.iter().map(Vec::len).collect();
            ensure!(all.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
            all.pop().context("no member")
        })
        .await?;
        let found = u64::try_from(rows.len())?;
        ensure!(found >= acknowledged, "{acknowledged} were acknowledged, {found} found");
        let mut turns: Vec<Turn> = Vec::new();
        for (member, _) in rows {
            match turns.last_mut() {
                Some(turn) if turn.member == member => turn.writes += 1,
                _ => turns.push(Turn { member, writes: 1 }),
            }
        }
        eprintln!("{acknowledged} acknowledged, {found} found on every member: {turns:?}");
        Ok(turns)
    }
}

/// Keeps its session as long as it works. Answers how many writes were acknowledged.
async fn go_on(ring: &Ring, ordinal: u8, stopped: &watch::Receiver<bool>) -> u64 {
    let (mut conn, mut acknowledged): (Option<Conn>, u64) = (None, 0);
    for number in 0..MOST {
        if *stopped.borrow() {
            break;
        }
        if let Some(open) = write(ring, ordinal, number, conn.take(), &mut acknowledged).await {
            conn = Some(open);
        }
        tokio::time::sleep(PAUSE).await;
    }
    acknowledged
}

/// One try; the session, if it still is one.
async fn write(ring: &Ring, ordinal: u8, number: u64, conn: Option<Conn>, acknowledged: &mut u64) -> Option<Conn> {
    let mut open = match conn {
        Some(open) => open,
        None => ring.app(&ring.ip(ordinal).await.ok()?).await.ok()?,
    };
    let insert = format!("INSERT INTO app.taken (member, number, at) VALUES (@@hostname, {number}, NOW(6))");
    match sql::run(&mut open, &insert).await {
        Ok(()) => {
            *acknowledged += 1;
            Some(open)
        }
        // 1290: it takes no writes. The session is as good as before.
        Err(mysql_async::Error::Server(error)) if error.code == 1290 => Some(open),
        Err(_) => None,
    }
}
