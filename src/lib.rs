//! A Kubernetes operator that joins MySQL servers in circular replication, so that every one takes writes, and keeps them joined.
//!
//! ```text
//! watch ─► observe ─► decide ─► act ─► status
//!          (reads)    (pure)    (writes)
//! ```
//!
//! - [`api`]: the `MultiMasterCluster` resource, its status, conditions and reasons.
//! - [`decide`]: what should be done about what was seen. Pure: no client, no clock.
//! - [`mysql`]: GTID sets.
//! - [`agent`]: what runs as process 1 beside mysqld in every member's pod.
//! - [`args`]: the command line of both roles.
//! - [`names`]: names that people and other parts rely on.
//!
//! The words used here are defined in `docs/ring.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod agent;
pub mod api;
pub mod args;
pub mod decide;
pub mod mysql;
pub mod names;
