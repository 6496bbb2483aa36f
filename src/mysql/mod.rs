//! What is MySQL's own: GTID sets, connections, statements.

pub mod binlog;
pub mod connection;
pub mod gtid;
pub mod hearing;
pub mod owned_settings;
pub mod quote;
pub mod rows;
pub mod statements;
