//! The operator's process: it observes clusters, decides with [`crate::decide`], and carries the decisions out.
//!
//! - [`leader`]: leader election, in a thread of its own.
//! - [`controller`]: watches; calls [`reconcile`] for every cluster, every second and on every change.
//! - [`reconcile`]: one pass: [`observe`], decide, write status ([`status_write`]), [`act`].
//! - [`guard`]: the end of a pass that does not end by itself.
//! - [`beside`]: events, and objects that are applied, beside the passes.  [`turns`]: how many at a time.
//! - [`keeper`]: small tasks beside the passes.  [`writer_lease`]: what it renews.
//! - [`compare`]: compares what members hold, beside the passes.
//! - [`watched`]: reads what a watch delivers, each resource by itself.
//! - [`web`]: who served whom, as JSON beside the metrics.
//! - [`conflict_table`]: the records in `multimaster.conflicts`.
//! - [`shared`], [`members`], [`kubernetes`]: what passes share: caches, clients, deadlines.
//! - [`liveness`]: what probes ask.  [`telemetry`]: metrics.

pub mod act;
pub mod beside;
pub mod compare;
pub mod conflict_table;
pub mod controller;
pub mod guard;
pub mod keeper;
pub mod kubernetes;
pub mod leader;
pub mod liveness;
pub mod members;
pub mod observe;
pub mod reconcile;
pub mod shared;
pub mod status_write;
pub mod telemetry;
pub mod turns;
pub mod watched;
pub mod web;
pub mod writer_lease;
