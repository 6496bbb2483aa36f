//! MySQL with a connection; every wait has a deadline.

pub mod binlog;
pub mod connection;
pub mod hearing;
pub mod statements;
pub mod table;
