//! The operator's process: it observes clusters, decides with [`crate::decide`], and carries the decisions out.
//!
//! - [`controller`]: watches and leader election; calls [`reconcile`] for every cluster, every second and on every change.
//! - [`reconcile`]: one pass: [`observe`], decide, write status, [`act`].
//! - [`keeper`]: small tasks beside the passes.
//! - [`compare`]: compares what members hold, beside the passes.
//! - [`web`]: who served whom, as JSON beside the metrics.
//! - [`conflict_table`]: the records in `multimaster.conflicts`.
//! - [`shared`], [`members`], [`kubernetes`]: what passes share: caches, clients, deadlines.
//! - [`telemetry`]: metrics and health.

pub mod act;
pub mod compare;
pub mod conflict_table;
pub mod controller;
pub mod keeper;
pub mod kubernetes;
pub mod members;
pub mod observe;
pub mod reconcile;
pub mod shared;
pub mod telemetry;
pub mod web;
