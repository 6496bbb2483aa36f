//! What is MySQL's own: GTID sets, connections, statements.

pub mod connection;
pub mod gtid;
pub mod owned_settings;
pub mod quote;
pub mod statements;
