//! A Kubernetes operator that joins MySQL servers in circular replication, so that every one takes writes, and keeps them joined.
//!
//! ```text
//! watch ─► observe ─► decide ─► act ─► status
//!          (reads)    (pure)    (writes)
//! ```
//!
//! - [`api`]: the `MultiMasterCluster` resource, its status, conditions and reasons.
//! - [`controller`]: watches, leader election; calls [`reconcile`] for every cluster, every second and on every change.
//! - [`reconcile`]: one pass through the three below.
//! - [`lookout`]: looks at HAProxy's pods between passes.
//! - [`observe`]: reads Kubernetes and members.
//! - [`decide`]: what should be done about what was seen. Pure: no client, no clock.
//! - [`act`]: writes to Kubernetes and members.
//! - [`compare`]: compares what members hold, beside the passes.
//! - [`history`]: who served whom, served as JSON beside the metrics.
//! - [`context`], [`members`], [`kubernetes`]: clients that passes share, and deadlines.
//! - [`mysql`]: GTID sets, connections, statements.
//! - [`agent`]: what runs as process 1 beside mysqld in every member's pod; [`balancer`]: the same beside HAProxy; [`ports`]: theirs.
//! - [`conflict_table`]: `multimaster.conflicts`, where conflicts are recorded in MySQL itself.
//! - [`names`], [`telemetry`], [`args`]: names that people rely on, logs and metrics, the command line.
//!
//! The words used here are defined in `docs/ring.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod act;
pub mod agent;
pub mod api;
pub mod args;
pub mod balancer;
pub mod compare;
pub mod conflict_table;
pub mod context;
pub mod controller;
pub mod decide;
pub mod history;
pub mod kubernetes;
pub mod lookout;
pub mod members;
pub mod mysql;
pub mod names;
pub mod observe;
pub mod ports;
pub mod reconcile;
pub mod telemetry;
