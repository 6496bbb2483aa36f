//! Every fault in turn on one ring under load, and a table of what it cost: `make chaos`.
//!
//! The times in the table are measured, not asserted. What is asserted after each fault: the ring is whole again, every acknowledged write
//! is on every member once, and the members are equal.

mod clock;
mod disk;
mod faults;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::eventually;
use crate::support::history::History;
use crate::support::ring::Ring;
use crate::support::times::timed;
use crate::support::world::alone;
use crate::support::writers::{At, Writers};

use faults::{FAULTS, Fault};

#[tokio::test]
#[ignore = "takes long: make chaos"]
async fn every_fault() -> Result<()> {
    let only = std::env::var("FAULT").unwrap_or_default();
    alone("chaos", |world| async move {
        // Otherwise the second fault of a member within five minutes would wait for the end of its being held out.
        let detection = json!({"failureDetection": {"holdOutSeconds": 0}});
        let ring = Ring::ready(&world, "demo", 3, detection).await?;
        let mut rows = Vec::new();
        let wanted = |fault: &&Fault| only.split(',').any(|name| fault.name.contains(name));
        for fault in FAULTS.iter().filter(wanted) {
            rows.push(timed(fault.name, suffer(&ring, fault)).await?);
        }
        ensure!(!rows.is_empty(), "there is no fault called {only:?}");
        println!("\n{:<44} {:>11} {:>11} {:>11}  writes", "FAULT (member 1 of 3)", "OUT", "CLOSED", "BACK");
        for row in rows {
            println!("{row}");
        }
        println!(
            "\nOUT: member 1 is out of the Service; CLOSED: the ring is closed again, without it or with it; BACK: it is in the Service again. \
             Seconds since the fault; - where nothing of the kind was seen."
        );
        Ok(())
    })
    .await
}

/// One fault from its begin until the ring is whole; a row of the table.
async fn suffer(ring: &Ring, fault: &Fault) -> Result<String> {
    eprintln!("\n── {}", fault.name);
    (fault.prepare)(ring.clone()).await?;
    let history = History::of(ring).await?;
    let mut places: Vec<At> = ring.ordinals().map(At::Member).collect();
    places.push(At::Service);
    let writers = Writers::start(ring, places.clone()).await?;
    writers.go_on(&places).await?;
    let watch = Watch::of(ring);
    let begun = Instant::now();
    (fault.strike)(ring.clone()).await?;
    if fault.takes_it_out {
        history.went_and_came_back("demo-1", 0).await?;
    }
    ring.wait_ready().await?;
    eventually("the ring is whole", || async {
        let status = ring.get().await?.status.unwrap_or_default();
        ensure!(status.ring == "0→1→2→0" && status.ready_members == 3, "{}", status.ring);
        Ok(())
    })
    .await?;
    writers.go_on(&places).await?;
    let acknowledged = writers.settle().await?;
    let seconds = |at: Option<Instant>| {
        at.map_or_else(
            || "-".to_owned(),
            |at| format!("{:.1}", at.duration_since(begun).as_secs_f64()),
        )
    };
    let row = format!(
        "{:<44} {:>11} {:>11} {:>11}  acknowledged {acknowledged}, found {acknowledged} on every member, checksums equal",
        fault.name,
        seconds(history.when("demo-1", false, begun)),
        seconds(watch.closed_again(begun)),
        seconds(history.when("demo-1", true, begun)),
    );
    eprintln!("{row}");
    (fault.undo)(ring.clone()).await?;
    Ok(row)
}

/// When the ring was seen closed and open.
struct Watch {
    changes: Arc<Mutex<Vec<(Instant, bool)>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn of(ring: &Ring) -> Self {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (seen, ring) = (changes.clone(), ring.clone());
        let task = tokio::spawn(async move {
            loop {
                if let Ok(condition) = ring.condition("RingClosed").await {
                    let closed = condition.status == "True";
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.last().is_none_or(|(_, before)| *before != closed) {
                        seen.push((Instant::now(), closed));
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { changes, task }
    }

    /// When it was first closed after it had been open.
    fn closed_again(&self, since: Instant) -> Option<Instant> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut later = changes
            .iter()
            .filter(|(at, _)| *at >= since)
            .skip_while(|(_, closed)| *closed);
        later.find(|(_, closed)| *closed).map(|(at, _)| *at)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
