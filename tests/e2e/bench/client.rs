//! A client that opens one connection after the other, whatever became of the one before, and what it saw.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};

use crate::support::ring::DATABASE;
use crate::support::sql;

/// Between two new connections.
pub const EVERY: Duration = Duration::from_millis(50);
/// Connection and insert together.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// No two attempts of a run are the same row.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub struct Attempt {
    pub id: u64,
    pub begun: Instant,
    pub ended: Instant,
    pub error: Option<String>,
}

/// What a client saw between two moments.
pub struct Span {
    attempts: usize,
    failed: usize,
    /// Longest time without a success, seconds.
    longest: f64,
    /// From the begin of the first attempt that failed to the begin of the last one, seconds.
    failing: Option<f64>,
}

/// Opens connections until it is told to stop.
pub struct Client {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    begun: Arc<Mutex<Vec<(u64, Instant)>>>,
    task: JoinHandle<()>,
}

impl Client {
    pub fn start(address: String, password: String) -> Self {
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (told, beginning) = (attempts.clone(), begun.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut running = JoinSet::new();
            loop {
                ticks.tick().await;
                let id = NEXT.fetch_add(1, Ordering::Relaxed);
                let (address, password, told) = (address.clone(), password.clone(), told.clone());
                beginning
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((id, Instant::now()));
                running.spawn(async move {
                    let begun = Instant::now();
                    let error = attempt(&address, &password, id).await.err();
                    let attempt = Attempt {
                        id,
                        begun,
                        ended: Instant::now(),
                        error,
                    };
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
                });
                while running.try_join_next().is_some() {}
            }
        });
        Self { attempts, begun, task }
    }

    /// The first attempt that was begun after this moment.
    pub fn first_after(&self, moment: Instant) -> u64 {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun
            .iter()
            .find(|(_, at)| *at > moment)
            .map_or(u64::MAX, |(id, _)| *id)
    }

    /// What became of all attempts that have ended. Of those that have not nothing is known, and nothing is asked.
    pub fn stop(self) -> Vec<Attempt> {
        self.task.abort();
        std::mem::take(&mut *self.attempts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A new connection and one row.
async fn attempt(address: &str, password: &str, id: u64) -> Result<(), String> {
    let attempt = async {
        let mut conn = sql::connect(address, DATABASE, password).await?;
        sql::run(
            &mut conn,
            &format!("INSERT INTO app.attempts VALUES ({id}, @@hostname)"),
        )
        .await?;
        Ok::<_, mysql_async::Error>(conn)
    };
    match timeout(DEADLINE, attempt).await {
        Ok(Ok(conn)) => {
            tokio::spawn(conn.disconnect());
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer within a second".to_owned()),
    }
}

pub fn span(attempts: &[Attempt], from: Instant, to: Instant) -> Span {
    let within = |at: Instant| from <= at && at < to;
    let all: Vec<&Attempt> = attempts.iter().filter(|attempt| within(attempt.begun)).collect();
    let mut failures: Vec<Instant> = all
        .iter()
        .filter(|attempt| attempt.error.is_some())
        .map(|attempt| attempt.begun)
        .collect();
    failures.sort();
    let mut successes: Vec<Instant> = attempts
        .iter()
        .filter(|attempt| attempt.error.is_none())
        .map(|attempt| attempt.ended)
        .collect();
    successes.sort();
    let gaps = successes.windows(2).filter(|pair| within(pair[0]) || within(pair[1]));
    let gaps = gaps.map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
    let failing = failures.first().zip(failures.last());
    Span {
        attempts: all.len(),
        failed: failures.len(),
        longest: gaps.fold(0.0, f64::max),
        failing: failing.map(|(first, last)| last.duration_since(*first).as_secs_f64()),
    }
}

pub fn cells(span: &Span) -> String {
    let failing = span.failing.map_or("-".to_owned(), |seconds| format!("{seconds:.1}"));
    format!("{} of {} | {:.2} | {failing}", span.failed, span.attempts, span.longest)
}
