//! The model is held against real servers: the same operations on both, the same GTID sets, rows, threads and errors after each.
//!
//! Needs `MYSQL_ROOT`, as `tests/agent.rs`: `MYSQL_ROOT=... cargo test --test simulation -- --ignored`.

mod both;
mod chance;
// Shared with the tests of the agent, which use more of it.
#[allow(dead_code)]
#[path = "../../agent/harness.rs"]
mod harness;
mod modelled;
mod operation;
mod real;

use both::Both;
use operation::Operation::{self, *};

use crate::random::Random;
use crate::variable;

/// Operations of a history by chance.
const OPERATIONS: usize = 30;

/// A ring of three that takes writes.
const RING: [Operation; 9] = [
    Found(0),
    Found(1),
    Found(2),
    Attach(0, 2),
    Attach(1, 0),
    Attach(2, 1),
    Open(0),
    Open(1),
    Open(2),
];

/// What is written anywhere goes around once; what is lost to a crash is fetched again; auto-increment values are those of the model.
const ROUND: [Operation; 8] = [
    Insert(0),
    Insert(1),
    Insert(2),
    Put(0, 1),
    Insert(0),
    Kill(1),
    Open(1),
    Insert(1),
];

/// Relay logs that wait survive kill -9; a second channel applies while the first waits, and goes only when nothing waits in it.
const SECOND_CHANNEL: [Operation; 12] = [
    StopAppliers(2),
    Insert(0),
    Insert(1),
    Attach(2, 0),
    Insert(0),
    Insert(1),
    StopAppliers(2),
    Insert(1),
    Detach(2, 1),
    Start(2, 1),
    Start(2, 0),
    Detach(2, 0),
];

/// `CHANGE REPLICATION SOURCE` deletes the relay logs of a stopped applier; with a running one they stay.
const POINTED_ANEW: [Operation; 9] = [
    PointAnew(1, 0),
    StopAppliers(1),
    Insert(0),
    StopReceiver(1, 0),
    PointAnew(1, 0),
    Start(1, 0),
    StopReceiver(1, 0),
    PointAnew(1, 0),
    Start(1, 0),
];

/// The same key on two members: both appliers stop with 1062, and what is behind them waits.
const CONFLICT: [Operation; 8] = [
    StopAppliers(0),
    StopAppliers(1),
    Put(0, 7),
    Put(1, 7),
    Start(0, 2),
    Start(1, 0),
    Insert(0),
    Insert(1),
];

/// A ring of two.
const PAIR: [Operation; 6] = [Found(0), Found(1), Attach(0, 1), Attach(1, 0), Open(0), Open(1)];

/// The disk of a member goes back in time.
const SET_BACK: [Operation; 11] = [
    Insert(0),
    Insert(1),
    Down(0),
    Copy(0),
    Up(0),
    Open(0),
    Insert(0),
    Insert(0),
    Down(0),
    SetBack(0),
    Up(0),
];

/// What was lost flows back with a new UUID and a new server_id, and with nothing less.
const LIVES: [Operation; 8] = [
    Down(0),
    NewUuidOnly(0),
    Up(0),
    Start(1, 0),
    NewLife(0),
    Open(0),
    Insert(0),
    Insert(1),
];

/// Written to at once it uses GTIDs again: the downstream refuses it, and once it has written as many as it lost, they are skipped without a word.
const REUSED: [Operation; 9] = [
    Down(0),
    SetBack(0),
    Up(0),
    Open(0),
    Insert(0),
    Start(1, 0),
    Insert(0),
    Start(1, 0),
    Insert(0),
];

/// A member is away while its upstream purges; it is emptied and cloned, and is then itself an upstream that has nothing old.
const PURGED: [Operation; 20] = [
    Insert(0),
    Insert(2),
    Down(1),
    Insert(0),
    Purge(0),
    Up(1),
    Reclone(1),
    Clone(1, 2),
    Attach(1, 0),
    Open(1),
    Insert(1),
    Down(2),
    Insert(0),
    Fence(1),
    Reclone(1),
    Clone(1, 0),
    Up(2),
    Attach(2, 0),
    Start(2, 1),
    Insert(0),
];

async fn agree(number: u8, members: u8, parts: &[&[Operation]]) {
    let Some(mut both) = Both::new(number, members).await else {
        return;
    };
    for part in parts {
        both.perform(part).await;
    }
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_ring_its_channels_and_conflicts() {
    agree(11, 3, &[&RING, &ROUND, &SECOND_CHANNEL, &POINTED_ANEW, &CONFLICT]).await;
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_disk_that_went_back_in_time() {
    agree(12, 2, &[&PAIR, &SET_BACK, &LIVES, &REUSED]).await;
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn purged_binary_logs_and_clones() {
    agree(13, 3, &[&RING, &PURGED]).await;
}

/// `SEED=n` is another history.
#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_history_by_chance() {
    let Some(mut both) = Both::new(14, 3).await else { return };
    both.perform(&RING).await;
    let mut random = Random::new(variable("SEED").unwrap_or(0));
    for _ in 0..OPERATIONS {
        let operation = chance::next(&mut random, both.world());
        both.perform(&[operation]).await;
    }
}
