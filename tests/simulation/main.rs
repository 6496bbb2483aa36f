//! The operator's decisions against a model of MySQL and Kubernetes in which everything fails, from seeds.
//!
//! `FROM` and `SEEDS` say which seeds, `WITHIN` so many seconds, until so many `FAILURES`; `SEED` replays one with all that happens in it.
//! `against_mysqld` holds the model against real servers; `exhaustive` goes through every order of events in small scopes.
//! Not modelled: `positioning: FilePosition`, the first database, foreign volumes, power cuts that tear relay logs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod act;
mod against_mysqld;
mod conflicts;
mod decisions;
mod effects;
mod ending;
mod event;
mod exhaustive;
mod faults;
mod invariants;
mod lease;
mod meetings;
mod model;
mod mutations;
mod observe;
mod one_writer;
mod operator;
mod random;
mod run;
mod world;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use event::Scenario;
use multimaster::decide::decide;
use world::Flaws;

/// What a run covered is said also where all went well, when the test harness swallows what is printed.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Seeds of an ordinary test run.
const SEEDS: u64 = 2000;
const THREADS: u64 = 2;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[derive(Default)]
struct Totals {
    run: u64,
    coverage: HashSet<u64>,
    passes: u64,
    transactions: usize,
    tainted: u64,
    open: BTreeMap<&'static str, Vec<u64>>,
    steps: BTreeMap<String, u64>,
    failed: Vec<(u64, String)>,
}

#[test]
fn every_seed_keeps_the_invariants() {
    let (from, seeds) = (variable("FROM").unwrap_or(0), variable("SEEDS").unwrap_or(SEEDS));
    let most_seconds = variable("WITHIN").unwrap_or(u64::MAX);
    let most = variable("FAILURES").unwrap_or(1);
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let totals = Mutex::new(Totals::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || began.elapsed().as_secs() >= most_seconds {
                        return;
                    }
                    let outcome = run::run(&Scenario::from_seed(seed), decide, Flaws::default(), false);
                    let mut totals = totals.lock().unwrap();
                    totals.run += 1;
                    totals.coverage.extend(outcome.coverage);
                    totals.passes += outcome.passes;
                    totals.transactions += outcome.transactions;
                    totals.tainted += u64::from(outcome.tainted);
                    if let Some(why) = outcome.open {
                        totals.open.entry(why).or_default().push(seed);
                    }
                    for (step, times) in outcome.steps {
                        *totals.steps.entry(step).or_default() += times;
                    }
                    if let Some(failure) = outcome.failure {
                        totals
                            .failed
                            .push((seed, format!("{:?}: {}", failure.invariant, failure.text)));
                        if u64::try_from(totals.failed.len()).unwrap() >= most {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (totals, seconds) = (totals.into_inner().unwrap(), began.elapsed().as_secs_f64());
    let run = totals.run;
    say(&format!(
        "seeds {from} to {}: {run} in {seconds:.1} s, {:.0} a second; {} decisions in {} distinct states, {} transactions; {} runs tainted, ended open {:?}; steps {:?}",
        from + run,
        f64::from(u32::try_from(run).unwrap()) / seconds,
        totals.passes,
        totals.coverage.len(),
        totals.transactions,
        totals.tainted,
        totals.open,
        totals.steps,
    ));
    for (seed, text) in &totals.failed {
        println!("seed {seed}: {text}");
    }
    if let Some((seed, _)) = totals.failed.first() {
        panic!("{}", explain(*seed));
    }
}

/// `SEED=n cargo test --test simulation -- replay --nocapture`: one seed and all that happens in it.
#[test]
fn replay() {
    let Some(seed) = variable("SEED") else { return };
    let scenario = Scenario::from_seed(seed);
    let outcome = run::run(&scenario, decide, Flaws::default(), true);
    println!("{:?}", scenario.setup);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    if outcome.failure.is_some() {
        panic!("{}", explain(seed));
    }
}

/// What fails, and the trace of the smallest history in which it does.
fn explain(seed: u64) -> String {
    let scenario = Scenario::from_seed(seed);
    let Some(failure) = run::run(&scenario, decide, Flaws::default(), false).failure else {
        return format!("seed {seed} does not fail again");
    };
    let smallest = run::shrink(&scenario, &failure, decide, Flaws::default());
    let outcome = run::run(&smallest, decide, Flaws::default(), true);
    format!(
        "seed {seed} breaks {:?}: {}\n{:?}\nsmallest history, {} of {} events:\n{}\nSEED={seed} make simulate",
        failure.invariant,
        failure.text,
        scenario.setup,
        smallest.events.len(),
        scenario.events.len(),
        outcome.trace.join("\n"),
    )
}
