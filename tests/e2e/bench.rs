//! The same work through four paths, side by side in one run: one server alone, two hand-made masters behind PEN, a ring behind its
//! Service, the ring behind HAProxy. `make bench-balancer`; PARTS names some parts of it.
//!
//! Every number is measured and none is asserted. What could not be measured is said in its place in the report.

mod busy;
mod client;
mod delay;
mod load;
mod manifests;
mod neighbours;
mod outages;
mod report;
mod stage;
mod sysbench;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::support::world::alone;

use report::Report;
use stage::Stage;

type Measure = for<'a> fn(&'a Stage, &'a mut Report) -> BoxFuture<'a, Result<()>>;

/// Name and deed of every part. HAProxy comes to the ring in the course of each, and is there at the end.
const PARTS: [(&str, Measure); 4] = [
    ("outages", |stage, report| outages::measure(stage, report).boxed()),
    ("delay", |stage, report| delay::measure(stage, report).boxed()),
    ("sysbench", |stage, report| sysbench::measure(stage, report).boxed()),
    ("load", |stage, report| load::measure(stage, report).boxed()),
];

#[tokio::test]
#[ignore = "measures for a quarter of an hour: make bench-balancer"]
async fn balancers() -> Result<()> {
    let only = std::env::var("PARTS").unwrap_or_default();
    let folder = std::env::var("BENCH").context("BENCH must name a folder for the report; make bench-balancer does")?;
    alone("bench", |world| async move {
        let begun = Instant::now();
        let stage = Stage::set(&world).await?;
        let mut report = Report::begin(&PathBuf::from(folder))?;
        let wanted = |name: &str| only.split(',').any(|only| name.contains(only));
        let parts: Vec<_> = PARTS.iter().filter(|(name, _)| wanted(name)).collect();
        ensure!(!parts.is_empty(), "there is no part called {only:?}");
        for (name, measure) in parts {
            // What else runs on this machine is in the numbers too.
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            eprintln!(
                "\n── {name}, after {:.0} s; load average {load}",
                begun.elapsed().as_secs_f64()
            );
            if let Err(error) = measure(&stage, &mut report).await {
                report.say(&format!("**{name}: not measured.** {error:#}\n"));
            }
        }
        report.versions(&stage).await;
        report.say(&format!(
            "The run took {:.0} minutes.\n",
            begun.elapsed().as_secs_f64() / 60.0
        ));
        report.end()
    })
    .await
}
