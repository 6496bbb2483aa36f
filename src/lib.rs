//! A Kubernetes operator that joins MySQL servers in circular replication, so that every one takes writes, and keeps them joined.
//!
//! ```text
//! watch ─► observe ─► decide ─► act ─► status
//!          (reads)    (pure)    (writes)
//! ```
//!
//! Pure, without a connection to anything:
//! - [`api`]: the `MultiMasterCluster` resource, its status, conditions and reasons.
//! - [`wire`]: what the processes say to each other.
//! - [`mysql`]: GTID sets, quoting, settings, rows.
//! - [`resources`]: Kubernetes objects of a cluster, and what a resource may not say.
//! - [`decide`]: what should be done about what was observed.
//!
//! Processes:
//! - [`operator`]: watches clusters, observes, acts, writes status.
//! - [`agent`]: process 1 beside mysqld in every member's pod.
//! - [`balancer`]: process 1 beside HAProxy.
//!
//! [`names`], [`args`], [`logging`]: names that people rely on, the command line, logs. Connections live in [`mysql::io`] and [`wire::io`].
//!
//! `docs/architecture.md` is the map, `docs/ring.md` the specification; the words used here are defined there.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod agent;
pub mod api;
pub mod args;
pub mod balancer;
pub mod decide;
pub mod logging;
pub mod mysql;
pub mod names;
pub mod operator;
pub mod resources;
pub mod wire;
