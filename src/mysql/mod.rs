//! What is MySQL's own: GTID sets, statements, connections.

pub mod owned_settings;
pub mod quote;
